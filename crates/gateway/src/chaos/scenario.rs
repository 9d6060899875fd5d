//! What a scenario is: an upstream that misbehaves, what a client does meanwhile, and what is asked of the target.
//!
//! Data only: `play` performs it, `verdict` judges it, and the documentation is written from it.

use mainstay_testkit::script::{Chaos, Problem, Transport};

/// One scenario.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    /// Its name, also the upstream's name in the target's configuration.
    pub(super) name: &'static str,
    /// What happens, in one sentence.
    pub(super) about: &'static str,
    /// The rows of the fault catalogue, as `F62 F64`.
    pub(super) faults: &'static str,
    /// The script of the upstream.
    pub(super) script: &'static str,
    /// What is special about the surroundings.
    pub(super) scene: Scene,
    /// What happens, in order.
    pub(super) steps: &'static [Do],
    /// What is asked beside the calls.
    pub(super) limits: Limits,
}

/// Surroundings that not every scenario has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// One upstream, up before the target.
    Plain,
    /// The upstream is started by a shell that is started by a shell, as package runners do (stdio).
    Launcher,
    /// There is a second upstream with this script.
    Neighbour(&'static str),
    /// The upstream comes up so many milliseconds after the target (HTTP).
    Late(u64),
    /// The target ends by SIGKILL instead of SIGTERM.
    TargetKilled,
}

/// One thing that the client does or that happens to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Do {
    /// So many calls, one after another; each must be answered.
    Calls(u32),
    /// So many calls at once; each must be answered.
    Together(u32),
    /// So many calls, one after another, that may end in an error, but not run twice.
    Risky(u32),
    /// A call that is being executed while this happens: it may end in an error, but not run twice.
    Caught(Act),
    /// A call whose argument and whose result are so many bytes long; it must be answered.
    Big(usize),
    /// Something happens to the upstream; done when this is.
    Act(Act),
    /// Nothing, for so many milliseconds.
    Pause(u64),
    /// The tools must be listed now.
    Listed,
}

/// What can be done to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// SIGKILL to the server's process; for HTTP it is started again at once.
    Kill,
    /// The process stands still for so many milliseconds, in the background.
    Freeze(u64),
    /// The HTTP server goes away, and comes back after so many milliseconds without its memory, in the background.
    Redeploy(u64),
    /// The HTTP server forgets all sessions.
    Forget,
    /// The HTTP server ends all push and listen streams.
    EndStreams,
    /// The HTTP server tells, so many times at once, that its tools changed.
    TellChanged(u32),
}

/// What is asked beside the calls; counted over the whole scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// No call may take longer, in milliseconds.
    pub(super) slowest_ms: u64,
    /// How often the process may be started (stdio).
    pub(super) starts_max: Option<usize>,
    /// How many `initialize` requests may come.
    pub(super) greetings_max: Option<usize>,
    /// How many listings (pages) may come.
    pub(super) lists_max: Option<usize>,
    /// How many GET and `subscriptions/listen` requests may come.
    pub(super) streams_max: Option<usize>,
}

/// Nothing but promptness is asked.
pub(super) const PROMPT: Limits = Limits {
    slowest_ms: 5_000,
    starts_max: None,
    greetings_max: None,
    lists_max: None,
    streams_max: None,
};

impl Scenario {
    /// The script of the upstream.
    pub(super) fn chaos(&self) -> Result<Chaos, Problem> {
        Chaos::find(self.script)
    }

    /// The transport of the upstream.
    pub(super) fn transport(&self) -> Result<Transport, Problem> {
        self.chaos().map(|chaos| chaos.transport)
    }

    /// The script of the second upstream, if there is one.
    pub(super) fn neighbour(&self) -> Option<&'static str> {
        match self.scene {
            Scene::Neighbour(script) => Some(script),
            Scene::Plain | Scene::Launcher | Scene::Late(_) | Scene::TargetKilled => None,
        }
    }

    /// What is asked of the target, in words: written from the same data that the verdict uses.
    pub(super) fn criterion(&self) -> String {
        let mut asked = Vec::new();
        let risky = |step: &Do| matches!(step, Do::Risky(_) | Do::Caught(_));
        let certain = |step: &Do| matches!(step, Do::Calls(_) | Do::Together(_) | Do::Big(_));
        let within = seconds(self.limits.slowest_ms);
        if self.steps.iter().any(certain) {
            asked.push(format!(
                "every call is answered within {within}, having run once"
            ));
        }
        if self.steps.iter().any(risky) {
            asked.push(format!(
                "a call that meets the fault ends within {within}, if need be in a typed error, and runs at most once"
            ));
        }
        if self.steps.contains(&Do::Listed) {
            asked.push("the tools stay listed meanwhile".to_owned());
        }
        let most = [
            (self.limits.starts_max, "starts"),
            (self.limits.greetings_max, "handshakes"),
            (self.limits.lists_max, "listings"),
            (self.limits.streams_max, "requests for a push stream"),
        ];
        for (limit, what) in most {
            asked.extend(limit.map(|limit| format!("at most {limit} {what}")));
        }
        match (self.scene, self.transport()) {
            (Scene::TargetKilled, _) => {
                asked.push("no process is left after the target was killed".to_owned());
            }
            (_, Ok(Transport::Stdio)) => {
                asked.push("no process is left after the target ended".to_owned());
            }
            (_, Ok(Transport::Http | Transport::Sse) | Err(_)) => {}
        }
        asked.join("; ")
    }
}

/// `1.5 s`, `20 s`.
pub(super) fn seconds(ms: u64) -> String {
    let tenths = ms.div_ceil(100);
    if tenths.is_multiple_of(10) {
        format!("{} s", tenths / 10)
    } else {
        format!("{}.{} s", tenths / 10, tenths % 10)
    }
}
