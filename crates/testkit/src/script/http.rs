//! Settings of an HTTP server: the members of its script, faults planned for requests, and what happens by itself.

use serde_json::{Map, Value, json};

use super::lines::{self, Line, camel, kebab};
use super::{Action, Problem, Server, Step, When};
use crate::http_server::{AcceptPolicy, Fault, GetPolicy, Planned, Script};

/// Members of the script that have lines of their own.
const PLANS: [&str; 3] = ["plan", "getPlan", "acceptPlan"];
/// The longest list of answers to GET, or to connections, that is planned one by one.
const PLANNED_MAX: u64 = 1_000;

pub(super) fn server(place: &str, lines: &[Line]) -> Result<Server, Problem> {
    let mut script = Script::default();
    let mut steps = Vec::new();
    for line in lines {
        if let Some(request) = line.key.strip_prefix("on ") {
            plan(place, line, request, &mut script)?;
        } else if let Some(when) = line.key.strip_prefix("after ") {
            steps.push(step(place, line, when, false)?);
        } else if let Some(when) = line.key.strip_prefix("every ") {
            steps.push(step(place, line, when, true)?);
        } else {
            script = set(place, line, &script)?;
        }
    }
    Ok(Server::Http {
        script: Box::new(script),
        steps,
    })
}

/// Changes one member, whatever members there are: what a value looks like is decided by the value it replaces.
/// `a.b` is the member `b` of the member `a`.
fn set(place: &str, line: &Line, script: &Script) -> Result<Script, Problem> {
    let mut members = serde_json::to_value(script).unwrap_or_default();
    let pointer: String = line
        .key
        .split('.')
        .map(|word| format!("/{}", camel(word)))
        .collect();
    let is_plan = PLANS.iter().any(|plan| pointer == format!("/{plan}"));
    let Some(member) = members.pointer_mut(&pointer).filter(|_| !is_plan) else {
        return Err(unknown(place, line, &members));
    };
    let value = like(place, line, member)?;
    // A word may be free text or the name of a choice; choices are in camel case behind the scenes.
    let choice = value.as_str().map(|text| json!(camel(text)));
    *member = value;
    let as_written = serde_json::from_value(members.clone());
    let read = match (as_written, choice, members.pointer_mut(&pointer)) {
        (Err(_), Some(choice), Some(member)) => {
            *member = choice;
            serde_json::from_value(members)
        }
        (read, ..) => read,
    };
    read.map_err(|error| {
        line.wrong(
            place,
            format!("`{}` cannot be `{}`", line.key, line.value),
            allowed(&error),
        )
    })
}

/// The member is not there: which are?
fn unknown(place: &str, line: &Line, members: &Value) -> Problem {
    let mut known = Vec::new();
    for (name, value) in members.as_object().into_iter().flatten() {
        // A map of free names has no members before it is filled; a group of settings has.
        match value.as_object().filter(|group| !group.is_empty()) {
            Some(group) => {
                known.extend(
                    group
                        .keys()
                        .map(|inner| format!("{}.{}", kebab(name), kebab(inner))),
                );
            }
            None if PLANS.contains(&name.as_str()) => {}
            None => known.push(kebab(name)),
        }
    }
    let hint = match lines::nearest(&line.key, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "an http script knows {}, and lines with `on`, `after` and `every`",
            known.join(", ")
        ),
    };
    line.wrong(
        place,
        format!("`{}` is no setting of an HTTP server", line.key),
        hint,
    )
}

fn like(place: &str, line: &Line, now: &Value) -> Result<Value, Problem> {
    let text = &line.value;
    Ok(match now {
        Value::Bool(_) => match text.as_str() {
            "yes" => json!(true),
            "no" => json!(false),
            other => {
                return Err(line.wrong(
                    place,
                    format!("`{other}` is neither yes nor no"),
                    "write yes or no",
                ));
            }
        },
        Value::Number(_) => json!(lines::number(place, line, text)?),
        Value::String(_) => json!(text),
        Value::Null => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        Value::Array(_) => json!(text.split_whitespace().collect::<Vec<_>>()),
        Value::Object(_) => Value::Object(pairs(place, line, text, str::to_owned)?),
    })
}

/// What serde would have accepted, in the words of scripts.
fn allowed(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once("expected ") {
        Some((_, expected)) => {
            let words: Vec<String> = expected.split('`').skip(1).step_by(2).map(kebab).collect();
            if words.is_empty() {
                format!("write {expected}")
            } else {
                format!("write one of {}", words.join(", "))
            }
        }
        None => text,
    }
}

fn plan(place: &str, line: &Line, request: &str, script: &mut Script) -> Result<(), Problem> {
    let (request, times) = lines::repeated(place, line, request)?;
    match request {
        "GET" => {
            let policy: GetPolicy = choice(place, line, "answer to GET")?;
            match few(place, line, times)? {
                None => script.get = policy,
                Some(times) => script.get_plan.extend(vec![policy; times]),
            }
        }
        "connect" => {
            let policy: AcceptPolicy = choice(place, line, "way to take a connection")?;
            match few(place, line, times)? {
                None => script.accept = policy,
                Some(times) => script.accept_plan.extend(vec![policy; times]),
            }
        }
        method => script.plan.push_back(Planned {
            method: (method != "any").then(|| method.to_owned()),
            times,
            fault: fault(place, line)?,
        }),
    }
    Ok(())
}

/// The line's value as the name of a choice.
fn choice<T: serde::de::DeserializeOwned>(
    place: &str,
    line: &Line,
    what: &str,
) -> Result<T, Problem> {
    serde_json::from_value(json!(camel(&line.value))).map_err(|error| {
        line.wrong(
            place,
            format!("`{}` is no {what}", line.value),
            allowed(&error),
        )
    })
}

/// A number of entries that fits into a list; `None` stands for always.
fn few(place: &str, line: &Line, times: u64) -> Result<Option<usize>, Problem> {
    match usize::try_from(times) {
        _ if times == u64::MAX => Ok(None),
        Ok(few) if times <= PLANNED_MAX => Ok(Some(few)),
        Ok(_) | Err(_) => Err(line.wrong(
            place,
            format!("{times} times are too many"),
            format!("write at most {PLANNED_MAX}, or `always`"),
        )),
    }
}

/// `NAME` or `NAME MEMBER=VALUE ...`; further members of `status` are headers, and `body=` takes the rest of the line.
fn fault(place: &str, line: &Line) -> Result<Fault, Problem> {
    let (name, rest) = line.value.split_once(' ').unwrap_or((&line.value, ""));
    let variant = camel(name);
    let wrong = |error: &serde_json::Error| {
        line.wrong(
            place,
            format!("`{}` is no fault", line.value),
            allowed(error),
        )
    };
    if rest.is_empty()
        && let Ok(fault) = serde_json::from_value(json!(variant))
    {
        return Ok(fault);
    }
    let (rest, body) = match rest.split_once("body=") {
        Some((rest, body)) => (rest, Some(body)),
        None => (rest, None),
    };
    let mut members = pairs(place, line, rest, |name| name.replace('-', "_"))?;
    if variant == "status" {
        let headers: Vec<Value> = pairs(place, line, rest, str::to_owned)?
            .into_iter()
            .filter(|(name, _)| name != "status")
            .map(|(name, value)| {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                json!([name, text])
            })
            .collect();
        members.retain(|name, _| name == "status");
        members.insert("headers".to_owned(), headers.into());
    }
    if let Some(body) = body {
        members.insert("body".to_owned(), json!(body));
    }
    serde_json::from_value(json!({ (variant): members })).map_err(|error| wrong(&error))
}

/// `NAME=VALUE NAME=VALUE`.
fn pairs(
    place: &str,
    line: &Line,
    text: &str,
    name_of: impl Fn(&str) -> String,
) -> Result<Map<String, Value>, Problem> {
    let pair = |word: &str| {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            line.wrong(
                place,
                format!("`{word}` has no `=`"),
                "write NAME=VALUE, without blanks in it",
            )
        })?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        Ok((name_of(name), value))
    };
    text.split_whitespace().map(pair).collect()
}

fn step(place: &str, line: &Line, when: &str, again: bool) -> Result<Step, Problem> {
    let words: Vec<&str> = when.split_whitespace().collect();
    let number = |word: &str| lines::number(place, line, word);
    let when = match words[..] {
        [count, "calls" | "call"] => When::Calls(number(count)?),
        [count, "ms"] => When::Ms(number(count)?),
        _ => {
            return Err(line.wrong(
                place,
                format!("`{when}` is no moment"),
                "write `after 3 calls:`, `after 500 ms:`, or the same with `every`",
            ));
        }
    };
    if again && matches!(when, When::Calls(0) | When::Ms(0)) {
        return Err(line.wrong(
            place,
            "every zero is for ever at once",
            "write a number above zero",
        ));
    }
    let words: Vec<&str> = line.value.split_whitespace().collect();
    let action = match words[..] {
        ["forget-sessions"] => Action::ForgetSessions,
        ["end-streams"] => Action::EndStreams,
        ["tell-changed"] => Action::TellChanged,
        ["restart", ms] => Action::Restart(number(ms)?),
        _ => {
            return Err(line.wrong(
                place,
                format!("`{}` cannot happen to a server", line.value),
                "write forget-sessions, end-streams, tell-changed or `restart MS`",
            ));
        }
    };
    Ok(Step {
        when,
        again,
        action,
    })
}
