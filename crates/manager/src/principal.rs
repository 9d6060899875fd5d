//! On whose behalf something is done: a person or a program that the embedding gateway has identified.
//!
//! A principal is a name and nothing more. Who somebody is, and what they may do, was decided before it comes here; the
//! library only keeps apart what belongs to different principals (connections, credentials, catalogs, budgets).

use std::fmt;
use std::sync::Arc;

/// The name of whoever a call is made for. Equal names are the same principal; cheap to clone.
///
/// It may hold an address or an account name, so it is shown to operators and kept out of what other principals see.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(Arc<str>);

/// Longest name of a principal, in bytes.
pub const PRINCIPAL_BYTES_MAX: usize = 512;

impl Principal {
    /// A principal of that name. `None` for a name that is empty, longer than [`PRINCIPAL_BYTES_MAX`], or contains control
    /// characters.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= PRINCIPAL_BYTES_MAX;
        (fits && !name.chars().any(char::is_control)).then(|| Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({})", self.0)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_31_a_principal_is_one_line_of_bounded_length() {
        assert!(Principal::new("").is_none());
        assert!(Principal::new("ann\nbob").is_none());
        assert!(Principal::new(&"x".repeat(PRINCIPAL_BYTES_MAX + 1)).is_none());
        assert_eq!(Principal::new("ann").expect("a name").name(), "ann");
    }
}
