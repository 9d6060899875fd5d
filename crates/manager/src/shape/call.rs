//! From what a caller says to what the server understands: the tool's own name, the arguments that the operator gives, how
//! long it may take and whether it may be sent again.

use std::time::Duration;

use mainstay_wire::{method, raw, splice};

use crate::config::{ServerConfig, ToolRetry, Tools};
use crate::error::Refusal;
use crate::request::{CallOptions, Request};

const NAME: &[&str] = &["params", "name"];
const ARGUMENTS: &[&str] = &["params", "arguments"];

/// A call of a tool as the server is to get it.
#[derive(Debug)]
pub(crate) struct ToolCall {
    /// The server's own name of the tool.
    pub(crate) own: Box<str>,
    /// The request, where it is not the caller's own.
    pub(crate) request: Option<Request>,
    /// What the operator says of sending it again.
    pub(crate) retry: Option<ToolRetry>,
}

/// Reads a call as the server is to get it; `None` where the config has nothing to say of it.
///
/// # Errors
/// [`Refusal::NotOffered`]: nothing is shown under that name.
pub(crate) fn tool_call(
    config: &ServerConfig,
    request: &Request,
) -> Result<Option<ToolCall>, Refusal> {
    let tools = &config.tools;
    let says_nothing = tools.shows_all_as_listed() && tools.retry.is_empty();
    if says_nothing || request.method() != method::TOOLS_CALL {
        return Ok(None);
    }
    let Some(shown) = shown_name(request) else {
        return Ok(None);
    };
    let Some(own) = tools.own_name(&shown).filter(|own| tools.allows(own)) else {
        return Err(Refusal::NotOffered {
            server: config.name.as_str().into(),
            tool: shown.into(),
        });
    };
    let renamed = (*own != *shown).then(|| request.clone().set(NAME, splice::json_string(own)));
    Ok(Some(ToolCall {
        request: with_defaults(renamed.as_ref().unwrap_or(request), tools, own).or(renamed),
        retry: tools.retry.matching(own).next().copied(),
        own: own.into(),
    }))
}

/// The options of a call with the limits of its tool, where the caller gives none.
pub(crate) fn with_limits(
    config: &ServerConfig,
    request: &Request,
    options: CallOptions,
) -> CallOptions {
    let timeouts = &config.tools.timeouts;
    if timeouts.is_empty() || request.method() != method::TOOLS_CALL {
        return options;
    }
    let Some(shown) = shown_name(request) else {
        return options;
    };
    let Some(own) = config.tools.own_name(&shown) else {
        return options;
    };
    let idle_ms = timeouts
        .matching(own)
        .find_map(|limits| limits.call_idle_ms);
    let total_ms = timeouts
        .matching(own)
        .find_map(|limits| limits.call_total_ms);
    CallOptions {
        idle: options.idle.or(idle_ms.map(Duration::from_millis)),
        total: options.total.or(total_ms.map(Duration::from_millis)),
        ..options
    }
}

/// The name that the caller gives.
pub(crate) fn shown_name(request: &Request) -> Option<String> {
    raw::string(request.effective_member(NAME)?).map(Into::into)
}

/// The request with the arguments that the operator gives and the caller does not; `None` if there are none. Arguments that
/// are no object are left for the server to refuse.
fn with_defaults(request: &Request, tools: &Tools, own: &str) -> Option<Request> {
    if tools.arguments.is_empty() {
        return None;
    }
    let mut defaults = tools.defaults_of(own);
    let settled;
    let request = if request.has_edits_inside(ARGUMENTS) {
        settled = request.settled()?;
        &settled
    } else {
        request
    };
    let given = request
        .effective_member(ARGUMENTS)
        .map(str::trim)
        .filter(|given| *given != "null")
        .unwrap_or("{}");
    if !raw::is_object(given) {
        return None;
    }
    let members = raw::members(given);
    defaults.retain(|(name, _)| members.iter().all(|(known, _)| known != name));
    if defaults.is_empty() {
        return None;
    }
    // Everything that the caller wrote stays as it was written.
    let mut text = given.strip_suffix('}')?.to_owned();
    for (index, (name, value)) in defaults.iter().enumerate() {
        if index > 0 || !members.is_empty() {
            text.push(',');
        }
        text.push_str(&splice::json_string(name));
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    Some(request.clone().set(ARGUMENTS, text))
}
