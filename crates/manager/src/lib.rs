//! Placeholder while the workspace is laid out.
#[doc(hidden)]
pub mod process;
