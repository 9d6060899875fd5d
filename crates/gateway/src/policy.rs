//! Who sees and calls what: the rules of `mainstay.policy` applied to listings and to requests.
//!
//! `rules` decides, `limits` counts, `approvals` waits for people, `view` cuts listings to what their reader sees, and `gate` is
//! where a request passes all of it. Nothing here knows HTTP or the era of a client. Where no policy is configured nothing
//! is looked at beyond that.

pub(crate) mod approvals;
pub mod explain;
pub(crate) mod gate;
pub(crate) mod limits;
pub(crate) mod rules;
pub(crate) mod view;
