//! `misbehave`: the misbehaving stdio server as a program of its own. `misbehave --help` lists the flags; the tools describe
//! themselves in `tools/list`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mainstay_testkit::stdio_server::run(&[], std::env::args().skip(1))
}
