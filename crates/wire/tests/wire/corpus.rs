//! The committed seeds of the fuzz targets, run through the same checks.

use std::path::Path;

use crate::checks;

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(&folder).expect("the seeds are committed") {
        let path = entry.expect("a readable folder").path();
        let data = std::fs::read(&path).expect("a readable seed");
        // Which seed it was is worth more than the bare panic.
        if let Err(cause) = std::panic::catch_unwind(|| check(&data)) {
            eprintln!("seed {}", path.display());
            std::panic::resume_unwind(cause);
        }
        // Every seed cut short, too: what arrives before a peer dies.
        for end in (0..data.len()).step_by(1 + data.len() / 64) {
            check(&data[..end]);
        }
        seeds += 1;
    }
    assert!(seeds >= 10, "{target} has only {seeds} seeds");
}

#[test]
fn envelope_seeds() {
    run("envelope", checks::envelope);
}

#[test]
fn ndjson_seeds() {
    run("ndjson", checks::ndjson);
}

#[test]
fn sse_seeds() {
    run("sse", checks::sse);
}

#[test]
fn splice_seeds() {
    run("splice", checks::splice);
}
