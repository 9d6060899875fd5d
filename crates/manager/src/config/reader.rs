//! Reading a JSON tree with positions, collecting every problem instead of stopping at the first.
//!
//! Knows nothing about servers: [`Fields`] walks one object, remembers which keys were asked for, and at the end
//! reports the others with the nearest known key.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jsonc_parser::{
    ast::{Object, ObjectProp, Value},
    common::Ranged,
};

use super::problem::{Origin, Problem, Severity, quoted, shortened};

/// How many problems of one file are kept. The first error of a server is kept beyond that, so that every broken server
/// can say why.
const PROBLEMS_MAX: usize = 1_000;

/// Collects problems and turns byte offsets into lines and columns.
pub(super) struct Sink<'t> {
    file: Arc<Path>,
    text: &'t str,
    line_starts: Vec<usize>,
    problems: Vec<Problem>,
    errors: usize,
    left_out: usize,
    /// Every key that was asked for, with its place: lets a test compare the reader with the schema.
    #[cfg(test)]
    pub(super) asked: std::collections::BTreeSet<String>,
}

/// Where the reader is: the path of keys, the byte offset and the server it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) at: usize,
    pub(super) server: Option<Arc<str>>,
}

impl Place {
    pub(super) fn root() -> Place {
        Place {
            path: String::new(),
            at: 0,
            server: None,
        }
    }

    pub(super) fn key(&self, key: &str, at: usize) -> Place {
        let plain = !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
        let key = if plain {
            shortened(key)
        } else {
            format!("\"{}\"", shortened(key))
        };
        let path = if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        };
        Place {
            path,
            at,
            server: self.server.clone(),
        }
    }

    /// A member whose key is free text that somebody may have put a secret into by mistake: shows only how it begins.
    fn member(&self, key: &str, at: usize) -> Place {
        self.key(&beginning(key), at)
    }

    fn index(&self, index: usize, at: usize) -> Place {
        Place {
            path: format!("{}[{index}]", self.path),
            at,
            server: self.server.clone(),
        }
    }

    pub(super) fn of_server(mut self, name: &str) -> Place {
        self.server = Some(name.into());
        self
    }
}

impl<'t> Sink<'t> {
    pub(super) fn new(file: Arc<Path>, text: &'t str) -> Sink<'t> {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Sink {
            file,
            text,
            line_starts,
            problems: Vec::new(),
            errors: 0,
            left_out: 0,
            #[cfg(test)]
            asked: std::collections::BTreeSet::new(),
        }
    }

    pub(super) fn origin(&self, place: &Place) -> Origin {
        let (line, column) = self.line_and_column(place.at);
        Origin {
            file: self.file.clone(),
            line,
            column,
            path: place.path.clone(),
        }
    }

    fn line_and_column(&self, at: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= at);
        let start = self
            .line_starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or("");
        (line.max(1), before.chars().count() + 1)
    }

    pub(super) fn line(&self, at: usize) -> usize {
        self.line_and_column(at).0
    }

    pub(super) fn error(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.report(Severity::Error, place, message.into(), remedy.into());
    }

    pub(super) fn warn(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.report(Severity::Warning, place, message.into(), remedy.into());
    }

    pub(super) fn note(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.report(Severity::Note, place, message.into(), remedy.into());
    }

    fn report(&mut self, severity: Severity, place: &Place, message: String, remedy: String) {
        let first_of_server = severity == Severity::Error
            && place.server.is_some()
            && self
                .problems
                .last()
                .is_none_or(|last| last.server != place.server);
        if severity == Severity::Error {
            self.errors += 1;
        }
        if self.problems.len() >= PROBLEMS_MAX && !first_of_server {
            self.left_out += 1;
            return;
        }
        let origin = Some(self.origin(place));
        self.problems.push(Problem {
            severity,
            server: place.server.clone(),
            origin,
            message,
            remedy,
        });
    }

    /// How many errors there were so far, those left out included.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// The errors of one server so far.
    pub(super) fn errors_of(&self, server: &str) -> Vec<Problem> {
        let its = |problem: &&Problem| {
            problem.severity == Severity::Error
                && problem.server.as_deref().is_some_and(|name| name == server)
        };
        let mut found: Vec<Problem> = self.problems.iter().filter(its).cloned().collect();
        found.sort_by_key(Problem::position);
        found
    }

    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        if self.left_out > 0 {
            let origin = Some(self.origin(&Place::root()));
            let message = format!("{} more problems are not shown", self.left_out);
            let remedy = "mend those above first".to_owned();
            self.problems.push(Problem {
                severity: Severity::Warning,
                server: None,
                origin,
                message,
                remedy,
            });
        }
        self.problems.sort_by_key(Problem::position);
        self.problems
    }
}

/// One object of the file, read key by key.
pub(super) struct Fields<'a, 't> {
    object: &'a Object<'t>,
    pub(super) place: Place,
    known: Vec<&'static str>,
    tolerated: Vec<&'static str>,
}

impl<'a, 't> Fields<'a, 't> {
    /// Starts to read `object` and reports keys that occur twice.
    pub(super) fn new(object: &'a Object<'t>, place: Place, sink: &mut Sink<'_>) -> Fields<'a, 't> {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for property in &object.properties {
            let key = property.name.as_str();
            let at = property.name.range().start;
            match first.get(key) {
                Some(before) => report_twice(&place.key(key, at), key, *before, sink),
                None => {
                    first.insert(key, at);
                }
            }
        }
        Fields {
            object,
            place,
            known: Vec::new(),
            tolerated: Vec::new(),
        }
    }

    /// The value of `key`, or `None` when it is absent or `null`. From here on the key counts as known.
    pub(super) fn take(
        &mut self,
        key: &'static str,
        sink: &mut Sink<'_>,
    ) -> Option<(&'a Value<'t>, Place)> {
        self.known.push(key);
        #[cfg(test)]
        sink.asked.insert(if self.place.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.place.path)
        });
        #[cfg(not(test))]
        let _ = &sink;
        self.look(key)
    }

    /// The value of a key that belongs to another program: known, but never suggested for a typo.
    pub(super) fn take_foreign(&mut self, key: &'static str) -> Option<(&'a Value<'t>, Place)> {
        self.tolerated.push(key);
        self.look(key)
    }

    /// Keys of other programs that have no meaning here and are passed over in silence.
    pub(super) fn tolerate(&mut self, keys: &[&'static str]) {
        self.tolerated.extend(keys);
    }

    fn look(&self, key: &str) -> Option<(&'a Value<'t>, Place)> {
        let property = self
            .object
            .properties
            .iter()
            .find(|property| property.name.as_str() == key)?;
        if property.value.as_null_keyword().is_some() {
            return None;
        }
        Some((
            &property.value,
            self.place.key(key, property.value.range().start),
        ))
    }

    pub(super) fn text(
        &mut self,
        key: &'static str,
        sink: &mut Sink<'_>,
    ) -> Option<(String, Place)> {
        let (value, place) = self.take(key, sink)?;
        Some((text(value, &place, sink)?, place))
    }

    pub(super) fn flag(&mut self, key: &'static str, sink: &mut Sink<'_>) -> Option<bool> {
        let (value, place) = self.take(key, sink)?;
        flag(value, &place, sink)
    }

    pub(super) fn whole(
        &mut self,
        key: &'static str,
        range: Range,
        sink: &mut Sink<'_>,
    ) -> Option<u64> {
        let (value, place) = self.take(key, sink)?;
        whole(value, range, &place, sink)
    }

    /// A number, or `false` for "never".
    pub(super) fn whole_or_never(
        &mut self,
        key: &'static str,
        range: Range,
        sink: &mut Sink<'_>,
    ) -> Option<Option<u64>> {
        let (value, place) = self.take(key, sink)?;
        if value.as_boolean_lit().is_some_and(|literal| !literal.value) {
            return Some(None);
        }
        if value.as_number_lit().is_none() {
            wrong_type(value, "a whole number, or `false` for never", &place, sink);
            return None;
        }
        whole(value, range, &place, sink).map(Some)
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        sink: &mut Sink<'_>,
    ) -> Option<T> {
        let (written, place) = self.text(key, sink)?;
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == written) {
            return Some(*chosen);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let remedy = match nearest(&written, words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("write one of: {}", words.join(", ")),
        };
        sink.error(
            &place,
            format!("`{key}` cannot be {}", quoted(&written)),
            remedy,
        );
        None
    }

    pub(super) fn object(
        &mut self,
        key: &'static str,
        sink: &mut Sink<'_>,
    ) -> Option<Fields<'a, 't>> {
        let (value, place) = self.take(key, sink)?;
        match value.as_object() {
            Some(object) => Some(Fields::new(object, place, sink)),
            None => {
                wrong_type(value, "an object", &place, sink);
                None
            }
        }
    }

    /// Reports the keys nobody asked for.
    pub(super) fn finish(self, sink: &mut Sink<'_>) {
        for property in &self.object.properties {
            let key = property.name.as_str();
            if self.known.contains(&key) || self.tolerated.contains(&key) {
                continue;
            }
            let place = self.place.key(key, property.name.range().start);
            let remedy = match nearest(key, self.known.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => {
                    "it has no effect; remove it, or look for its name in the schema".to_owned()
                }
            };
            sink.warn(&place, format!("unknown key {}", quoted(key)), remedy);
        }
    }
}

/// A name that occurs twice in one object: which of the two is meant cannot be known.
pub(super) fn report_twice(place: &Place, key: &str, first_at: usize, sink: &mut Sink<'_>) {
    let first = sink.line(first_at);
    let message = format!("{} occurs twice: here and on line {first}", quoted(key));
    sink.error(place, message, "keep one of the two");
}

pub(super) fn text(value: &Value<'_>, place: &Place, sink: &mut Sink<'_>) -> Option<String> {
    match value.as_string_lit() {
        Some(literal) => Some(literal.value.to_string()),
        None => {
            wrong_type(value, "a string", place, sink);
            None
        }
    }
}

/// A string, or a number or truth value that is taken as the text it is written with.
pub(super) fn lenient_text(
    value: &Value<'_>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Option<String> {
    let written = match (value.as_number_lit(), value.as_boolean_lit()) {
        (Some(number), _) => number.value.to_owned(),
        (None, Some(truth)) => truth.value.to_string(),
        (None, None) => return text(value, place, sink),
    };
    sink.warn(
        place,
        format!("expected a string, found {}: its text is used", kind(value)),
        "write it in quotes",
    );
    Some(written)
}

pub(super) fn flag(value: &Value<'_>, place: &Place, sink: &mut Sink<'_>) -> Option<bool> {
    match value.as_boolean_lit() {
        Some(literal) => Some(literal.value),
        None => {
            wrong_type(value, "`true` or `false`", place, sink);
            None
        }
    }
}

/// The numbers a setting may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) min: u64,
    pub(super) max: u64,
}

pub(super) fn whole(
    value: &Value<'_>,
    range: Range,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Option<u64> {
    let Some(literal) = value.as_number_lit() else {
        wrong_type(value, "a whole number", place, sink);
        return None;
    };
    let number = literal
        .value
        .parse::<u64>()
        .ok()
        .filter(|number| (range.min..=range.max).contains(number));
    if number.is_none() {
        let message = format!("{} is not a number that fits here", quoted(literal.value));
        sink.error(
            place,
            message,
            format!("write a whole number from {} to {}", range.min, range.max),
        );
    }
    number
}

/// The elements of a list, with their places.
pub(super) fn list<'a, 't>(
    value: &'a Value<'t>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Option<Vec<(&'a Value<'t>, Place)>> {
    let Some(array) = value.as_array() else {
        wrong_type(value, "a list of strings", place, sink);
        return None;
    };
    let element =
        |(index, value): (usize, &'a Value<'t>)| (value, place.index(index, value.range().start));
    Some(array.elements.iter().enumerate().map(element).collect())
}

/// The members of an object whose keys are free names; `null` members are left out, doubled names reported.
pub(super) fn members<'a, 't>(
    value: &'a Value<'t>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Option<Vec<(&'a ObjectProp<'t>, Place)>> {
    let Some(object) = value.as_object() else {
        wrong_type(value, "an object", place, sink);
        return None;
    };
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for property in &object.properties {
        let key = property.name.as_str();
        let at = property.name.range().start;
        match first.get(key) {
            Some(before) => report_twice(&place.member(key, at), &beginning(key), *before, sink),
            None => {
                first.insert(key, at);
            }
        }
        if property.value.as_null_keyword().is_none() {
            found.push((property, place.member(key, property.value.range().start)));
        }
    }
    Some(found)
}

/// How a name begins: as much of it as could be a name of a variable or a header.
pub(super) fn beginning(key: &str) -> String {
    let end = key.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.'));
    match end {
        Some(end) => format!("{}…", &key[..end]),
        None => key.to_owned(),
    }
}

pub(super) fn wrong_type(value: &Value<'_>, wanted: &str, place: &Place, sink: &mut Sink<'_>) {
    sink.error(
        place,
        format!("expected {wanted}, found {}", kind(value)),
        "",
    );
}

pub(super) fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::StringLit(_) => "a string",
        Value::NumberLit(_) => "a number",
        Value::BooleanLit(_) => "a truth value",
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::NullKeyword(_) => "null",
    }
}

/// The word that was probably meant.
pub(super) fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    const LENGTH_MAX: usize = 64;
    if written.len() > LENGTH_MAX {
        return None;
    }
    let plain = |text: &str| text.replace(['-', '_', ' '], "").to_lowercase();
    let written = plain(written);
    let mut best: Option<(usize, &str)> = None;
    for word in known {
        let distance = strsim::damerau_levenshtein(&written, &plain(word));
        let allowed = (word.len() / 3).clamp(1, 3);
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, word));
        }
    }
    best.map(|(_, word)| word)
}
