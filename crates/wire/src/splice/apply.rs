//! Turning recorded edits into segments.

use std::borrow::Cow;

use bytes::Bytes;

use super::parts::Parts;
use super::{Change, Node, SpliceError, json_string};
use crate::envelope::Message;
use crate::raw;
use crate::scan::{Member, Scanner, Span};

/// Replace the bytes from `start` to `end` by `text`. Cuts are made in ascending order and never overlap.
struct Cut {
    start: usize,
    end: usize,
    text: String,
}

/// Where we are: names on the way, for error messages.
#[derive(Clone, Copy)]
struct Path<'p> {
    parent: Option<&'p Self>,
    name: &'p str,
}

impl Path<'_> {
    fn dotted(&self) -> String {
        match self.parent {
            Some(parent) => format!("{}.{}", parent.dotted(), self.name),
            None => self.name.to_owned(),
        }
    }
}

pub(super) fn apply(message: &Message, tree: &Node) -> Result<Parts, SpliceError> {
    let whole = Span::new(0, message.as_str().len());
    let mut cuts = Vec::new();
    if !tree.children.is_empty() {
        object(message, whole, tree, None, &mut cuts)?;
    }
    let text: &Bytes = message.text();
    let mut parts = Parts::new();
    let mut at = 0;
    for cut in cuts {
        parts.push(text.slice(at..cut.start));
        parts.push(cut.text);
        at = cut.end;
    }
    parts.push(text.slice(at..));
    Ok(parts)
}

/// Edits the object at `span`. Recursion follows the paths of the edit, not the nesting of the message.
fn object(
    message: &Message,
    span: Span,
    node: &Node,
    path: Option<&Path<'_>>,
    cuts: &mut Vec<Cut>,
) -> Result<(), SpliceError> {
    let text = message.as_str();
    let members = members(message, span);
    let mut removed: Vec<usize> = Vec::new();
    let mut appended = String::new();
    let mut inner: Vec<Cut> = Vec::new();
    for (name, child) in &node.children {
        let path = Path { parent: path, name };
        let mut hits = members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.is(text, name));
        let hit = hits.next();
        if hits.next().is_some() {
            return Err(SpliceError::DuplicateKey {
                path: path.dotted(),
            });
        }
        match (hit, &child.change) {
            (Some((at, _)), Some(Change::Remove)) => removed.push(at),
            (Some((_, member)), Some(Change::Set(raw))) => {
                inner.push(Cut {
                    start: member.value.start(),
                    end: member.value.end(),
                    text: checked(raw, &path)?.to_owned(),
                });
            }
            (Some((_, member)), None) => below(message, member.value, child, &path, &mut inner)?,
            (None, _) => {
                if let Some(value) = render(child, &path)? {
                    appended.push(',');
                    appended.push_str(&json_string(name));
                    appended.push(':');
                    appended.push_str(&value);
                }
            }
        }
    }
    removals(span, &members, &mut removed, appended, &mut inner);
    inner.sort_by_key(|cut| cut.start);
    cuts.extend(inner);
    Ok(())
}

/// Edits inside an existing member.
fn below(
    message: &Message,
    value: Span,
    child: &Node,
    path: &Path<'_>,
    cuts: &mut Vec<Cut>,
) -> Result<(), SpliceError> {
    let text = value.of(message.as_str());
    if raw::is_object(text) {
        return object(message, value, child, Some(path), cuts);
    }
    match render(child, path)? {
        // Only removals: there is nothing to remove in something that is no object.
        None => Ok(()),
        Some(rendered) if text == "null" => {
            cuts.push(Cut {
                start: value.start(),
                end: value.end(),
                text: rendered,
            });
            Ok(())
        }
        Some(_) => Err(SpliceError::NotAnObject {
            path: path.dotted(),
        }),
    }
}

/// The text of a member that does not exist yet; `None` if nothing in it is set.
fn render(node: &Node, path: &Path<'_>) -> Result<Option<String>, SpliceError> {
    match &node.change {
        Some(Change::Set(raw)) => return checked(raw, path).map(|raw| Some(raw.to_owned())),
        Some(Change::Remove) => return Ok(None),
        None => {}
    }
    let mut text = String::new();
    for (name, child) in &node.children {
        if let Some(value) = render(
            child,
            &Path {
                parent: Some(path),
                name,
            },
        )? {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.push_str(&json_string(name));
            text.push(':');
            text.push_str(&value);
        }
    }
    if text.is_empty() {
        return Ok(None);
    }
    text.push('}');
    Ok(Some(text))
}

fn checked<'r>(raw: &'r str, path: &Path<'_>) -> Result<&'r str, SpliceError> {
    if raw::is_json(raw) {
        Ok(raw)
    } else {
        Err(SpliceError::NotJson {
            path: path.dotted(),
        })
    }
}

/// Cuts removed members with their commas, and appends new ones (`appended` starts with a comma) after the last that stays.
fn removals(
    span: Span,
    members: &[Member],
    removed: &mut [usize],
    appended: String,
    cuts: &mut Vec<Cut>,
) {
    removed.sort_unstable();
    let last_kept = (0..members.len())
        .rev()
        .find(|at| removed.binary_search(at).is_err());
    for &at in removed.iter() {
        // A member before one that stays goes up to the next key: its own comma goes with it.
        if last_kept.is_some_and(|kept| at < kept) {
            cuts.push(Cut {
                start: members[at].key.start(),
                end: members[at + 1].key.start(),
                text: String::new(),
            });
        }
    }
    let after_brace = span.start() + 1;
    let (start, text) = match last_kept {
        Some(kept) => (members[kept].value.end(), appended),
        None => {
            let first = members
                .first()
                .map_or(after_brace, |member| member.key.start());
            (first, appended.get(1..).unwrap_or_default().to_owned())
        }
    };
    let trailing = match (last_kept, members.len().checked_sub(1)) {
        (Some(kept), Some(last)) if kept < last => Some(last),
        (None, Some(last)) => Some(last),
        (Some(_) | None, _) => None,
    };
    let end = trailing.map_or(start, |last| members[last].value.end());
    if end > start || !text.is_empty() {
        cuts.push(Cut { start, end, text });
    }
}

/// The members of the object at `span`: from the index if there is one, otherwise by reading that object again.
fn members(message: &Message, span: Span) -> Cow<'_, [Member]> {
    let text = message.as_str();
    if span.start() == 0 && message.root().is_complete() {
        return Cow::Borrowed(message.root().members());
    }
    if let Some(index) = message.index_of(span) {
        return Cow::Borrowed(index.members());
    }
    let offset = span.start();
    let object = span.of(text);
    let mut all = Vec::new();
    let shifted = |span: Span| Span::new(span.start() + offset, span.end() + offset);
    if let Ok(mut scanner) = Scanner::new(object, usize::MAX) {
        // The text was validated when the message was parsed, so the walk reaches the end.
        let walked = scanner.object(0, |scanner, key| {
            let value = scanner.value(1)?;
            all.push(Member {
                key: shifted(key),
                value: shifted(value),
            });
            Ok(())
        });
        debug_assert!(walked.is_ok(), "a validated object is readable");
    }
    Cow::Owned(all)
}
