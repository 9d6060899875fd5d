//! The numbers a lifecycle decides by: one [`Policy`] per server, built by the config from defaults and overrides.
//!
//! All durations are milliseconds. The defaults are the documented ones; every number is a setting. A policy is passed
//! into every step, so a changed one takes effect with the next decision; deadlines already running keep their time.

/// How one server is started, watched, retried and stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Whether two runtimes of this server must never exist at the same time (stdio: true, HTTP: false). An exclusive
    /// server is opened again only after the old process group is gone; another overlaps old and new (law 2).
    pub exclusive: bool,
    /// Start on the first call instead of at once.
    pub lazy: bool,
    /// Stop the server after this long without a call and go back to `Idle`. `None`: never. Only ever happens when
    /// nothing is in flight (F24).
    pub idle_shutdown_ms: Option<u64>,
    /// Deadlines of opening a connection.
    pub connect: ConnectPolicy,
    /// The least time between two opens of this server, on any path (law 10). Zero counts as one.
    pub open_interval_ms: u64,
    /// How long to wait after a failure.
    pub backoff: BackoffPolicy,
    /// Failures without proof of health in between before the server is parked: `budget + 1` attempts in all (law 9).
    pub budget: u32,
    /// A connection that has lasted this long without trouble is proven healthy.
    pub stable_ms: u64,
    /// A parked server is tried again this often, one attempt each. `None`: only when asked. Never for causes that
    /// need a human (law 11).
    pub parked_probe_ms: Option<u64>,
    /// A waiting call may cause one attempt of a parked server at most this often.
    pub parked_call_interval_ms: u64,
    /// Probing of idle links. `None`: only probed when a call raises suspicion.
    pub keepalive: Option<KeepalivePolicy>,
    /// Probing on suspicion, where there is no keepalive.
    pub suspicion: SuspicionPolicy,
    /// How long running calls may take to finish before a planned stop. Zero: not at all.
    pub drain_ms: u64,
    /// The escalation of a stop.
    pub stop: StopPolicy,
    /// How many session renewals are taken for granted.
    pub renewals: RenewalPolicy,
    /// How a wake-up of the machine, a change of its network and the deaths of many are taken.
    pub wake: WakePolicy,
}

/// Deadlines of one open, counted from the moment the start gate lets it through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectPolicy {
    /// Until the process runs or the endpoint is reached.
    pub spawn_ms: u64,
    /// For discovery or the handshake.
    pub greet_ms: u64,
    /// For listing everything completely.
    pub list_ms: u64,
    /// For all phases together. Signs of life extend a phase, never this.
    pub total_ms: u64,
}

/// Exponential, capped, fully jittered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackoffPolicy {
    /// Upper bound of the first delay; doubles with every further charge.
    pub base_ms: u64,
    /// Upper bound of every delay.
    pub cap_ms: u64,
    /// A server's Retry-After is raised to at least this.
    pub retry_after_ms_min: u64,
    /// A server's Retry-After is cut to at most this.
    pub retry_after_ms_max: u64,
}

/// When an idle link is probed and when silence is believed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeepalivePolicy {
    /// Probe after this long without any inbound traffic.
    pub idle_ms: u64,
    /// A probe not answered within this time is missed.
    pub timeout_ms: u64,
    /// Misses in a row that count as death. Zero counts as one.
    pub misses: u32,
}

/// How long each step of a stop may take before the next one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StopPolicy {
    /// After stdin was closed, or the session was deleted.
    pub close_ms: u64,
    /// After SIGTERM.
    pub terminate_ms: u64,
    /// After SIGKILL; repeated at this interval until nothing is left.
    pub kill_ms: u64,
}

/// Lost sessions of a proven connection are renewed without a charge (law 26), unless they come too often (F107).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RenewalPolicy {
    /// Length of the counting window.
    pub window_ms: u64,
    /// Free renewals per window; further ones are failures (`session-unstable`): charged, each waiting longer.
    pub max: u32,
    /// How many old generations may be on their way out in the background at the same time. When there are more, the
    /// next open waits for one of them. Zero counts as one.
    pub retiring_max: u32,
}

/// What happens to all servers at the same time must not make all of them act at the same time (law 12, F77, F226).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WakePolicy {
    /// What such an event makes due is put off by a random part of this time. Zero counts as one.
    pub spread_ms: u64,
    /// The first failure within this time after a wake-up is the sleep's and is not charged. Zero: every failure is.
    pub grace_ms: u64,
}

/// How a server without keepalive is probed when a call raises suspicion against it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SuspicionPolicy {
    /// A probe not answered within this time is missed.
    pub timeout_ms: u64,
    /// Misses in a row that count as death. Zero counts as one.
    pub misses: u32,
}

impl Policy {
    /// Defaults for a server that is a child process (stdio): exclusive, watched instead of probed.
    #[must_use]
    pub fn for_process() -> Policy {
        Policy {
            exclusive: true,
            lazy: false,
            idle_shutdown_ms: None,
            connect: ConnectPolicy {
                spawn_ms: 30_000,
                greet_ms: 60_000,
                list_ms: 30_000,
                total_ms: 60_000,
            },
            open_interval_ms: 1_000,
            backoff: BackoffPolicy {
                base_ms: 250,
                cap_ms: 30_000,
                retry_after_ms_min: 1_000,
                retry_after_ms_max: 600_000,
            },
            budget: 5,
            stable_ms: 60_000,
            parked_probe_ms: Some(300_000),
            parked_call_interval_ms: 10_000,
            keepalive: None,
            suspicion: SuspicionPolicy {
                timeout_ms: 10_000,
                misses: 2,
            },
            drain_ms: 10_000,
            stop: StopPolicy {
                close_ms: 3_000,
                terminate_ms: 3_000,
                kill_ms: 3_000,
            },
            renewals: RenewalPolicy {
                window_ms: 60_000,
                max: 10,
                retiring_max: 4,
            },
            wake: WakePolicy {
                spread_ms: 5_000,
                grace_ms: 60_000,
            },
        }
    }

    /// Defaults for a server reached over HTTP: replacements overlap, idle links are probed.
    #[must_use]
    pub fn for_http() -> Policy {
        Policy {
            exclusive: false,
            keepalive: Some(KeepalivePolicy {
                idle_ms: 60_000,
                timeout_ms: 10_000,
                misses: 3,
            }),
            ..Policy::for_process()
        }
    }
}

impl Default for Policy {
    /// [`Policy::for_process`].
    fn default() -> Policy {
        Policy::for_process()
    }
}
