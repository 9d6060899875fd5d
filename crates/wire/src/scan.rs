//! A strict, iterative JSON scanner over text that is already known to be UTF-8.
//!
//! It validates (grammar, literals, numbers, escapes, control characters) and reports where members lie. It builds
//! nothing and never recurses on the input, so nesting costs one bit a level instead of a stack frame (F247).

use smallvec::SmallVec;

/// Byte range inside one text. `u32` keeps an indexed message small; [`Scanner::new`] refuses longer texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Both ends are offsets inside a text that [`Scanner::new`] accepted, hence within `u32`.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start: clamp(start),
            end: clamp(end),
        }
    }

    #[inline]
    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    #[inline]
    pub(crate) fn end(self) -> usize {
        self.end as usize
    }

    #[inline]
    pub(crate) fn of(self, text: &str) -> &str {
        text.get(self.start()..self.end()).unwrap_or_default()
    }
}

#[inline]
fn clamp(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// One member of an object: the key with its quotes, and the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) key: Span,
    pub(crate) value: Span,
}

impl Member {
    /// Whether the decoded key is `name`.
    pub(crate) fn is(&self, text: &str, name: &str) -> bool {
        key_is(self.key.of(text), name)
    }
}

/// Compares a quoted key with a plain name; decodes only if the key holds an escape.
pub(crate) fn key_is(quoted: &str, name: &str) -> bool {
    key_among(quoted, &[name]).is_some()
}

/// Which of `names` a quoted key is; escapes do not hide one.
#[inline]
pub(crate) fn key_among(quoted: &str, names: &[&str]) -> Option<usize> {
    let inner = inner_of(quoted);
    let plain = names.iter().position(|name| inner == *name);
    if plain.is_some() || !inner.as_bytes().contains(&b'\\') {
        return plain;
    }
    let decoded: String = serde_json::from_str(quoted).ok()?;
    names.iter().position(|name| decoded == *name)
}

/// The text between the quotes, escapes untouched.
pub(crate) fn inner_of(quoted: &str) -> &str {
    quoted
        .get(1..quoted.len().saturating_sub(1))
        .unwrap_or_default()
}

/// Why a scan ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not JSON, first noticed at this offset.
    Syntax(usize),
    /// More containers inside each other than allowed.
    TooDeep,
}

/// A cursor over one text.
#[derive(Debug)]
pub(crate) struct Scanner<'t> {
    text: &'t [u8],
    pos: usize,
    depth_max: usize,
    /// The most containers inside each other so far.
    deepest: usize,
}

impl<'t> Scanner<'t> {
    /// `depth_max` counts containers inside each other; the outermost one is 1.
    pub(crate) fn new(text: &'t str, depth_max: usize) -> Result<Self, Fault> {
        if u32::try_from(text.len()).is_err() {
            return Err(Fault::Syntax(u32::MAX as usize));
        }
        Ok(Self {
            text: text.as_bytes(),
            pos: 0,
            depth_max,
            deepest: 0,
        })
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    #[inline]
    pub(crate) fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.pos += 1;
        }
    }

    /// How many containers were inside each other at most; the outermost one is 1.
    pub(crate) fn deepest(&self) -> usize {
        self.deepest
    }

    /// Nothing but white space may follow.
    pub(crate) fn expect_end(&mut self) -> Result<(), Fault> {
        self.skip_space();
        if self.pos == self.text.len() {
            Ok(())
        } else {
            Err(self.fault())
        }
    }

    fn fault(&self) -> Fault {
        Fault::Syntax(self.pos)
    }

    /// Walks one object whose `{` is next; `open` containers surround it. `on` gets each quoted key and must consume
    /// exactly one value, whose span it returns.
    pub(crate) fn object<F>(&mut self, open: usize, mut on: F) -> Result<Span, Fault>
    where
        F: FnMut(&mut Self, Span) -> Result<(), Fault>,
    {
        self.skip_space();
        let start = self.pos;
        self.enter(open, b'{')?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.pos += 1;
            return Ok(Span::new(start, self.pos));
        }
        loop {
            let key = self.key()?;
            on(self, key)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.pos += 1,
                Some(b'}') => {
                    self.pos += 1;
                    return Ok(Span::new(start, self.pos));
                }
                _ => return Err(self.fault()),
            }
        }
    }

    /// Walks one array whose `[` is next; `on` must consume exactly one value each time.
    pub(crate) fn array<F>(&mut self, open: usize, mut on: F) -> Result<Span, Fault>
    where
        F: FnMut(&mut Self) -> Result<(), Fault>,
    {
        self.skip_space();
        let start = self.pos;
        self.enter(open, b'[')?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.pos += 1;
            return Ok(Span::new(start, self.pos));
        }
        loop {
            on(self)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.pos += 1,
                Some(b']') => {
                    self.pos += 1;
                    return Ok(Span::new(start, self.pos));
                }
                _ => return Err(self.fault()),
            }
        }
    }

    fn enter(&mut self, open: usize, bracket: u8) -> Result<(), Fault> {
        if self.peek() != Some(bracket) {
            return Err(self.fault());
        }
        if open >= self.depth_max {
            return Err(Fault::TooDeep);
        }
        self.deepest = self.deepest.max(open + 1);
        self.pos += 1;
        Ok(())
    }

    /// Consumes one value inside `open` containers.
    pub(crate) fn value(&mut self, open: usize) -> Result<Span, Fault> {
        self.skip_space();
        let start = self.pos;
        match self.peek() {
            Some(b'{' | b'[') => self.container(open)?,
            _ => self.scalar()?,
        }
        Ok(Span::new(start, self.pos))
    }

    fn container(&mut self, outer: usize) -> Result<(), Fault> {
        let mut stack = BitStack::default();
        'value: loop {
            self.skip_space();
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if outer + stack.len >= self.depth_max {
                        return Err(Fault::TooDeep);
                    }
                    self.deepest = self.deepest.max(outer + stack.len + 1);
                    self.pos += 1;
                    self.skip_space();
                    let object = bracket == b'{';
                    if self.peek() == Some(if object { b'}' } else { b']' }) {
                        self.pos += 1;
                    } else {
                        stack.push(object);
                        if object {
                            self.key()?;
                        }
                        continue 'value;
                    }
                }
                _ => self.scalar()?,
            }
            loop {
                let Some(object) = stack.top() else {
                    return Ok(());
                };
                self.skip_space();
                match (self.peek(), object) {
                    (Some(b','), true) => {
                        self.pos += 1;
                        self.key()?;
                        continue 'value;
                    }
                    (Some(b','), false) => {
                        self.pos += 1;
                        continue 'value;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.pos += 1;
                        stack.pop();
                    }
                    _ => return Err(self.fault()),
                }
            }
        }
    }

    /// A quoted key and its colon.
    #[inline]
    fn key(&mut self) -> Result<Span, Fault> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return Err(self.fault());
        }
        let key = self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.fault());
        }
        self.pos += 1;
        Ok(key)
    }

    fn scalar(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.fault()),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Fault> {
        if self.text[self.pos..].starts_with(word) {
            self.pos += word.len();
            Ok(())
        } else {
            Err(self.fault())
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.pos += 1;
        }
        if self.peek() == Some(b'0') {
            self.pos += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.pos += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.pos += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.pos += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let from = self.pos;
        while let Some(b'0'..=b'9') = self.peek() {
            self.pos += 1;
        }
        if self.pos == from {
            Err(self.fault())
        } else {
            Ok(())
        }
    }

    /// A string whose opening quote is next. The span includes both quotes.
    #[inline]
    fn string(&mut self) -> Result<Span, Fault> {
        let start = self.pos;
        self.pos += 1;
        loop {
            // Most strings end within eight bytes or two times eight; do not even call for those.
            self.pos += match self.text.get(self.pos..).and_then(<[u8]>::first_chunk) {
                Some(word) => match first_special(*word) {
                    Some(plain) => plain,
                    None => 8 + plain_run(&self.text[self.pos + 8..]),
                },
                None => words(&self.text[self.pos..]),
            };
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(Span::new(start, self.pos));
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.fault()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        self.pos += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.pos += 1;
                Ok(())
            }
            Some(b'u') => {
                self.pos += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.fault());
                    }
                    self.pos += 1;
                }
                Ok(())
            }
            _ => Err(self.fault()),
        }
    }
}

/// How many bytes from the start need no attention inside a string: neither quote, backslash nor control character.
///
/// Short runs are answered eight bytes at a time; long ones in blocks whose check the compiler turns into vector
/// instructions, which is what makes a 1 MiB result cheap.
fn plain_run(bytes: &[u8]) -> usize {
    const NEAR: usize = 32;
    const BLOCK: usize = 64;
    let near = words(&bytes[..bytes.len().min(NEAR)]);
    if near < NEAR || bytes.len() <= NEAR {
        return near;
    }
    let mut at = NEAR;
    let (blocks, _) = bytes[NEAR..].as_chunks::<BLOCK>();
    for block in blocks {
        let special = block.iter().fold(0_u8, |seen, &b| {
            seen | u8::from(b < 0x20) | u8::from(b == b'"') | u8::from(b == b'\\')
        });
        if special != 0 {
            break;
        }
        at += BLOCK;
    }
    at + words(&bytes[at..])
}

/// The same, eight bytes at a time.
#[inline]
fn words(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        if let Some(plain) = first_special(*chunk) {
            return index * 8 + plain;
        }
    }
    let plain = rest
        .iter()
        .take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\')
        .count();
    chunks.len() * 8 + plain
}

/// Which of eight bytes is the first that needs attention.
#[inline]
fn first_special(bytes: [u8; 8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(bytes);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = word ^ (ONES * (b'"' as u64));
    let quote = quote.wrapping_sub(ONES) & !quote;
    let slash = word ^ (ONES * (b'\\' as u64));
    let slash = slash.wrapping_sub(ONES) & !slash;
    // A borrow can only disturb bytes above the first hit, so the lowest set bit is exact.
    let hits = (control | quote | slash) & HIGHS;
    (hits != 0).then(|| (hits.trailing_zeros() / 8) as usize)
}

/// One bit per open container: set for an object, clear for an array.
#[derive(Debug, Default)]
struct BitStack {
    words: SmallVec<[u64; 4]>,
    len: usize,
}

impl BitStack {
    fn push(&mut self, object: bool) {
        let (word, bit) = (self.len / 64, self.len % 64);
        if word == self.words.len() {
            self.words.push(0);
        }
        let mask = 1_u64 << bit;
        if object {
            self.words[word] |= mask;
        } else {
            self.words[word] &= !mask;
        }
        self.len += 1;
    }

    fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    #[inline]
    fn top(&self) -> Option<bool> {
        let last = self.len.checked_sub(1)?;
        Some(self.words[last / 64] >> (last % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str, depth_max: usize) -> Result<(), Fault> {
        let mut scanner = Scanner::new(text, depth_max)?;
        scanner.value(0)?;
        scanner.expect_end()
    }

    #[test]
    fn grammar_is_strict() {
        for good in [
            "0",
            "-0",
            "-1.5e+10",
            "1E5",
            "true",
            "null",
            "\"\"",
            "[]",
            "{}",
            "[1,[2,{\"a\":[]}]]",
            " { \"a\" : 1 , \"b\" : [ ] } ",
            r#""\u00e9\n\\\"""#,
            "\"\u{7f}é\u{2028}\"",
        ] {
            assert_eq!(whole(good, 64), Ok(()), "{good}");
        }
        for bad in [
            "",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "tru",
            "nulL",
            "NaN",
            "'a'",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "[1 2]",
            "[}",
            "{]",
            "[",
            "{\"a\":",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u123",
            "\"a\nb\"",
            "\"a\u{0}b\"",
            "1 2",
            "//",
            "{\"a\":1}}",
        ] {
            assert!(matches!(whole(bad, 64), Err(Fault::Syntax(_))), "{bad}");
        }
    }

    #[test]
    fn plain_run_finds_the_first_special_byte_at_every_offset() {
        for len in 0..200 {
            for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                let mut bytes = vec![b'!'; len];
                for (i, b) in bytes.iter_mut().enumerate() {
                    *b = [0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xff, 0xa2, 0xdc][i % 10];
                }
                assert_eq!(plain_run(&bytes), len);
                for at in 0..len {
                    let kept = std::mem::replace(&mut bytes[at], special);
                    assert_eq!(plain_run(&bytes), at, "len {len} special {special}");
                    bytes[at] = kept;
                }
            }
        }
    }

    #[test]
    fn depth_is_counted_without_recursion() {
        // F247: nesting is a bit a level, not a stack frame.
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(whole(&deep(128), 128), Ok(()));
        assert_eq!(whole(&deep(129), 128), Err(Fault::TooDeep));
        assert_eq!(whole(&deep(1_000_000), usize::MAX), Ok(()));
        let mixed = format!("{}1{}", "[{\"a\":".repeat(100_000), "}]".repeat(100_000));
        assert_eq!(whole(&mixed, usize::MAX), Ok(()));
    }
}
