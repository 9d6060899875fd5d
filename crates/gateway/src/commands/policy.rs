//! `mainstay policy`: what the rules decide, and why.

use mainstay_gateway::policy::explain::{Asked, Explained, Question, explain};

use super::config;
use crate::cli::output::Output;
use crate::cli::policy::{ExplainArgs, PolicyAction, PolicyArgs};
use crate::exit::{Exit, Stop};

/// Explains a decision.
///
/// # Errors
/// Exit 4 when there is no configuration, 3 when it is refused, 2 for a claim that is none, 6 for a server that is not in it.
pub(crate) fn run(args: PolicyArgs, output: Output) -> Result<Exit, Stop> {
    match args.action {
        PolicyAction::Explain(args) => explained(args, output),
    }
}

fn explained(args: ExplainArgs, output: Output) -> Result<Exit, Stop> {
    let loaded = config::load(args.config.config.as_deref())?;
    if loaded.config.server(&args.server).is_none() {
        let known = loaded
            .config
            .servers
            .iter()
            .map(|server| server.name.as_str());
        return Err(super::local::no_server(&args.server, known));
    }
    let mut claims = Vec::new();
    for claim in &args.claim {
        let (name, value) = claim.split_once('=').ok_or_else(|| {
            Stop::new(Exit::Usage, format!("`{claim}` is no claim"))
                .hint("write --claim NAME=VALUE")
        })?;
        claims.push((name.to_owned(), value.to_owned()));
    }
    let question = Question {
        token: args.token,
        principal: args.principal,
        groups: args.group,
        claims,
        profile: args.profile,
        what: match (args.tool, args.prompt, args.resource) {
            (Some(tool), _, _) => Asked::Tool(tool),
            (None, Some(prompt), _) => Asked::Prompt(prompt),
            (None, None, Some(uri)) => Asked::Resource(uri),
            (None, None, None) => Asked::Server,
        },
        server: args.server,
    };
    let explained =
        explain(&loaded.config, &question).map_err(|why| Stop::new(Exit::Usage, why))?;
    let Some(explained) = explained else {
        if args.json {
            output.json(&serde_json::Value::Null)?;
        } else {
            output.line("allow: there is no policy (`mainstay.policy`), so everybody sees and calls everything")?;
        }
        return Ok(Exit::Ok);
    };
    if args.json {
        let value = serde_json::to_value(&explained).unwrap_or_default();
        output.json(&value)?;
    } else {
        output.line(&text(&explained))?;
    }
    Ok(Exit::Ok)
}

fn text(explained: &Explained) -> String {
    let mut text = match (explained.seen, explained.action) {
        (false, _) => "deny: it is not there for them".to_owned(),
        (true, "deny") => "some of it can be seen".to_owned(),
        (true, action) => action.to_owned(),
    };
    text.push_str(&match explained.place {
        Some(place) => format!(", by rule {} of the policy ({})", place + 1, explained.rule),
        None => ", by the policy's default, because no rule fits".to_owned(),
    });
    for condition in &explained.conditions {
        text.push_str(&format!("\n  {condition}"));
    }
    for passed in &explained.passed_over {
        text.push_str(&format!("\n  passed over: {passed}"));
    }
    text
}
