//! The seeds of the fuzz target `http`, whole and cut short, through the same checks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test speaks by panicking, and its helpers are part of it"
)]

// The body of the fuzz target.
#[path = "../../../fuzz/src/http_face.rs"]
#[allow(
    unreachable_pub,
    reason = "it is the public face of another crate as well"
)]
mod http_face;

use std::path::Path;

/// F247 and law 30: nothing that can be sent breaks the door.
#[test]
fn law_30_http_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/http");
    let (mut seeds, mut served, mut refused) = (0, 0, 0);
    for entry in std::fs::read_dir(&folder).expect("the seeds are committed") {
        let path = entry.expect("a readable folder").path();
        let data = std::fs::read(&path).expect("a readable seed");
        let cuts = (0..data.len())
            .step_by(1 + data.len() / 12)
            .chain([data.len()]);
        for end in cuts {
            // Which seed it was is worth more than the bare panic.
            match std::panic::catch_unwind(|| http_face::http(&data[..end])) {
                Ok(Some(200..=299)) => served += 1,
                Ok(Some(_)) => refused += 1,
                Ok(None) => {}
                Err(cause) => {
                    eprintln!("seed {}, the first {end} bytes", path.display());
                    std::panic::resume_unwind(cause);
                }
            }
        }
        seeds += 1;
    }
    assert!(seeds >= 30, "only {seeds} seeds");
    assert!(
        served >= 20 && refused >= 100,
        "{served} served, {refused} refused"
    );
}
