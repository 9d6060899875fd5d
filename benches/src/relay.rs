//! The bare relay: two copies per connection and nothing else.

use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

/// Relays for ever.
pub(crate) async fn serve(to: String) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (mut from, _) = listener.accept().await?;
        let to = to.clone();
        tokio::spawn(async move {
            let Ok(mut upstream) = TcpStream::connect(&to).await else {
                return;
            };
            let _ = from.set_nodelay(true);
            let _ = upstream.set_nodelay(true);
            // Either side closing ends the relay of this connection.
            let _ = tokio::io::copy_bidirectional(&mut from, &mut upstream).await;
        });
    }
}
