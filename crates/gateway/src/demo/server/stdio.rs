//! The demo's stdio server: legacy, one line per message, gone when its stdin closes.

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, stdin, stdout};
use tokio_util::codec::{FramedRead, LinesCodec};

use super::{DemoServer, response};
use crate::exit::Stop;

const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Serves until stdin closes.
pub(super) async fn serve(server: DemoServer) -> Result<(), Stop> {
    let mut lines = FramedRead::new(stdin(), LinesCodec::new_with_max_length(LINE_BYTES_MAX));
    let mut out = stdout();
    while let Some(line) = lines.next().await {
        // A line that is too long or not UTF-8 is skipped, as the reader does; so is one that is no JSON.
        let Ok(Ok(message)) = line.map(|line| serde_json::from_str::<Value>(&line)) else {
            continue;
        };
        let Some(answer) = answer(&server, &message) else {
            continue;
        };
        let line = format!("{answer}\n");
        let sent = async {
            out.write_all(line.as_bytes()).await?;
            out.flush().await
        };
        if sent.await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The answer to a request; nothing for notifications and for responses.
fn answer(server: &DemoServer, message: &Value) -> Option<Value> {
    let method = message.get("method")?.as_str()?;
    let id = message.get("id")?;
    let params = &message["params"];
    let outcome = match method {
        "initialize" => Ok(server.initialize(params)),
        "ping" => Ok(json!({})),
        other => server.answer(other, params),
    };
    Some(response(id, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_greets_as_a_legacy_server_and_ignores_notifications() {
        let server = DemoServer::new("demo-stdio", None).unwrap();
        let ask = |method: &str, params: Value| {
            answer(
                &server,
                &json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }),
            )
            .unwrap()
        };
        assert_eq!(
            ask("server/discover", json!({}))["error"]["code"],
            super::super::METHOD_NOT_FOUND
        );
        assert_eq!(
            ask("initialize", json!({ "protocolVersion": "2026-07-28" }))["result"]["protocolVersion"],
            "2025-11-25"
        );
        assert_eq!(
            ask("initialize", json!({ "protocolVersion": "2025-06-18" }))["result"]["protocolVersion"],
            "2025-06-18"
        );
        assert_eq!(ask("ping", json!({}))["id"], 7);
        assert!(
            answer(
                &server,
                &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
            )
            .is_none()
        );
    }
}
