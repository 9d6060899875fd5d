//! References to values that are kept outside of the configuration: `${file:…}`, `${secret:…}`, `${cmd:…}`.
//!
//! Only reads how they are written. Looking a value up may take long and is the vault's business.

use std::fmt;
use std::path::PathBuf;

use super::problem::Origin;
use super::template::{Reason, Template, Unset};

/// The longest name of a secret, in characters.
pub const SECRET_NAME_CHARS_MAX: usize = 128;

/// A reference to a value that is kept elsewhere. No `Debug`: the arguments of a command may be secrets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    kind: Kind,
    /// A path, a name, or the words of a command.
    parts: Vec<Template>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    File,
    Secret,
    Command,
}

/// What is looked up, with its variables replaced. `Debug` and `Display` show a command's program and not its arguments.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// The contents of a file, without one line end at its end.
    File(PathBuf),
    /// A value in the keyring of the operating system.
    Secret(String),
    /// What a command prints, without one line end at its end: its program and its arguments.
    Command(Vec<String>),
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lookup::File(path) => write!(f, "${{file:{}}}", path.display()),
            Lookup::Secret(name) => write!(f, "${{secret:{name}}}"),
            Lookup::Command(words) => {
                let program = words.first().map_or("", String::as_str);
                write!(
                    f,
                    "${{cmd:{program}{}}}",
                    if words.len() > 1 { " …" } else { "" }
                )
            }
        }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lookup({self})")
    }
}

impl Stored {
    /// Reads what stands between the braces. `None`: it is no such reference.
    pub(super) fn parse(inside: &str) -> Option<Result<Self, Reason>> {
        let (prefix, rest) = inside.split_once(':')?;
        let (kind, words) = match prefix {
            "file" => (Kind::File, Some(vec![rest.trim().to_owned()])),
            "secret" => (Kind::Secret, Some(vec![rest.to_owned()])),
            "cmd" => (Kind::Command, words(rest)),
            _ => return None,
        };
        let bad = match kind {
            Kind::File => Reason::NoPath,
            Kind::Secret => Reason::BadSecretName,
            Kind::Command => Reason::BadCommand,
        };
        let Some(words) = words.filter(|words| words.first().is_some_and(|word| !word.is_empty()))
        else {
            return Some(Err(bad));
        };
        if kind == Kind::Secret && !words.first().is_some_and(|name| is_secret_name(name)) {
            return Some(Err(bad));
        }
        let parts: Vec<Template> = words.into_iter().map(Template::new).collect();
        if parts.iter().any(Template::has_more_than_variables) {
            return Some(Err(Reason::NestedLookup));
        }
        Some(Ok(Self { kind, parts }))
    }

    /// Where the reference ends that begins with this text: the place of its closing brace. Braces of references within it,
    /// and in the quotes of a command, do not count.
    pub(super) fn end(inside: &str) -> Option<usize> {
        let is_command = inside.starts_with("cmd:");
        let (mut depth, mut quote, mut escaped, mut last) = (0_usize, None, false, ' ');
        for (at, letter) in inside.char_indices() {
            if escaped {
                escaped = false;
            } else if is_command && letter == '\\' && quote != Some('\'') {
                escaped = true;
            } else if is_command && quote == Some(letter) {
                quote = None;
            } else if is_command && quote.is_none() && matches!(letter, '\'' | '"') {
                quote = Some(letter);
            } else if letter == '{' && last == '$' {
                depth += 1;
            } else if letter == '}' && depth > 0 {
                depth -= 1;
            } else if letter == '}' && quote.is_none() {
                return Some(at);
            }
            last = letter;
        }
        None
    }

    /// The names of the variables in it.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(Template::variables)
    }

    /// What is to be looked up. A path is relative to the file that the reference stands in; `~/` is the home directory.
    pub(super) fn lookup(
        &self,
        env: &dyn Fn(&str) -> Option<String>,
        origin: Option<&Origin>,
    ) -> Result<Lookup, Unset> {
        let parts = self.parts.iter().map(|part| part.resolve(env));
        let mut parts: Vec<String> = parts.collect::<Result<_, _>>().map_err(|unset| Unset {
            origin: origin.cloned().map(Box::new),
            ..unset
        })?;
        Ok(match self.kind {
            Kind::File => {
                let written = parts.pop().unwrap_or_default();
                let path = match (written.strip_prefix("~/"), env("HOME")) {
                    (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
                    (Some(_) | None, _) => PathBuf::from(&written),
                };
                let dir = origin.and_then(|origin| origin.file.parent());
                Lookup::File(dir.map_or_else(|| path.clone(), |dir| dir.join(&path)))
            }
            Kind::Secret => Lookup::Secret(parts.pop().unwrap_or_default()),
            Kind::Command => Lookup::Command(parts),
        })
    }
}

impl fmt::Display for Stored {
    /// As it was written, except that of a command only the program is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.parts.first().map_or("", Template::raw);
        match self.kind {
            Kind::File => write!(f, "file:{first}"),
            Kind::Secret => write!(f, "secret:{first}"),
            Kind::Command if self.parts.len() > 1 => write!(f, "cmd:{first} …"),
            Kind::Command => write!(f, "cmd:{first}"),
        }
    }
}

/// Whether a secret may be called that: letters, digits, `_`, `-`, `.` and `/`, beginning with a letter or digit.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    name.len() <= SECRET_NAME_CHARS_MAX
        && name.chars().all(plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Splits a command line as a shell would: blanks, both kinds of quotes, backslashes. Nothing else of a shell means
/// anything. Blanks within `${…}` do not split. `None` if a quote stays open.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let (mut depth, mut last) = (0_usize, ' ');
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().push(letters.next()?),
            ('{', _) if last == '$' => {
                depth += 1;
                word.get_or_insert_default().push(letter);
            }
            ('}', _) if depth > 0 => {
                depth -= 1;
                word.get_or_insert_default().push(letter);
            }
            (letter, Some(_)) => word.get_or_insert_default().push(letter),
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, None) if letter.is_whitespace() && depth == 0 => words.extend(word.take()),
            (letter, None) => word.get_or_insert_default().push(letter),
        }
        last = letter;
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/ada".to_owned()),
            "ITEM" => Some("an item".to_owned()),
            _ => None,
        }
    }

    fn looked_up(written: &str) -> Vec<Lookup> {
        let template = Template::new(written);
        let lookups = template.lookups(&env).expect("all variables are set");
        assert_eq!(template.unset(&env), [], "{written}");
        lookups
    }

    #[test]
    fn stored_references_are_read_with_their_variables_and_quotes() {
        let command =
            |words: &[&str]| Lookup::Command(words.iter().map(|word| (*word).to_owned()).collect());
        for (written, lookup) in [
            (
                "Bearer ${file:/run/secrets/t}",
                Lookup::File("/run/secrets/t".into()),
            ),
            ("${file:~/t}x", Lookup::File("/home/ada/t".into())),
            ("${file:${HOME}/a b}", Lookup::File("/home/ada/a b".into())),
            (
                "${secret:team/gh.token-1}",
                Lookup::Secret("team/gh.token-1".to_owned()),
            ),
            (
                "${cmd:op read op://v/i/f}",
                command(&["op", "read", "op://v/i/f"]),
            ),
            (
                "${cmd:op read \"op://v/${ITEM}/f\" x}",
                command(&["op", "read", "op://v/an item/f", "x"]),
            ),
            (
                "${cmd:op ${ITEM} '.a}' \\}}",
                command(&["op", "an item", ".a}", "}"]),
            ),
        ] {
            assert_eq!(looked_up(written), [lookup], "{written}");
        }
        assert_eq!(looked_up("${secret:a}:${secret:b}").len(), 2);
    }

    #[test]
    fn stored_references_that_cannot_work_say_why() {
        for (written, reason) in [
            ("${file:}", Reason::NoPath),
            ("${secret:a b}", Reason::BadSecretName),
            ("${secret:}", Reason::BadSecretName),
            ("${secret:../x}", Reason::BadSecretName),
            ("${cmd: }", Reason::BadCommand),
            ("${cmd:a 'b}", Reason::BadCommand),
            ("${file:${secret:a}}", Reason::NestedLookup),
        ] {
            let unset = Template::new(written).unset(&env);
            let reasons: Vec<Reason> = unset.iter().map(|unset| unset.reason).collect();
            assert!(
                reasons == [reason] || (written.contains('\'') && reasons.is_empty()),
                "{written}: {reasons:?}"
            );
        }
        let unset = Template::new("${file:/x/${MISSING}}").unset(&env);
        assert_eq!((unset.len(), unset[0].reason), (1, Reason::NotSet));
    }

    #[test]
    fn law_31_a_command_is_shown_without_its_arguments() {
        let template = Template::hidden("pw ${cmd:tool --password hunter2}");
        let shown = format!(
            "{template} {template:?} {:?}",
            looked_up("${cmd:tool hunter2}")
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("cmd:tool …"), "{shown}");
    }
}
