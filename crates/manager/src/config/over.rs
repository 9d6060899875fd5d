//! Which of two places says what: the settings of a server lie over the defaults, key by key.

use super::file::*;
use super::sandbox::SandboxOptions;
use super::suspicious::AskOptions;
use super::tools::ToolOptions;

/// The field-wise merge of two groups of settings: what is set above wins over what is set below.
macro_rules! over {
    ($above:expr, $below:expr, $shape:ident { $($field:ident),* $(,)? }) => {{
        let (above, below) = ($above, $below);
        $shape { $($field: above.$field.or_else(|| below.$field.clone())),* }
    }};
}

/// The same for a group that may be missing on either side.
fn over_group<T: Clone>(
    above: Option<T>,
    below: Option<&T>,
    merge: impl Fn(T, &T) -> T,
) -> Option<T> {
    match (above, below) {
        (Some(above), Some(below)) => Some(merge(above, below)),
        (above, below) => above.or_else(|| below.cloned()),
    }
}

impl ServerOptions {
    /// These settings with those of `below` where they say nothing, key by key inside groups too.
    #[expect(
        clippy::too_many_lines,
        reason = "one line per option, and a new one must not be forgotten here"
    )]
    pub(super) fn over(mut self, below: &ServerOptions) -> ServerOptions {
        self.tools = over_group(self.tools, below.tools.as_ref(), |above, below| {
            over!(
                above,
                below,
                ToolOptions {
                    include,
                    exclude,
                    rename,
                    describe,
                    arguments,
                    timeouts,
                    retry,
                    pin
                }
            )
        });
        self.timeouts = over_group(self.timeouts, below.timeouts.as_ref(), TimeoutOptions::over);
        self.restart = over_group(self.restart, below.restart.as_ref(), RestartOptions::over);
        self.keepalive = over_group(
            self.keepalive,
            below.keepalive.as_ref(),
            KeepaliveOptions::over,
        );
        self.retry = over_group(self.retry, below.retry.as_ref(), RetryOptions::over);
        self.suspicion = over_group(self.suspicion, below.suspicion.as_ref(), |above, below| {
            over!(above, below, SuspicionOptions { timeout_ms, misses })
        });
        self.catalog = over_group(self.catalog, below.catalog.as_ref(), CatalogOptions::over);
        self.connections = over_group(
            self.connections,
            below.connections.as_ref(),
            |above, below| {
                over!(
                    above,
                    below,
                    ConnectionOptions {
                        max,
                        per_user,
                        calls_per_user,
                        idle_ms,
                        lanes,
                        keep
                    }
                )
            },
        );
        self.sandbox = over_group(self.sandbox, below.sandbox.as_ref(), SandboxOptions::over);
        self.asks = over_group(self.asks, below.asks.as_ref(), AskOptions::over);
        self.stop = over_group(self.stop, below.stop.as_ref(), StopOptions::over);
        self.tls = over_group(self.tls, below.tls.as_ref(), |above, below| {
            over!(
                above,
                below,
                TlsOptions {
                    ca_file,
                    cert_file,
                    key_file
                }
            )
        });
        // A group that is set in either place is merged by now and set here, so the lines below leave it alone.
        over!(
            self,
            below,
            ServerOptions {
                enabled,
                required,
                startup,
                idle_shutdown_ms,
                protocol,
                scope,
                connections,
                tools,
                timeouts,
                restart,
                keepalive,
                suspicion,
                push,
                poll_ms,
                retry,
                concurrency,
                waiting,
                result_bytes,
                on_tool_change,
                catalog,
                env_policy,
                sandbox,
                pin_program,
                asks,
                content_types,
                hidden_text,
                stop,
                drain_ms,
                auth,
                tls,
                proxy,
                no_proxy,
            }
        )
    }
}

impl StopOptions {
    fn over(self, below: &StopOptions) -> StopOptions {
        over!(
            self,
            below,
            StopOptions {
                close_ms,
                terminate_ms,
                kill_ms
            }
        )
    }
}

impl TimeoutOptions {
    fn over(self, below: &TimeoutOptions) -> TimeoutOptions {
        over!(
            self,
            below,
            TimeoutOptions {
                call_idle_ms,
                call_total_ms,
                connect_ms,
                spawn_ms,
                tcp_connect_ms,
                greet_ms,
                list_ms,
                runner_ms,
                probe_ms,
                edge_patience_ms,
                push_idle_ms,
            }
        )
    }
}

impl RetryOptions {
    fn over(self, below: &RetryOptions) -> RetryOptions {
        over!(
            self,
            below,
            RetryOptions {
                trust_annotations,
                replay_after_session_loss,
            }
        )
    }
}

impl CatalogOptions {
    fn over(self, below: &CatalogOptions) -> CatalogOptions {
        over!(
            self,
            below,
            CatalogOptions {
                debounce_ms,
                interval_ms,
                recheck_ms,
                items,
                item_bytes,
                bytes,
            }
        )
    }
}

impl RestartOptions {
    fn over(self, below: &RestartOptions) -> RestartOptions {
        over!(
            self,
            below,
            RestartOptions {
                budget,
                backoff_base_ms,
                backoff_cap_ms,
                open_interval_ms,
                stable_ms,
                parked_probe_ms,
                parked_call_interval_ms,
                retry_after_min_ms,
                retry_after_max_ms,
                renewals,
                renewal_window_ms,
            }
        )
    }
}

impl KeepaliveOptions {
    fn over(self, below: &KeepaliveOptions) -> KeepaliveOptions {
        match (self, below) {
            (KeepaliveOptions::On(above), KeepaliveOptions::On(below)) => {
                KeepaliveOptions::On(over!(
                    above,
                    below,
                    KeepaliveGroup {
                        idle_ms,
                        timeout_ms,
                        misses
                    }
                ))
            }
            (above, KeepaliveOptions::On(_) | KeepaliveOptions::Off) => above,
        }
    }
}
