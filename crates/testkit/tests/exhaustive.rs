//! Every reachable state of the real machine, the laws on every edge, and proof that the laws can be broken.

use mainstay_core::policy::{
    BackoffPolicy, ConnectPolicy, KeepalivePolicy, Policy, RenewalPolicy, StopPolicy,
    SuspicionPolicy, WakePolicy,
};
use mainstay_testkit::explorer::atlas::Atlas;
use mainstay_testkit::explorer::{Setup, defect, explore, replay};

/// Small numbers: few enough to enumerate, different enough to tell the deadlines apart.
fn small(exclusive: bool) -> Policy {
    Policy {
        exclusive,
        lazy: false,
        idle_shutdown_ms: None,
        connect: ConnectPolicy {
            spawn_ms: 2,
            greet_ms: 2,
            list_ms: 2,
            total_ms: 3,
        },
        open_interval_ms: 2,
        backoff: BackoffPolicy {
            base_ms: 1,
            cap_ms: 2,
            retry_after_ms_min: 3,
            retry_after_ms_max: 3,
        },
        budget: 1,
        stable_ms: 2,
        parked_probe_ms: Some(3),
        parked_call_interval_ms: 2,
        keepalive: None,
        suspicion: SuspicionPolicy {
            timeout_ms: 1,
            misses: 2,
        },
        drain_ms: 1,
        stop: StopPolicy {
            close_ms: 1,
            terminate_ms: 1,
            kill_ms: 1,
        },
        renewals: RenewalPolicy {
            window_ms: 3,
            max: 1,
            retiring_max: 1,
        },
        wake: WakePolicy {
            spread_ms: 2,
            grace_ms: 2,
        },
    }
}

fn keepalive() -> Option<KeepalivePolicy> {
    Some(KeepalivePolicy {
        idle_ms: 2,
        timeout_ms: 1,
        misses: 2,
    })
}

/// A child process.
fn process() -> Setup {
    let policy = Policy {
        budget: 2,
        ..small(true)
    };
    Setup {
        name: "process",
        policies: vec![policy],
        seeds: vec![0, 3],
        without: vec![],
    }
}

/// A server over HTTP whose replacements overlap.
fn http() -> Setup {
    let policy = Policy {
        keepalive: keepalive(),
        budget: 2,
        ..small(false)
    };
    Setup {
        name: "http",
        policies: vec![policy],
        seeds: vec![0],
        without: vec!["woke", "sleep", "stagger"],
    }
}

/// A server over HTTP on a machine that sleeps, whose network changes, and whose servers die together. What a runtime can
/// say besides is explored elsewhere.
fn waking() -> Setup {
    let policy = small(false);
    let without = vec![
        "tick",
        "phase",
        "life",
        "traffic",
        "drained",
        "poke (config)",
        "poke (credentials)",
        "server closing",
        "replace",
    ];
    Setup {
        name: "waking http",
        policies: vec![policy],
        seeds: vec![0],
        without,
    }
}

/// A server that rests until it is called, and again when nobody calls any more.
fn lazy() -> Setup {
    let policy = Policy {
        lazy: true,
        idle_shutdown_ms: Some(2),
        parked_probe_ms: None,
        ..small(true)
    };
    Setup {
        name: "lazy process",
        policies: vec![policy],
        seeds: vec![0],
        without: vec![],
    }
}

/// A server that the config turns from HTTP into a process and back. Two old generations may retire at a time; budget
/// and phases are explored elsewhere.
fn turning() -> Setup {
    let renewals = RenewalPolicy {
        window_ms: 3,
        max: 1,
        retiring_max: 2,
    };
    let http = Policy {
        budget: 0,
        renewals,
        ..small(false)
    };
    let process = Policy {
        budget: 0,
        ..small(true)
    };
    let without = vec![
        "suspect",
        "poke (network)",
        "traffic",
        "life",
        "phase",
        "tick",
        "woke",
        "sleep",
        "stagger",
        "poke (credentials)",
    ];
    Setup {
        name: "turning",
        policies: vec![http, process],
        seeds: vec![0],
        without,
    }
}

/// Everything that is explored, the quickest first.
fn setups() -> [Setup; 5] {
    [lazy(), process(), waking(), turning(), http()]
}

/// Laws 1 to 12 and 26, as far as they are the lifecycle's: see the messages in the explorer's world.
#[test]
fn every_reachable_state_keeps_the_laws() {
    let mut atlas = Atlas::default();
    let (mut worlds, mut transitions) = (0, 0);
    for setup in setups() {
        let report = explore(&setup, None);
        println!(
            "{}: {} worlds, {} transitions, {:.1} s",
            setup.name,
            report.worlds,
            report.transitions,
            report.took.as_secs_f64()
        );
        if let Some(trace) = &report.violation {
            panic!("{}: {trace}\n{}", setup.name, replay(&setup, None, trace));
        }
        worlds += report.worlds;
        transitions += report.transitions;
        atlas.merge(report.atlas);
    }
    println!("together: {worlds} worlds, {transitions} transitions");
    assert!(
        worlds > 50_000,
        "so few worlds mean that the explorer no longer explores: {worlds}"
    );
    compare_with_docs(&atlas.render());
}

/// The table in the docs is what the machine does.
fn compare_with_docs(rendered: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/states.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let written = std::fs::write(path, rendered);
        assert!(
            written.is_ok(),
            "docs/states.md cannot be written: {written:?}"
        );
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == rendered,
        "docs/states.md is stale: run `UPDATE_DOCS=1 cargo test -p mainstay-testkit --test exhaustive`"
    );
}

/// A check that cannot fail proves nothing: each planted defect must be found.
#[test]
fn every_planted_defect_is_found() {
    let mut missed = Vec::new();
    for defect in defect::ALL {
        let found = setups().iter().find_map(|setup| {
            let trace = explore(setup, Some(defect)).violation?;
            Some(format!(
                "{} ({}): {trace}",
                format_args!("{defect:?}"),
                setup.name
            ))
        });
        match found {
            Some(found) => println!("{found}"),
            None => missed.push(defect),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
