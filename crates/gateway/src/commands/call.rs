//! `mainstay call`: one tool call, its answer, and an exit code that says how it ended.

use std::io::Read;
use std::time::Duration;

use mainstay::{CallError, CallOptions, Request};
use serde_json::{Value, json};

use super::client::{AdminClient, Reply, segment};
use super::progress::Progress;
use super::{describe, local, paths};
use crate::cli::output::{Output, draw_progress};
use crate::cli::{CallArgs, Reach};
use crate::exit::{Exit, Stop};

/// Arguments longer than this belong into a file of the server's, not on a command line.
const ARGUMENTS_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What the way to the running Mainstay may take beyond the call itself.
const WAY: Duration = Duration::from_secs(5);

/// Makes the call: through the running Mainstay if there is one, else in this process.
///
/// # Errors
/// Exit codes 20 to 24 say how the call ended; see there.
pub(crate) async fn run(args: CallArgs, output: Output) -> Result<Exit, Stop> {
    let arguments = arguments(args.arguments.as_deref())?;
    let wait = Duration::from_secs(args.reach.timeout);
    let ended = match running(&args.reach).await? {
        Some(client) => {
            draw_progress();
            // A call waits while its server starts.
            let progress = Progress::of_remote(&client, &args.server, output);
            let ended = remote(&client, &args, arguments, wait).await;
            progress.end().await;
            let ended = ended?;
            if ended.is_failure() {
                explain(&client, &args).await?;
            }
            ended
        }
        None => in_process(&args, arguments, wait, output).await?,
    };
    show(&args, &ended, output)
}

/// How a call ended with words of the server.
enum Ended {
    /// The raw result.
    Result(Value),
    /// The raw JSON-RPC error.
    Error(Value),
}

impl Ended {
    fn is_failure(&self) -> bool {
        match self {
            Self::Result(result) => result["isError"] == true,
            Self::Error(_) => true,
        }
    }
}

/// A call that failed may have failed because there is no such tool; servers say that in many ways.
///
/// # Errors
/// Exit 6 when the server's last listing does not have the tool.
async fn explain(client: &AdminClient, args: &CallArgs) -> Result<(), Stop> {
    let about = client
        .get(&format!("/api/v1/servers/{}", segment(&args.server)))
        .await?
        .ok()?;
    let Some(tools) = about["catalog"]["tools"].as_array() else {
        return Ok(());
    };
    let known = tools.iter().filter_map(Value::as_str);
    if known.clone().any(|tool| tool == args.tool) {
        Ok(())
    } else {
        Err(no_tool(args, known))
    }
}

fn no_tool<'a>(args: &CallArgs, known: impl Iterator<Item = &'a str>) -> Stop {
    local::not_found(
        &format!("tool of server `{}`", args.server),
        &args.tool,
        known,
    )
}

/// The running Mainstay, unless a configuration was named or nobody is there and the socket was not asked for.
///
/// # Errors
/// Exit 5 when a socket was named and nobody listens there.
pub(super) async fn running(reach: &Reach) -> Result<Option<AdminClient>, Stop> {
    if reach.config.is_some() {
        return Ok(None);
    }
    let client = AdminClient::new(paths::socket(reach.socket.as_deref())?);
    // With a socket named, the request itself says best what is wrong with it.
    Ok((reach.socket.is_some() || client.is_running().await).then_some(client))
}

async fn remote(
    client: &AdminClient,
    args: &CallArgs,
    arguments: Option<Value>,
    wait: Duration,
) -> Result<Ended, Stop> {
    let path = format!("/api/v1/servers/{}/call", segment(&args.server));
    let mut body = json!({ "tool": args.tool, "timeoutMs": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) });
    if let Some(arguments) = arguments {
        body["arguments"] = arguments;
    }
    ended(client.post(&path, Some(body), wait + WAY).await?)
}

/// Reads the running Mainstay's answer to a call.
fn ended(reply: Reply) -> Result<Ended, Stop> {
    let body = &reply.body;
    let exit = match body["outcome"]
        .as_str()
        .or_else(|| body["error"]["data"]["outcome"].as_str())
    {
        Some("refused") => Exit::CallRefused,
        Some("rejected") => Exit::CallRejected,
        Some("unknown") => Exit::CallUnknown,
        Some(_) | None => {
            if let Some(result) = body.get("result") {
                return Ok(Ended::Result(result.clone()));
            }
            if reply.status.is_success() && body.get("error").is_some() {
                return Ok(Ended::Error(body["error"].clone()));
            }
            return Err(reply.refusal());
        }
    };
    let mut stop = reply.refusal();
    stop.exit = exit;
    let data = &body["error"]["data"];
    if stop.hint.is_none() {
        stop.hint = data["hint"].as_str().map(str::to_owned);
    }
    // Told already, and better, in the message itself.
    if stop
        .hint
        .as_deref()
        .is_some_and(|hint| stop.message.contains(hint))
        || data["cause"]["kind"]
            .as_str()
            .is_some_and(describe::says_remedy)
    {
        stop.hint = None;
    }
    Err(advised(stop))
}

async fn in_process(
    args: &CallArgs,
    arguments: Option<Value>,
    wait: Duration,
    output: Output,
) -> Result<Ended, Stop> {
    let config = local::load(args.reach.config.as_deref(), Some(&args.server), output)?;
    local::with_manager(config, output, async |manager| {
        let began = tokio::time::Instant::now();
        let status = local::settled(&manager, &args.server, wait).await;
        let status = status.ok_or_else(|| local::no_server(&args.server, std::iter::empty()))?;
        if status.state != "connected" {
            return Err(local::why_down(&status, wait));
        }
        let handle = manager
            .server(&args.server)
            .ok_or_else(|| local::no_server(&args.server, std::iter::empty()))?;
        if let Some(catalog) = handle.catalog()
            && !catalog
                .tools
                .items
                .iter()
                .any(|item| item.name == args.tool)
        {
            let known = catalog.tools.items.iter().map(|item| item.name.as_str());
            return Err(no_tool(args, known));
        }
        let mut params = json!({ "name": args.tool });
        if let Some(arguments) = arguments {
            params["arguments"] = arguments;
        }
        let left = wait.saturating_sub(began.elapsed());
        let options = CallOptions {
            total: Some(left),
            ..CallOptions::default()
        };
        let request = Request::new("tools/call", Some(&params.to_string()));
        let answer = handle
            .request(request, options)
            .await
            .map_err(|error| not_answered(&error))?;
        let parse = |raw: &str| {
            serde_json::from_str(raw)
                .map_err(|error| Stop::unexpected("the server's answer is not JSON", error))
        };
        match (answer.result(), answer.error()) {
            (Some(result), _) => Ok(Ended::Result(parse(result)?)),
            (None, error) => Ok(Ended::Error(parse(error.unwrap_or("null"))?)),
        }
    })
    .await
}

/// Law 16: which of the three it was decides whether repeating is safe.
fn not_answered(error: &CallError) -> Stop {
    let exit = match error {
        CallError::Refused(_) => Exit::CallRefused,
        CallError::Rejected(_) => Exit::CallRejected,
        CallError::Unknown(_) => Exit::CallUnknown,
    };
    advised(Stop::new(exit, error.to_string()))
}

/// Adds what to do about an unanswered call, unless something better is known.
fn advised(mut stop: Stop) -> Stop {
    if let Some(hint) = stop.hint.take() {
        // Whatever broke: what may have run must not be run again blindly (law 16).
        let hint = if stop.exit == Exit::CallUnknown {
            format!("look at the tool's effect before you repeat the call; {hint}")
        } else {
            hint
        };
        return stop.hint(hint);
    }
    let advice = [
        (
            Exit::CallRefused,
            "it is safe to repeat the call once that is out of the way",
        ),
        (Exit::CallRejected, "it is safe to repeat the call"),
        (
            Exit::CallUnknown,
            "look at the tool's effect before you repeat the call",
        ),
    ];
    match advice.into_iter().find(|(exit, _)| *exit == stop.exit) {
        Some((_, advice)) => stop.hint(advice),
        None => stop,
    }
}

/// Prints the answer: the data on stdout, the verdict in the exit code.
fn show(args: &CallArgs, ended: &Ended, output: Output) -> Result<Exit, Stop> {
    match ended {
        Ended::Result(result) => {
            if args.json {
                output.json(result)?
            } else {
                output.raw(&text_of(result))?
            }
            if result["isError"] == true {
                if !args.json {
                    output.note(&format!(
                        "the tool `{}` of server `{}` reported this error",
                        args.tool, args.server
                    ));
                }
                return Ok(Exit::ToolError);
            }
            Ok(Exit::Ok)
        }
        Ended::Error(error) => {
            let message = error["message"].as_str().unwrap_or("without a message");
            let code = error["code"].as_i64().unwrap_or_default();
            Err(Stop::new(
                Exit::ServerError,
                format!(
                    "server `{}` answered with error {code}: {message}",
                    args.server
                ),
            ))
        }
    }
}

/// A result for people: texts as they are, everything else as JSON, each on lines of its own.
fn text_of(result: &Value) -> String {
    let blocks = result["content"].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    for block in blocks {
        match (block["type"].as_str(), block["text"].as_str()) {
            (Some("text"), Some(words)) => text.push_str(words),
            _other_kind => text.push_str(&block.to_string()),
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    // Some servers answer with structure alone.
    if blocks.is_empty() {
        text = format!("{}\n", result.get("structuredContent").unwrap_or(result));
    }
    text
}

/// The arguments: a JSON object from the command line or from stdin.
fn arguments(told: Option<&str>) -> Result<Option<Value>, Stop> {
    let (text, place) = match told {
        None => return Ok(None),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(ARGUMENTS_BYTES_MAX)
                .read_to_string(&mut text)
                .map_err(|error| Stop::unexpected("cannot read the arguments from stdin", error))?;
            (text, "stdin")
        }
        Some(text) => (text.to_owned(), "the command line"),
    };
    let wrong = |why: String| {
        Stop::new(Exit::Usage, format!("the arguments on {place} are {why}"))
            .hint("pass one JSON object in single quotes, for example '{\"timezone\":\"UTC\"}', or - to read it from stdin")
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(Some(Value::Object(object))),
        Ok(_) => Err(wrong("JSON, but no object".to_owned())),
        Err(error) => Err(wrong(format!("no JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn arguments_are_one_object() {
        assert_eq!(arguments(None).unwrap(), None);
        assert_eq!(
            arguments(Some("{\"a\":1}")).unwrap(),
            Some(json!({ "a": 1 }))
        );
        for wrong in ["[1]", "{\"a\":", "timezone=UTC", "\"text\""] {
            let stop = arguments(Some(wrong)).unwrap_err();
            assert_eq!(stop.exit, Exit::Usage, "{wrong}");
            assert!(stop.hint.unwrap().contains("single quotes"), "{wrong}");
        }
    }

    #[test]
    fn results_are_readable() {
        let two = json!({ "content": [{ "type": "text", "text": "a\nb" }, { "type": "image", "data": "AA==" }] });
        assert_eq!(
            text_of(&two),
            "a\nb\n{\"data\":\"AA==\",\"type\":\"image\"}\n"
        );
        assert_eq!(
            text_of(&json!({ "structuredContent": { "x": 1 } })),
            "{\"x\":1}\n"
        );
    }

    #[test]
    fn law_16_each_outcome_has_its_exit_code() {
        for (outcome, exit) in [
            ("refused", Exit::CallRefused),
            ("rejected", Exit::CallRejected),
            ("unknown", Exit::CallUnknown),
        ] {
            let body =
                json!({ "error": { "message": "m", "data": { "outcome": outcome, "hint": "h" } } });
            let Err(stop) = ended(Reply {
                status: StatusCode::OK,
                body,
            }) else {
                panic!("{outcome} is no answer")
            };
            assert_eq!((stop.exit, stop.message.as_str()), (exit, "m"));
            let hint = stop.hint.unwrap();
            assert!(hint.ends_with('h'), "{hint}");
            assert_eq!(
                hint.contains("before you repeat"),
                exit == Exit::CallUnknown,
                "{hint}"
            );
        }
    }
}
