//! Signing people in to servers: what a sign-in needs besides OAuth itself, which is the library's.
//!
//! A sign-in begins because somebody asked for it: with `mainstay login`, with the button of the dashboard, or by following
//! the link of a call that waits for it. Nothing here opens a browser, and a port is opened for exactly one sign-in and
//! closed with it (law 11, F203, F206). Which grant is whose, and every check of what an authorization server sends back,
//! is `mainstay::auth`'s business.
//!
//! [`Desk`] keeps the sign-ins of one process; `callback` is where browsers come back to, `visit` the links that calls
//! hand out, `page` what browsers are shown.

mod callback;
mod desk;
pub(crate) mod page;
pub(crate) mod visit;
pub(crate) mod web;

pub(crate) use self::desk::Origins;
pub use self::desk::{
    Desk, How, LoginBegun, LoginCourse, LoginWord, SignIn, SignInList, SignedOut, Trouble,
};
pub use self::page::is_web;
