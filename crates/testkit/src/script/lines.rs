//! The lines of a script: comments, the head, and `KEY: VALUE` for the rest.

use super::{Problem, Transport};

/// A script whose head is understood.
pub(super) struct Read {
    pub(super) about: String,
    pub(super) faults: Vec<String>,
    pub(super) transport: Transport,
    pub(super) rest: Vec<Line>,
}

/// One `KEY: VALUE`.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) key: String,
    pub(super) value: String,
}

impl Line {
    /// A problem of this line.
    pub(super) fn wrong(
        &self,
        place: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        Problem {
            place: place.to_owned(),
            line: Some(self.number),
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// Reads the lines, and understands those that every script has.
pub(super) fn read(place: &str, text: &str) -> Result<Read, Problem> {
    let (mut about, mut faults, mut transport) = (None, Vec::new(), None);
    let mut rest = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (key, value) = trimmed.split_once(':').unwrap_or((trimmed, ""));
        let line = Line {
            number: index + 1,
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
        };
        if !trimmed.contains(':') {
            return Err(line.wrong(
                place,
                format!("`{trimmed}` has no colon"),
                "write `KEY: VALUE`; a comment begins with #",
            ));
        }
        match line.key.as_str() {
            "about" => about = Some(line.value),
            "faults" => faults = rows(place, &line)?,
            "transport" => transport = Some(transport_of(place, &line)?),
            _ => rest.push(line),
        }
    }
    let missing = |what: &str, hint: &str| Problem {
        place: place.to_owned(),
        line: None,
        message: format!("has no `{what}:` line"),
        hint: hint.to_owned(),
    };
    Ok(Read {
        about: about
            .filter(|about| !about.is_empty())
            .ok_or_else(|| missing("about", "say in one sentence what the server does"))?,
        faults,
        transport: transport.ok_or_else(|| {
            missing(
                "transport",
                "add `transport: stdio`, `transport: http` or `transport: sse`",
            )
        })?,
        rest,
    })
}

fn transport_of(place: &str, line: &Line) -> Result<Transport, Problem> {
    match line.value.as_str() {
        "stdio" => Ok(Transport::Stdio),
        "http" => Ok(Transport::Http),
        "sse" => Ok(Transport::Sse),
        other => Err(line.wrong(
            place,
            format!("`{other}` is no transport"),
            "write stdio, http or sse",
        )),
    }
}

fn rows(place: &str, line: &Line) -> Result<Vec<String>, Problem> {
    let rows: Vec<String> = line
        .value
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let is_row = |row: &String| {
        row.strip_prefix('F')
            .is_some_and(|number| number.parse::<u16>().is_ok())
    };
    match rows.iter().find(|row| !is_row(row)) {
        Some(odd) => Err(line.wrong(
            place,
            format!("`{odd}` is no fault row"),
            "write rows as `F62`, with blanks between them",
        )),
        None => Ok(rows),
    }
}

/// The known word that is most like `word`, if one is.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known)
}

/// `METHOD`, `METHOD N times` or `METHOD always`, as `(METHOD, N)`.
pub(super) fn repeated<'a>(
    place: &str,
    line: &Line,
    words: &'a str,
) -> Result<(&'a str, u64), Problem> {
    let words: Vec<&str> = words.split_whitespace().collect();
    match words[..] {
        [what] => Ok((what, 1)),
        [what, "always"] => Ok((what, u64::MAX)),
        [what, times, "times"] => Ok((what, number(place, line, times)?)),
        _ => Err(line.wrong(
            place,
            format!("`{}` says neither when nor how often", line.key),
            "write `on METHOD:`, `on METHOD 3 times:` or `on METHOD always:`",
        )),
    }
}

/// A number, or a problem that says which.
pub(super) fn number(place: &str, line: &Line, word: &str) -> Result<u64, Problem> {
    word.parse().map_err(|_| {
        line.wrong(
            place,
            format!("`{word}` is no number"),
            "write a whole number without a unit",
        )
    })
}

/// `kebab-case` as `camelCase`: scripts are for people, the settings behind them are JSON.
pub(super) fn camel(kebab: &str) -> String {
    let mut words = kebab.split('-');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// `camelCase` as `kebab-case`.
pub(super) fn kebab(camel: &str) -> String {
    let mut kebab = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}
