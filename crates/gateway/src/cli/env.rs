//! The environment variables that the command line reads. Each is declared here, and nowhere else.

/// The configuration file, as `--config`.
pub(crate) const CONFIG: &str = "MAINSTAY_CONFIG";
/// The local socket, as `--socket`.
pub(crate) const SOCKET: &str = "MAINSTAY_SOCKET";
/// The address to listen on, as `--listen`.
pub(crate) const LISTEN: &str = "MAINSTAY_LISTEN";
/// The state directory, as `--state-dir`.
pub(crate) const STATE_DIR: &str = "MAINSTAY_STATE_DIR";
/// The log filter, as `--log-level`.
pub(crate) const LOG: &str = "MAINSTAY_LOG";
/// Any value but the empty one switches colour off (a convention shared by many programs).
pub(crate) const NO_COLOR: &str = "NO_COLOR";
