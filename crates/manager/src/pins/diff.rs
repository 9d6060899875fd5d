//! Two JSON texts side by side, for people.

use mainstay_wire::raw;
use mainstay_wire::splice::json_string;

/// Lines around a difference that are shown.
const AROUND: usize = 3;
/// Pairs of lines that are compared at most; beyond it everything old is shown as gone and everything new as come.
const PAIRS_MAX: usize = 4_000_000;

/// A JSON text on lines of their own. Numbers keep their text. What cannot be seen is shown as an escape: words that are
/// hidden from people are what they must see before they approve them.
pub(super) fn pretty(text: &str) -> String {
    let mut out = String::new();
    write(text, 0, &mut out);
    if !out.contains(is_unseen) {
        return out;
    }
    let mut visible = String::with_capacity(out.len());
    for c in out.chars() {
        if is_unseen(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                visible.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            visible.push(c);
        }
    }
    visible
}

/// Controls, marks of direction, joiners, tags and the like. Line breaks inside texts are escapes already.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

fn write(text: &str, depth: usize, out: &mut String) {
    let text = text.trim_ascii();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    match text.as_bytes().first() {
        Some(b'{') => {
            let members = raw::members(text);
            if members.is_empty() {
                return out.push_str("{}");
            }
            out.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                out.push_str(&json_string(name));
                out.push_str(": ");
                write(value, depth + 1, out);
            }
            line(out, depth);
            out.push('}');
        }
        Some(b'[') => {
            let elements = raw::elements(text).unwrap_or_default();
            if elements.is_empty() {
                return out.push_str("[]");
            }
            out.push('[');
            for (index, value) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                write(value, depth + 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        Some(_) | None => out.push_str(text),
    }
}

/// The lines of two texts, with `-` for those of the first alone, `+` for those of the second alone and a space for those of
/// both; of these only some around each difference.
pub(super) fn lines(old: &str, new: &str) -> Vec<String> {
    let marked = marked(
        &old.lines().collect::<Vec<_>>(),
        &new.lines().collect::<Vec<_>>(),
    );
    let near = |at: usize| {
        let from = at.saturating_sub(AROUND);
        let to = (at + AROUND + 1).min(marked.len());
        marked[from..to].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut shown = Vec::new();
    let mut left_out = false;
    for (at, (mark, line)) in marked.iter().enumerate() {
        if near(at) {
            shown.push(format!("{mark} {line}"));
            left_out = false;
        } else if !left_out {
            shown.push("…".to_owned());
            left_out = true;
        }
    }
    shown
}

fn marked<'l>(old: &[&'l str], new: &[&'l str]) -> Vec<(char, &'l str)> {
    let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let head = old.iter().zip(new).take_while(same).count();
    let (old_left, new_left) = (&old[head..], &new[head..]);
    let tail = old_left
        .iter()
        .rev()
        .zip(new_left.iter().rev())
        .take_while(same)
        .count();
    let old_middle = &old_left[..old_left.len() - tail];
    let new_middle = &new_left[..new_left.len() - tail];
    let mut all: Vec<(char, &str)> = old[..head].iter().map(|line| (' ', *line)).collect();
    all.extend(middle(old_middle, new_middle));
    all.extend(old[old.len() - tail..].iter().map(|line| (' ', *line)));
    all
}

/// The longest common lines stay, what is between them goes and comes.
fn middle<'l>(old: &[&'l str], new: &[&'l str]) -> Vec<(char, &'l str)> {
    let width = new.len() + 1;
    let mut common = if old.len().saturating_mul(width) <= PAIRS_MAX {
        vec![0_u32; (old.len() + 1) * width]
    } else {
        Vec::new()
    };
    if !common.is_empty() {
        for i in (0..old.len()).rev() {
            for j in (0..new.len()).rev() {
                common[i * width + j] = if old[i] == new[j] {
                    common[(i + 1) * width + j + 1] + 1
                } else {
                    common[(i + 1) * width + j].max(common[i * width + j + 1])
                };
            }
        }
    }
    let ahead = |i: usize, j: usize| common.get(i * width + j).copied().unwrap_or(0);
    let (mut i, mut j, mut all) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] && !common.is_empty() {
            all.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j >= new.len() || i < old.len() && ahead(i + 1, j) >= ahead(i, j + 1) {
            all.push(('-', old[i]));
            i += 1;
        } else {
            all.push(('+', new[j]));
            j += 1;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_value_per_line_and_numbers_stay() {
        let text = r#"{"a":[1.10,{}],"b":{"c":"x\ny"},"d":[]}"#;
        let lines = "{\n  \"a\": [\n    1.10,\n    {}\n  ],\n  \"b\": {\n    \"c\": \"x\\ny\"\n  },\n  \"d\": []\n}";
        assert_eq!(pretty(text), lines);
    }

    #[test]
    fn f250_words_that_nobody_can_see_are_shown() {
        let hidden = "{\"a\":\"x\u{200b}\u{202e}\u{e0041}é\u{9b}\"}";
        let lines = "{\n  \"a\": \"x\\u200b\\u202e\\udb40\\udc41é\\u009b\"\n}";
        assert_eq!(pretty(hidden), lines);
    }

    #[test]
    fn only_what_differs_is_shown_with_some_lines_around() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj";
        let new = "a\nb\nc\nd\ne\nX\ng\nh\ni\nj\nk";
        assert_eq!(
            lines(old, new),
            [
                "…", "  c", "  d", "  e", "- f", "+ X", "  g", "  h", "  i", "  j", "+ k"
            ]
        );
        assert_eq!(lines("", "a\nb"), ["+ a", "+ b"]);
        assert_eq!(lines("a", ""), ["- a"]);
        assert_eq!(lines("a\nb\nc", "b"), ["- a", "  b", "- c"]);
    }
}
