//! Where a call comes from: who made it, through which door, and in the course of which trace.

use std::sync::Arc;

use super::NAME_CHARS_MAX;
use crate::principal::Principal;

/// Bytes of `tracestate` that are taken on at most, as the specification has it.
const STATE_BYTES_MAX: usize = 512;

/// Entries of `tracestate` at most.
const STATE_ENTRIES_MAX: usize = 32;

/// Where a call comes from. Told with [`CallOptions::origin`](crate::CallOptions::origin); decides nothing.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who calls, as `name/version`; see [`Origin::client_name`].
    pub client: Option<Arc<str>>,
    /// On whose behalf. For operators: no other principal may see it.
    pub principal: Option<Principal>,
    /// Through which door: the path of an endpoint (`/mcp`), `admin`, `library`; `gateway` for what the gateway asks of itself.
    pub endpoint: Arc<str>,
    /// The trace that the call is part of.
    pub trace: Option<TraceContext>,
    /// What the server is told of the trace, where that is not the same: the caller made a span of its own for the call.
    pub onward: Option<TraceContext>,
    /// The span that the caller made for the whole of what it does about the call, if it made one: 16 hexadecimal digits.
    pub span: Option<Box<str>>,
}

impl Origin {
    /// A call through that door, of nobody in particular.
    #[must_use]
    pub fn new(endpoint: impl Into<Arc<str>>) -> Self {
        Self {
            client: None,
            principal: None,
            endpoint: endpoint.into(),
            trace: None,
            onward: None,
            span: None,
        }
    }

    /// What the server is told of the trace.
    pub(crate) fn told(&self) -> Option<&TraceContext> {
        self.onward.as_ref().or(self.trace.as_ref())
    }

    /// How a client is called in records, from the info object that it declared (`{"name":..,"version":..}`). Bounded, and
    /// without control characters. `None` if it has no name.
    #[must_use]
    pub fn client_name(info: &str) -> Option<Arc<str>> {
        let name = mainstay_wire::raw::string_member(info, &["name"])?;
        let version = mainstay_wire::raw::string_member(info, &["version"]).unwrap_or_default();
        let separator = if version.is_empty() { "" } else { "/" };
        let whole = format!("{}{separator}{}", shown(&name), shown(&version));
        (!name.is_empty()).then(|| whole.into())
    }
}

/// A name as records show it.
pub(super) fn shown(name: &str) -> String {
    let mut shown: String = name
        .chars()
        .take(NAME_CHARS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The position of a call in a distributed trace (W3C Trace Context).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: Box<str>,
    parent_id: Box<str>,
    flags: u8,
    state: Option<Box<str>>,
}

impl TraceContext {
    /// Reads `traceparent` and, if there is one, `tracestate`. Strictly: a `traceparent` that breaks any rule is none, and
    /// so is a `tracestate`, which does not harm its `traceparent`.
    #[must_use]
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
        // All of it is checked to be ASCII before it is cut.
        if !traceparent.is_ascii() || traceparent.len() < 55 {
            return None;
        }
        let (known, rest) = traceparent.split_at(55);
        let mut parts = known.split('-');
        let (version, trace, parent, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let shaped = version.len() == 2 && trace.len() == 32 && parent.len() == 16;
        let whole = [version, trace, parent, flags];
        if !shaped || parts.next().is_some() || !whole.into_iter().all(is_hex) {
            return None;
        }
        // A later version may have more members, this one has none.
        let fits = match version {
            "ff" => false,
            "00" => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        if !fits || is_zero(trace) || is_zero(parent) {
            return None;
        }
        Some(Self {
            trace_id: trace.into(),
            parent_id: parent.into(),
            flags: u8::from_str_radix(flags, 16).ok()?,
            state: tracestate.filter(|state| is_state(state)).map(Into::into),
        })
    }

    /// The context in the words of its own specification.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }

    /// The beginning of a new trace, whose first span is `parent_id`. `None` if these are no ids.
    #[must_use]
    pub fn begin(trace_id: &str, parent_id: &str) -> Option<Self> {
        Self::parse(&format!("00-{trace_id}-{parent_id}-01"), None)
    }

    /// The same trace, seen from below: what comes next has `span_id` (16 hexadecimal digits) as its parent. `None` if that
    /// is no id of a span.
    #[must_use]
    pub fn child(&self, span_id: &str, sampled: bool) -> Option<Self> {
        let flags = u8::from(sampled);
        let text = format!("00-{}-{span_id}-{flags:02x}", self.trace_id);
        let state = self.state.clone();
        Self::parse(&text, None).map(|context| Self { state, ..context })
    }

    /// The trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// The caller's span: 16 hexadecimal digits.
    #[must_use]
    pub fn parent_id(&self) -> &str {
        &self.parent_id
    }

    /// The flags as they came; see [`TraceContext::is_sampled`].
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the caller records its part of the trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// What vendors carry along, as it came.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// Whether a text is a list of `key=value`, each key once.
fn is_state(state: &str) -> bool {
    if state.len() > STATE_BYTES_MAX {
        return false;
    }
    let mut keys: Vec<&str> = Vec::new();
    for entry in state
        .split(',')
        .map(|entry| entry.trim_matches([' ', '\t']))
    {
        // Empty entries are allowed.
        if entry.is_empty() {
            continue;
        }
        let Some((key, value)) = entry.split_once('=') else {
            return false;
        };
        if !is_key(key) || !is_value(value) || keys.contains(&key) {
            return false;
        }
        keys.push(key);
    }
    !keys.is_empty() && keys.len() <= STATE_ENTRIES_MAX
}

fn is_key(key: &str) -> bool {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let is_part = |part: &str, max: usize, digit: bool| {
        let first = part.bytes().next();
        let begins = first.is_some_and(|b| b.is_ascii_lowercase() || (digit && b.is_ascii_digit()));
        begins && part.len() <= max && part.bytes().all(plain)
    };
    match key.split_once('@') {
        Some((tenant, system)) => is_part(tenant, 241, true) && is_part(system, 14, false),
        None => is_part(key, 256, true),
    }
}

fn is_value(value: &str) -> bool {
    let fits = |b: u8| matches!(b, b' '..=b'~') && b != b',' && b != b'=';
    !value.is_empty() && value.len() <= 256 && !value.ends_with(' ') && value.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_context_is_read_strictly() {
        let read = TraceContext::parse(GOOD, Some("vendor=a1, tenant@sys=b")).unwrap();
        assert_eq!(read.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(read.parent_id(), "00f067aa0ba902b7");
        assert!(read.is_sampled());
        assert_eq!(read.state(), Some("vendor=a1, tenant@sys=b"));
        let later = GOOD.replacen("00", "cc", 1);
        assert!(TraceContext::parse(&later, None).is_some());
        assert!(TraceContext::parse(&format!("{later}-more"), None).is_some());
        for bad in [
            "",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("{later}more"),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace("-01", "+01"),
            &GOOD.replace("4bf92f", "4bf92é"),
        ] {
            assert_eq!(TraceContext::parse(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn a_broken_trace_state_does_not_harm_the_trace() {
        for bad in [
            "",
            "novalue",
            "a=1,a=2",
            "Upper=1",
            "a=b=c",
            "a=\u{e9}",
            &"x".repeat(600),
            &(0..33).map(|n| format!("k{n}=1,")).collect::<String>(),
        ] {
            let read = TraceContext::parse(GOOD, Some(bad)).unwrap();
            assert_eq!(read.state(), None, "{bad}");
        }
    }

    #[test]
    fn a_client_is_called_by_what_it_declared_within_bounds() {
        let name = |info: &str| Origin::client_name(info).map(|name| name.to_string());
        assert_eq!(
            name(r#"{"name":"app","version":"1.2"}"#).as_deref(),
            Some("app/1.2")
        );
        assert_eq!(name(r#"{"name":"app"}"#).as_deref(), Some("app"));
        assert_eq!(name(r#"{"version":"1"}"#), None);
        let long = format!(r#"{{"name":"{}\u0007"}}"#, "é".repeat(500));
        assert_eq!(name(&long).unwrap().chars().count(), NAME_CHARS_MAX + 1);
        assert_eq!(
            name(r#"{"name":"a\u001bb"}"#).as_deref(),
            Some("a\u{fffd}b")
        );
    }
}
