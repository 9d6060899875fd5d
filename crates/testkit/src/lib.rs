//! Fake servers that misbehave on request, and the means to watch what clients do to them. Test only.

pub mod explorer;
pub mod http_server;
pub mod soak;
pub mod stdio_server;
