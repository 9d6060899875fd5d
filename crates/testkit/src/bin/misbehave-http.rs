//! Runs the fake HTTP server by itself: `misbehave-http [PORT] [SCRIPT-AS-JSON]`. Prints its URL and serves until
//! standard input closes, so that it never outlives its parent.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use mainstay_testkit::http_server::{HttpServer, Script};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments
        .next()
        .map(|port| port.parse())
        .transpose()?
        .unwrap_or(0);
    let script = match arguments.next() {
        Some(json) => serde_json::from_str(&json)?,
        None => Script::default(),
    };
    let mut server =
        HttpServer::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), script).await?;
    let mut stdout = tokio::io::stdout();
    stdout
        .write_all(format!("{}\n", server.url()).as_bytes())
        .await?;
    stdout.flush().await?;
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 1024];
    while stdin.read(&mut ignored).await? > 0 {}
    server.stop().await;
    Ok(())
}
