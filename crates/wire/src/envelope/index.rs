//! Where the members of one object lie.

use smallvec::SmallVec;

use crate::scan::{Member, Span};

/// Beyond this many members an object is read again when something in it is asked for.
const MEMBERS_MAX: usize = 32;

/// The members of one object in the order they were written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    members: SmallVec<[Member; 6]>,
    /// Set if there are more members than are kept.
    truncated: bool,
}

impl Index {
    /// The index of something that is not an object.
    pub(crate) fn none() -> Self {
        Self {
            members: SmallVec::new(),
            truncated: true,
        }
    }

    pub(crate) fn push(&mut self, key: Span, value: Span) {
        if self.members.len() < MEMBERS_MAX {
            self.members.push(Member { key, value });
        } else {
            self.truncated = true;
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        !self.truncated
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The last member called `name` among those that are kept.
    pub(crate) fn find(&self, text: &str, name: &str) -> Option<&Member> {
        self.members
            .iter()
            .rev()
            .find(|member| member.is(text, name))
    }
}
