//! `mainstay demo`: Mainstay at work, with three bundled servers that are broken on purpose.

pub(crate) mod server;
