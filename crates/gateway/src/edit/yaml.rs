//! Edits of YAML: whole lines of one entry of a map are put in or taken out, by the places that the parser tells.
//!
//! Must not rewrite what it does not change. What cannot be done so (entries behind `- ` or `? `, several documents in one
//! file) is refused; the caller reads the result again and refuses what turned out differently than asked.

mod change;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

pub(super) use self::change::edit;
use super::{EditError, Node, Syntax, place};

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 128;
/// Spaces per level where the file shows none.
const STEP: usize = 2;

/// A value and where it is written. Places are bytes.
#[derive(Debug)]
struct Spot {
    node: Node,
    from: usize,
    /// After its last character that is content.
    to: usize,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    /// A map in lines.
    Lines(Vec<Entry>),
    /// A map in braces.
    Braces(Vec<Entry>),
    Other,
}

#[derive(Debug)]
struct Entry {
    name: String,
    from: usize,
    /// After the name.
    name_to: usize,
    column: usize,
    value: Spot,
}

pub(super) fn read(text: &str) -> Result<Node, EditError> {
    Ok(spots(text)?.map_or(Node::Null, |spot| spot.node))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's events; all others begin a value"
)]
/// The one document of a text; `None` when there is nothing but comments.
fn spots(text: &str) -> Result<Option<Spot>, EditError> {
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str(text),
    };
    let mut found = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) => {}
            Event::DocumentEnd => {}
            other => {
                if found.is_some() {
                    return Err(EditError::Unsafe {
                        path: Vec::new(),
                        why: "there are several YAML documents in the file",
                    });
                }
                found = Some(reader.value(other, span, 0)?);
            }
        }
    }
    Ok(found.filter(|spot| !(spot.node == Node::Null && spot.from == spot.to)))
}

struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, granit_parser::StrInput<'t>>,
}

impl<'t> Reader<'t> {
    /// The next event that is no comment.
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, EditError> {
        loop {
            match self.parser.next() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(found)) => return Ok(Some(found)),
                Some(Err(error)) => {
                    let at = self.offset(error.marker());
                    return Err(self.refused(at, &error.info()));
                }
            }
        }
    }

    fn refused(&self, at: usize, message: &str) -> EditError {
        let (line, column) = place(self.text, at);
        EditError::Syntax {
            syntax: Syntax::Yaml.name(),
            message: message.to_owned(),
            line,
            column,
        }
    }

    fn offset(&self, marker: &granit_parser::Marker) -> usize {
        marker.byte_offset().unwrap_or(0).min(self.text.len())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's events; only these are values"
    )]
    fn value(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Spot, EditError> {
        let (from, to) = (self.offset(&span.start), self.offset(&span.end));
        if depth > DEPTH_MAX {
            return Err(self.refused(from, "the nesting is too deep"));
        }
        let tag = match &event {
            Event::Scalar(_, _, _, tag)
            | Event::SequenceStart(_, _, tag)
            | Event::MappingStart(_, _, tag) => tag.as_ref().map(|tag| format!("{tag:?}")),
            _ => None,
        };
        let mut spot = match event {
            Event::Scalar(text, style, _, _) => {
                let written = self.text.get(from..to).unwrap_or_default();
                // The line break after a block of text is not a part of its last line.
                let to = from + written.trim_end_matches(['\n', '\r', ' ']).len();
                Spot {
                    node: scalar(&text, style),
                    from,
                    to,
                    shape: Shape::Other,
                }
            }
            Event::Alias(id) => Spot {
                node: Node::Literal(format!("*{id}")),
                from,
                to,
                shape: Shape::Other,
            },
            Event::SequenceStart(style, ..) => self.list(style, from, to, depth)?,
            Event::MappingStart(style, ..) => self.map(style, from, to, depth)?,
            _ => return Err(self.refused(from, "a value is missing")),
        };
        if let Some(tag) = tag {
            spot.node = Node::List(vec![Node::Literal(tag), spot.node]);
        }
        Ok(spot)
    }

    fn list(
        &mut self,
        style: StructureStyle,
        from: usize,
        to: usize,
        depth: usize,
    ) -> Result<Spot, EditError> {
        let mut items = Vec::new();
        let mut end = to;
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                if style == StructureStyle::Flow {
                    end = self.offset(&span.end);
                }
                break;
            }
            let item = self.value(event, span, depth + 1)?;
            end = end.max(item.to);
            items.push(item.node);
        }
        Ok(Spot {
            node: Node::List(items),
            from,
            to: end,
            shape: Shape::Other,
        })
    }

    fn map(
        &mut self,
        style: StructureStyle,
        from: usize,
        to: usize,
        depth: usize,
    ) -> Result<Spot, EditError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut end = to;
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                if style == StructureStyle::Flow {
                    end = self.offset(&span.end);
                }
                break;
            }
            let column = span.start.col();
            let key = self.value(event, span, depth + 1)?;
            let Some((event, span)) = self.next()? else {
                return Err(self.refused(key.to, "a value is missing"));
            };
            let mut value = self.value(event, span, depth + 1)?;
            if value.node == Node::Null && value.from == value.to {
                // A value that is not written is right behind the colon.
                let behind = self.text.get(key.to..).unwrap_or_default();
                let colon = behind.find(':').map_or(key.to, |at| key.to + at + 1);
                (value.from, value.to) = (colon, colon);
            }
            end = end.max(value.to).max(key.to);
            entries.push(Entry {
                name: name_of(&key.node),
                from: key.from,
                name_to: key.to,
                column,
                value,
            });
        }
        let node = entries
            .iter()
            .map(|entry| (entry.name.clone(), entry.value.node.clone()))
            .collect();
        Ok(Spot {
            node: Node::Map(node),
            from,
            to: end,
            shape: match style {
                StructureStyle::Block => Shape::Lines(entries),
                StructureStyle::Flow => Shape::Braces(entries),
            },
        })
    }
}

/// A key as text; keys that are no text only need to stay different from each other.
fn name_of(key: &Node) -> String {
    match key {
        Node::Text(text) | Node::Literal(text) => text.clone(),
        Node::Bool(yes) => yes.to_string(),
        Node::Null => "null".to_owned(),
        Node::List(_) | Node::Map(_) => format!("{key:?}"),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Node {
    if style != ScalarStyle::Plain {
        return Node::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Node::Null,
        "true" | "True" | "TRUE" => Node::Bool(true),
        "false" | "False" | "FALSE" => Node::Bool(false),
        number if is_number(number) => Node::Literal(number.to_owned()),
        other => Node::Text(other.to_owned()),
    }
}

fn is_number(text: &str) -> bool {
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    bare.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && (text.parse::<f64>().is_ok() || bare.starts_with("0x") || bare.starts_with("0o"))
}
