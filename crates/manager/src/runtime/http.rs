//! Streamable HTTP towards a server: one POST per message, JSON or SSE answers, sessions, the push stream.
//!
//! This is a link, not a policy: it never reconnects a session, never re-sends a request and never decides whether the
//! server is healthy. It says what happened, typed, and the layers above decide.
