//! Reads objects whose members are not ours to know: they are kept as JSON text.

use jsonc_parser::ast::Value;

use super::reader::{Place, Sink, list, wrong_type};

/// Reads a list of objects. Numbers keep their text.
pub(super) fn read_objects(
    value: &Value<'_>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Option<Vec<Box<str>>> {
    let elements = list(value, place, sink)?;
    let mut objects = Vec::new();
    for (element, place) in elements {
        if element.as_object().is_none() {
            wrong_type(element, "an object", &place, sink);
            continue;
        }
        objects.push(json_text(element).into());
    }
    Some(objects)
}

/// A value as JSON text. Numbers keep theirs.
pub(super) fn json_text(value: &Value<'_>) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// The parser has limited the depth.
fn write(value: &Value<'_>, text: &mut String) {
    match value {
        Value::StringLit(string) => text.push_str(&mainstay_wire::json_string(&string.value)),
        Value::NumberLit(number) => text.push_str(number.value),
        Value::BooleanLit(boolean) => text.push_str(if boolean.value { "true" } else { "false" }),
        Value::NullKeyword(_) => text.push_str("null"),
        Value::Array(array) => {
            text.push('[');
            for (index, element) in array.elements.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(element, text);
            }
            text.push(']');
        }
        Value::Object(object) => {
            text.push('{');
            for (index, member) in object.properties.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&mainstay_wire::json_string(member.name.as_str()));
                text.push(':');
                write(&member.value, text);
            }
            text.push('}');
        }
    }
}
