//! Who wants the config file read again while Mainstay serves: the watcher and the signal HUP.

use std::sync::Arc;

use mainstay::Manager;
use mainstay::config::watch::Watcher;
use mainstay_gateway::reload::{ConfigLife, Trigger};
use tokio_util::sync::CancellationToken;

use crate::commands::signals::Hangups;

/// Reads the file again whenever somebody wants that, until it is told to end.
pub(super) async fn follow(
    life: Arc<ConfigLife>,
    manager: Manager,
    mut hangups: Hangups,
    ending: CancellationToken,
) {
    let mut loaded = life.loaded();
    let mut settings = None;
    let mut watcher = None;
    loop {
        // How it is watched is a setting of the file itself.
        let wanted = manager.settings().watch;
        if settings != wanted {
            settings = wanted;
            watcher = match wanted {
                Some(wanted) => watch(&life, wanted).await,
                None => None,
            };
        }
        let changed = async {
            match &mut watcher {
                Some(watcher) => watcher.changed().await,
                None => std::future::pending().await,
            }
        };
        let trigger = tokio::select! {
            // Cancel-safe: a token holds nothing.
            () = ending.cancelled() => return,
            // Cancel-safe: a signal stays pending in its stream.
            () = hangups.next() => Trigger::Signal,
            // Cancel-safe: a change that was not told is found by the next look.
            () = changed => Trigger::Changed,
            // Cancel-safe: a level. Somebody else has loaded it; there may be other settings.
            _ = loaded.changed() => continue,
        };
        tokio::select! {
            // Cancel-safe: the end of Mainstay is the end of its config too.
            () = ending.cancelled() => return,
            // What it has begun it brings to its end before anything else is looked at.
            _ = life.reload(trigger) => {}
        }
    }
}

async fn watch(
    life: &Arc<ConfigLife>,
    settings: mainstay::config::WatchSettings,
) -> Option<Watcher> {
    let life = Arc::clone(life);
    let starting =
        tokio::task::spawn_blocking(move || Watcher::start(life.path(), settings, &life.text()));
    starting
        .await
        .inspect_err(|error| tracing::error!(%error, "the configuration file cannot be watched"))
        .ok()
}
