//! Patterns for names, and which names they let through.

use std::fmt;

/// A pattern for names: `*` stands for any characters (none too), `?` for exactly one, everything else for itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Glob(String);

impl Glob {
    /// Every text is a pattern.
    pub fn new(pattern: impl Into<String>) -> Glob {
        Glob(pattern.into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `name` matches. Takes time proportional to the product of both lengths at worst.
    pub fn matches(&self, name: &str) -> bool {
        let mut pattern = self.0.as_str();
        let mut name = name;
        // After a `*`: the pattern behind it, and the name from where the star's share may still grow.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let mut rest = pattern.chars();
            let mut left = name.chars();
            match (rest.next(), left.next()) {
                (Some('*'), _) => {
                    pattern = rest.as_str();
                    retry = Some((pattern, name));
                }
                (None, None) => return true,
                (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                    pattern = rest.as_str();
                    name = left.as_str();
                }
                (Some(_) | None, _) => {
                    let Some((behind, from)) = retry else {
                        return false;
                    };
                    let mut from = from.chars();
                    if from.next().is_none() {
                        return false;
                    }
                    pattern = behind;
                    name = from.as_str();
                    retry = Some((behind, name));
                }
            }
        }
    }
}

impl Glob {
    /// Whether some name that begins with `prefix` matches.
    #[must_use]
    pub fn can_begin_with(&self, prefix: &str) -> bool {
        let mut pattern = self.0.chars();
        for found in prefix.chars() {
            match pattern.next() {
                // It stands for the rest, whatever comes behind it.
                Some('*') => return true,
                Some('?') => {}
                Some(wanted) if wanted == found => {}
                Some(_) | None => return false,
            }
        }
        true
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Which of some names are exposed. The default exposes all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ToolFilter {
    /// Only names that match one of these; `None`: all. An empty list exposes nothing.
    pub include: Option<Vec<Glob>>,
    /// Never names that match one of these, also when included.
    pub exclude: Vec<Glob>,
}

impl ToolFilter {
    /// Whether this name is exposed.
    pub fn allows(&self, name: &str) -> bool {
        allowed(self.include.as_deref(), &self.exclude, name)
    }

    /// Whether every name is exposed.
    pub fn is_open(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty()
    }
}

/// Whether a name is among those included, if only some are, and not among those excluded.
pub(super) fn allowed(include: Option<&[Glob]>, exclude: &[Glob], name: &str) -> bool {
    let any = |patterns: &[Glob]| patterns.iter().any(|pattern| pattern.matches(name));
    include.is_none_or(any) && !any(exclude)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, matches) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("read_*", "read_file", true),
            ("read_*", "read_", true),
            ("read_*", "pre_read_file", false),
            ("*_file", "read_file", true),
            ("*_file", "read_file_x", false),
            ("r?ad", "read", true),
            ("r?ad", "rad", false),
            ("?", "é", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a*a", "a", false),
            ("a.c", "abc", false),
            ("**", "x", true),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(name),
                matches,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn exclude_wins_over_include() {
        let filter = ToolFilter {
            include: Some(vec![Glob::new("read_*"), Glob::new("list")]),
            exclude: vec![Glob::new("*_secret")],
        };
        assert!(filter.allows("read_file") && filter.allows("list"));
        assert!(!filter.allows("read_secret") && !filter.allows("write_file"));
        assert!(ToolFilter::default().allows("") && ToolFilter::default().is_open());
        assert!(
            !ToolFilter {
                include: Some(vec![]),
                exclude: vec![]
            }
            .allows("read_file")
        );
    }

    /// The definition, without cleverness.
    fn matches_slowly(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|skip| matches_slowly(rest, &name[skip..])),
            Some((wanted, rest)) => name.split_first().is_some_and(|(found, left)| {
                (*wanted == '?' || wanted == found) && matches_slowly(rest, left)
            }),
        }
    }

    proptest! {
        #[test]
        fn a_name_that_matches_begins_with_what_it_can_begin_with(pattern in "[ab*?]{0,6}", name in "[ab]{0,6}", cut in 0_usize..7) {
            let pattern = Glob::new(pattern);
            let prefix = &name[..cut.min(name.len())];
            if pattern.matches(&name) {
                prop_assert!(pattern.can_begin_with(prefix));
            }
            if !pattern.can_begin_with(prefix) {
                let tails = ["", "a", "b", "aa", "ab", "ba", "bb", "aaaa", "abab"];
                let mut names = tails.iter().map(|tail| [prefix, tail].concat());
                prop_assert!(names.all(|name| !pattern.matches(&name)));
            }
        }

        #[test]
        fn matching_is_what_its_definition_says(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            let slow = matches_slowly(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>());
            prop_assert_eq!(Glob::new(pattern).matches(&name), slow);
        }
    }
}
