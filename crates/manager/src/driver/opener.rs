//! Where generations come from: the one seam between the driver and what it opens.
//!
//! In production these are the keepers of child processes and HTTP connections; the simulation puts others in their place.
//! Whatever is opened is supervised here: it says `Gone` exactly once, and never before what a panic left behind is gone.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::input::{Input, OpenMode};
use mainstay_wire::envelope;
use tokio::sync::watch;

use crate::auth::Office;
use crate::config::ServerConfig;
use crate::process::Guardian;
use crate::runtime::http::Pauses;
use crate::runtime::keeper::{self, Orders, Setup};
use crate::runtime::report::Reports;
use crate::slot::Slot;

/// What the driver hands to whoever keeps a new generation.
pub(crate) struct Job {
    pub(crate) slot: Arc<Slot>,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) generation: Generation,
    pub(crate) mode: OpenMode,
    pub(crate) reports: Reports,
    pub(crate) orders: watch::Receiver<Orders>,
    pub(crate) remains: Remains,
}

/// Opens generations.
pub(crate) trait Opener: Send {
    /// The whole life of one generation: it reports what happens, obeys its orders, and ends when nothing of it is left.
    /// It does not report `Gone`: [`supervise`] does.
    fn keep(&self, job: Job) -> BoxFuture<'static, ()>;
}

/// The opener of production.
pub(crate) struct Keepers {
    pub(crate) guardian: Arc<Guardian>,
    pub(crate) limits: envelope::Limits,
    pub(crate) pages_max: usize,
    pub(crate) stderr_bytes_max: usize,
    pub(crate) caps: crate::config::Limits,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) office: Arc<Office>,
}

impl Opener for Keepers {
    fn keep(&self, job: Job) -> BoxFuture<'static, ()> {
        keeper::keep(Setup {
            slot: job.slot,
            config: job.config,
            generation: job.generation,
            mode: job.mode,
            reports: job.reports,
            orders: job.orders,
            remains: job.remains,
            guardian: Arc::clone(&self.guardian),
            limits: self.limits,
            pages_max: self.pages_max,
            stderr_bytes_max: self.stderr_bytes_max,
            caps: self.caps,
            pauses: Arc::clone(&self.pauses),
            office: Arc::clone(&self.office),
        })
        .boxed()
    }
}

/// Ends what a keeper owns outside its own task, and comes true when it is gone.
type Sweep = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What would outlive a keeper that panics, and how to end it. Empty as long as it owns nothing of the kind.
#[derive(Clone, Default)]
pub(crate) struct Remains(Arc<OnceLock<Sweep>>);

impl Remains {
    /// Says how to end what there is from now on. The first word stays: a generation owns one process.
    pub(crate) fn end_by(
        &self,
        sweep: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        let _ = self.0.set(Box::new(sweep));
    }

    async fn swept(&self) {
        if let Some(sweep) = self.0.get() {
            sweep().await;
        }
    }
}

/// Runs a keeper to its end and reports `Gone`. A keeper that panics takes nobody else down, is charged as a defect of
/// ours, and what it left behind is ended and awaited first: law 2 knows no exceptions.
pub(super) async fn supervise(
    keeping: BoxFuture<'static, ()>,
    generation: Generation,
    reports: Reports,
    remains: Remains,
) {
    if AssertUnwindSafe(keeping).catch_unwind().await.is_err() {
        tracing::error!(
            generation = generation.0,
            "a keeper failed; its server is treated as dead"
        );
        let failure = Failure::new(FailureKind::Internal);
        let told = async {
            // One of the two is news to the lifecycle: the first while it connects, the second while it is connected.
            reports
                .input(Input::OpenFailed {
                    generation,
                    failure: failure.clone(),
                })
                .await;
            reports
                .input(Input::Exited {
                    generation,
                    failure,
                })
                .await;
        };
        // The kill goes out with the first poll, whatever the inbox does.
        tokio::join!(remains.swept(), told);
    }
    reports.input(Input::Gone { generation }).await;
}
