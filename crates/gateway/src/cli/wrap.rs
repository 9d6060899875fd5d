//! Messages on a narrow terminal: broken between words, never inside one, so that a path or a command can be copied.

/// `text` with no line wider than `width` columns, unless it is a single word. Lines keep their indentation.
pub(crate) fn wrap(text: &str, width: usize) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| one(line, width)).collect();
    lines.join("\n")
}

fn one(line: &str, width: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    let body = line.trim_start();
    let indent = line.get(..line.len() - body.len()).unwrap_or_default();
    let mut wrapped = indent.to_owned();
    let mut used = columns(indent);
    let mut at_start = true;
    for word in body.split(' ').filter(|word| !word.is_empty()) {
        let wide = columns(word);
        if !at_start && used + 1 + wide > width {
            wrapped.push('\n');
            wrapped.push_str(indent);
            used = columns(indent);
            at_start = true;
        }
        if !at_start {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += wide;
        at_start = false;
    }
    wrapped
}

/// How many columns a text takes; colours take none.
fn columns(text: &str) -> usize {
    let mut count = 0;
    let mut in_colour = false;
    for c in text.chars() {
        match (in_colour, c) {
            (false, '\x1b') => in_colour = true,
            (true, c) => in_colour = !c.is_ascii_alphabetic(),
            (false, _) => count += 1,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_colours_take_no_room() {
        assert_eq!(wrap("one two three", 7), "one two\nthree");
        assert_eq!(
            wrap("one\n  two three four", 11),
            "one\n  two three\n  four"
        );
        assert_eq!(wrap("\x1b[31mone\x1b[0m two", 7), "\x1b[31mone\x1b[0m two");
        assert_eq!(wrap("a /very/long/path b", 6), "a\n/very/long/path\nb");
        assert_eq!(wrap("keeps  what  fits", 40), "keeps  what  fits");
        assert_eq!(wrap("", 3), "");
    }
}
