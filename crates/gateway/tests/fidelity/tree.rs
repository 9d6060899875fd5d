//! JSON taken apart without losing a byte: the independent judge of what was edited. Shares no code with Mainstay.

/// A value with all its spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    /// Members in order; `blank` is what stands around them, or between the braces if there are none.
    Object { members: Vec<Member>, blank: String },
    Array {
        items: Vec<(String, Tree, String)>,
        blank: String,
    },
    /// Everything else, as written.
    Plain(String),
}

/// One member: blanks, key as written, colon with its blanks, value, blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) lead: String,
    pub(crate) key: String,
    pub(crate) colon: String,
    pub(crate) value: Tree,
    pub(crate) trail: String,
}

impl Member {
    pub(crate) fn new(key: &str, value: Tree) -> Self {
        Self {
            lead: String::new(),
            key: serde_json::to_string(key).unwrap(),
            colon: ":".to_owned(),
            value,
            trail: String::new(),
        }
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        serde_json::from_str::<String>(&self.key).is_ok_and(|key| key == name)
    }
}

impl Tree {
    /// Takes valid JSON apart.
    pub(crate) fn read(text: &str) -> Self {
        let mut reader = Reader { text, at: 0 };
        let lead = reader.blanks();
        assert!(lead.is_empty(), "blanks before the value: {text}");
        let tree = reader.value();
        assert_eq!(
            reader.blanks() + &text[reader.at..],
            "",
            "after the value: {text}"
        );
        assert_eq!(tree.text(), text, "taking apart loses nothing");
        tree
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Plain(text) => out.push_str(text),
            Self::Object { members, blank } => {
                out.push('{');
                for (at, member) in members.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    for piece in [&member.lead, &member.key, &member.colon] {
                        out.push_str(piece);
                    }
                    member.value.write(out);
                    out.push_str(&member.trail);
                }
                out.push_str(blank);
                out.push('}');
            }
            Self::Array { items, blank } => {
                out.push('[');
                for (at, (lead, item, trail)) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    out.push_str(lead);
                    item.write(out);
                    out.push_str(trail);
                }
                out.push_str(blank);
                out.push(']');
            }
        }
    }

    pub(crate) fn get(&self, path: &[&str]) -> Option<&Self> {
        let Some((name, rest)) = path.split_first() else {
            return Some(self);
        };
        match self {
            Self::Object { members, .. } => {
                let member = members.iter().find(|member| member.is(name))?;
                member.value.get(rest)
            }
            Self::Array { .. } | Self::Plain(_) => None,
        }
    }

    /// The spelling of a member.
    pub(crate) fn raw(&self, path: &[&str]) -> Option<String> {
        self.get(path).map(Self::text)
    }

    /// The decoded string at a path.
    pub(crate) fn string(&self, path: &[&str]) -> Option<String> {
        serde_json::from_str(&self.raw(path)?).ok()
    }

    pub(crate) fn items(&self) -> Vec<&Self> {
        match self {
            Self::Array { items, .. } => items.iter().map(|(_, item, _)| item).collect(),
            Self::Object { .. } | Self::Plain(_) => panic!("no array: {}", self.text()),
        }
    }

    /// Puts a value in place of the old one, or behind the last member. Objects on the way are made. `true`: something
    /// is different now.
    pub(crate) fn set(&mut self, path: &[&str], raw: &str) -> bool {
        let Some((name, rest)) = path.split_first() else {
            let changed = self.text() != raw;
            *self = Self::read(raw);
            return changed;
        };
        if *self == Self::Plain("null".to_owned()) {
            *self = Self::read("{}");
        }
        let Self::Object { members, blank } = self else {
            panic!("{name} cannot be in {}", self.text());
        };
        if let Some(member) = members.iter_mut().find(|member| member.is(name)) {
            return member.value.set(rest, raw);
        }
        let mut value = Self::read(if rest.is_empty() { raw } else { "{}" });
        value.set(rest, raw);
        let mut member = Member::new(name, value);
        match members.last_mut() {
            Some(last) => member.trail = std::mem::take(&mut last.trail),
            None => member.lead = std::mem::take(blank),
        }
        members.push(member);
        true
    }

    /// Takes a member out, and the comma with it. `true`: there was one.
    pub(crate) fn remove(&mut self, path: &[&str]) -> bool {
        let Some((name, rest)) = path.split_first() else {
            return false;
        };
        let Self::Object { members, blank } = self else {
            return false;
        };
        let Some(at) = members.iter().position(|member| member.is(name)) else {
            return false;
        };
        if !rest.is_empty() {
            return members[at].value.remove(rest);
        }
        let gone = members.remove(at);
        if at < members.len() {
            members[at].lead = gone.lead;
        } else if let Some(last) = members.last_mut() {
            last.trail = gone.trail;
        } else {
            *blank = gone.lead + &gone.trail;
        }
        true
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes()[self.at]
    }

    fn blanks(&mut self) -> String {
        let start = self.at;
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        while self.text.as_bytes().get(self.at).is_some_and(is_blank) {
            self.at += 1;
        }
        self.text[start..self.at].to_owned()
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while self.peek() != b'"' {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        self.text[start..self.at].to_owned()
    }

    fn value(&mut self) -> Tree {
        match self.peek() {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => Tree::Plain(self.string()),
            _ => {
                let start = self.at;
                let ends =
                    |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
                while self
                    .text
                    .as_bytes()
                    .get(self.at)
                    .is_some_and(|byte| !ends(byte))
                {
                    self.at += 1;
                }
                Tree::Plain(self.text[start..self.at].to_owned())
            }
        }
    }

    fn object(&mut self) -> Tree {
        self.at += 1;
        let mut members = Vec::new();
        let mut lead = self.blanks();
        if self.peek() == b'}' {
            self.at += 1;
            return Tree::Object {
                members,
                blank: lead,
            };
        }
        loop {
            let key = self.string();
            let mut colon = self.blanks();
            assert_eq!(self.peek(), b':', "at {}", self.at);
            self.at += 1;
            colon.push(':');
            colon.push_str(&self.blanks());
            let value = self.value();
            let trail = self.blanks();
            members.push(Member {
                lead,
                key,
                colon,
                value,
                trail,
            });
            self.at += 1;
            if self.text.as_bytes()[self.at - 1] == b'}' {
                return Tree::Object {
                    members,
                    blank: String::new(),
                };
            }
            lead = self.blanks();
        }
    }

    fn array(&mut self) -> Tree {
        self.at += 1;
        let mut items = Vec::new();
        let mut lead = self.blanks();
        if self.peek() == b']' {
            self.at += 1;
            return Tree::Array { items, blank: lead };
        }
        loop {
            let item = self.value();
            let trail = self.blanks();
            items.push((lead, item, trail));
            self.at += 1;
            if self.text.as_bytes()[self.at - 1] == b']' {
                return Tree::Array {
                    items,
                    blank: String::new(),
                };
            }
            lead = self.blanks();
        }
    }
}
