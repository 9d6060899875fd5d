//! Every reachable state of the real machine, the laws on every edge, and proof that the laws can be broken.

use mainstay_core::policy::{
    BackoffPolicy, ConnectPolicy, KeepalivePolicy, Policy, RenewalPolicy, StopPolicy,
    SuspicionPolicy,
};
use mainstay_testkit::explorer::atlas::Atlas;
use mainstay_testkit::explorer::{Setup, defect, explore};

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
    }
}

fn process() -> Setup {
    Setup {
        name: "process",
        policies: vec![Policy {
            budget: 2,
            ..small(true)
        }],
        seeds: vec![0, 3],
        without: vec![],
    }
}

fn http() -> Setup {
    Setup {
        name: "http",
        policies: vec![Policy { ..small(false) }],
        seeds: vec![0],
        without: vec![],
    }
}

#[test]
fn probe() {
    for setup in [process(), http()] {
        let report = explore(&setup, None);
        println!(
            "{} {} {:?} {}",
            report.worlds,
            report.transitions,
            report.took,
            report
                .violation
                .as_ref()
                .map(|v| v.to_string())
                .unwrap_or_default()
        );
        if let Some(v) = &report.violation {
            println!("{}", mainstay_testkit::explorer::replay(&setup, None, v));
        }
    }
    let _ = (
        Atlas::default(),
        defect::ALL,
        KeepalivePolicy {
            idle_ms: 1,
            timeout_ms: 1,
            misses: 1,
        },
    );
}
