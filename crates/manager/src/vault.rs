//! Values that are kept outside of the configuration: files, the keyring of the operating system, commands of password
//! managers.
//!
//! They are looked up at the moment of use, each in a task of its own with a deadline of its own, so that neither the driver
//! nor another server ever waits for one (laws 1, 17 and 27). One lookup serves everybody who wants it at that time, and what it
//! found is kept in memory for some seconds, so that a storm of reconnects asks a password manager once. Nothing is ever
//! written anywhere, and each value is hidden from then on ([`hide`], law 31).

mod command;
mod file;
pub mod keyring;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::config::Lookup;
use crate::process::Guardian;
use crate::secrets::hide;

/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// How long one lookup may take at most: long enough for somebody to touch a key or give a fingerprint.
pub(crate) const LOOKUP_MAX: Duration = Duration::from_secs(60);

/// How long a value from a password manager is used again.
const KEPT: Duration = Duration::from_secs(15);

/// The same of a file, which costs nothing to read.
const FILE_KEPT: Duration = Duration::from_millis(500);

/// How long a failure is: nobody is asked again for their fingerprint right away.
const FAILURE_KEPT: Duration = Duration::from_secs(2);

/// Different values that are kept at once. Beyond that they are looked up and not kept.
const KEPT_MAX: usize = 4_096;

/// How old a value may be that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// As old as they are kept.
    Kept,
    /// Looked up anew: the server refused the one that is known. One that was looked up a moment ago counts as new.
    Fresh,
}

/// What counts as new although it is known already: several links that were refused at once need one lookup.
const FRESH: Duration = Duration::from_secs(1);

type Answer = Result<Arc<str>, Arc<str>>;

#[derive(Clone)]
struct Cell {
    begun: Instant,
    answer: watch::Receiver<Option<Answer>>,
}

static CELLS: Mutex<Option<HashMap<Lookup, Cell>>> = Mutex::new(None);

fn with_cells<T>(work: impl FnOnce(&mut HashMap<Lookup, Cell>) -> T) -> T {
    let mut cells = CELLS.lock().unwrap_or_else(PoisonError::into_inner);
    work(cells.get_or_insert_default())
}

impl Cell {
    fn serves(&self, lookup: &Lookup, age: Age) -> bool {
        let old = self.begun.elapsed();
        match &*self.answer.borrow() {
            // Under way: whoever does it says so by keeping the other end.
            None => self.answer.has_changed().is_ok(),
            // A file costs nothing to read, and whoever has just made it must not be told of its absence.
            Some(Err(_)) => old < FAILURE_KEPT && !matches!(lookup, Lookup::File(_)),
            Some(Ok(_)) => {
                old < match (lookup, age) {
                    (Lookup::File(_), Age::Kept) => FILE_KEPT,
                    (Lookup::File(_), Age::Fresh) => Duration::ZERO,
                    (Lookup::Secret(_) | Lookup::Command(_), Age::Kept) => KEPT,
                    (Lookup::Secret(_) | Lookup::Command(_), Age::Fresh) => FRESH,
                }
            }
        }
    }
}

/// Looks up all of these side by side. Cancel-safe: a lookup that was begun goes on for whoever asks next.
///
/// # Errors
/// What is missing, why, and what to do, for the first that is; never a value.
pub(crate) async fn look_up(
    lookups: Vec<Lookup>,
    guardian: Option<&Guardian>,
    wait: Duration,
    age: Age,
) -> Result<HashMap<Lookup, Arc<str>>, (Lookup, Arc<str>)> {
    let each = lookups.into_iter().map(|lookup| async move {
        match one(&lookup, guardian, wait, age).await {
            Ok(value) => Ok((lookup, value)),
            Err(why) => Err((lookup, why)),
        }
    });
    join_all(each).await.into_iter().collect()
}

/// Every one of these with what is wrong with it, if anything is, or worth a word.
pub(crate) async fn inspect(
    lookups: Vec<Lookup>,
    guardian: Option<&Guardian>,
    wait: Duration,
) -> Vec<(Lookup, Result<Option<String>, Arc<str>>)> {
    let each = lookups.into_iter().map(|lookup| async move {
        let found = one(&lookup, guardian, wait, Age::Kept).await;
        let note = match (&found, &lookup) {
            (Ok(_), Lookup::File(path)) => file::exposed(path),
            (Ok(_) | Err(_), _) => None,
        };
        (lookup, found.map(|_value| note))
    });
    join_all(each).await
}

async fn one(lookup: &Lookup, guardian: Option<&Guardian>, wait: Duration, age: Age) -> Answer {
    let mut answer = with_cells(|cells| {
        if let Some(cell) = cells.get(lookup).filter(|cell| cell.serves(lookup, age)) {
            return cell.answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        let begun = Instant::now();
        cells.retain(|_, cell| cell.begun.elapsed() < LOOKUP_MAX + KEPT);
        if cells.len() < KEPT_MAX {
            let answer = answer.clone();
            cells.insert(lookup.clone(), Cell { begun, answer });
        }
        let (lookup, guardian) = (lookup.clone(), guardian.cloned());
        tokio::spawn(async move {
            let found = find(&lookup, guardian).await;
            if let Ok(value) = &found {
                hide(value);
            }
            // Nobody may be left who wants to know.
            let _ = tell.send(Some(found.map(Arc::from).map_err(Arc::from)));
            tokio::time::sleep(KEPT).await;
            with_cells(|cells| {
                if cells.get(&lookup).is_some_and(|cell| cell.begun == begun) {
                    cells.remove(&lookup);
                }
            });
        });
        answer
    });
    let late = || {
        Arc::from(format!(
            "there was no answer within {} ms; unlock it, or see what it waits for",
            wait.as_millis()
        ))
    };
    match tokio::time::timeout(wait, answer.wait_for(Option::is_some)).await {
        Ok(Ok(found)) => found.clone().unwrap_or_else(|| Err(late())),
        Ok(Err(_gone)) => Err("the lookup was given up".into()),
        Err(_late) => Err(late()),
    }
}

async fn find(lookup: &Lookup, guardian: Option<Guardian>) -> Result<String, String> {
    let value = match lookup {
        Lookup::File(path) => file::read(path.clone()).await?,
        Lookup::Secret(name) => match keyring::get(name).await {
            Ok(Some(value)) => value,
            Ok(None) => {
                return Err(format!(
                    "the keyring has no such secret; set it with `mainstay secret set {name}`"
                ));
            }
            Err(error) => return Err(error.to_string()),
        },
        Lookup::Command(words) => {
            let guardian = match guardian {
                Some(guardian) => guardian,
                None => Guardian::start().map_err(|error| error.to_string())?,
            };
            command::run(words, &guardian).await?
        }
    };
    if value.is_empty() {
        return Err("the value is empty".to_owned());
    }
    if value.contains('\0') {
        return Err("there is a NUL character in the value".to_owned());
    }
    Ok(value)
}

/// The text of some bytes without one line end at its end.
fn text(mut bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(format!("the value is longer than {VALUE_BYTES_MAX} bytes"));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    String::from_utf8(bytes).map_err(|_| "the value is no text in UTF-8".to_owned())
}

/// Does something that may block for ever on a thread of its own; `lane` bounds how many of them there can be. `None`: not
/// done in time; the thread ends when the system lets it.
async fn aside<T: Send + 'static>(
    lane: &'static Semaphore,
    wait: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let done = async {
        let permit = lane.acquire().await.ok()?;
        let (tell, done) = oneshot::channel();
        std::thread::Builder::new()
            .name("mainstay-vault".to_owned())
            .spawn(move || {
                let found = work();
                drop(permit);
                // Nobody may wait any more.
                let _ = tell.send(found);
            })
            .ok()?;
        done.await.ok()
    };
    tokio::time::timeout(wait, done).await.ok()?
}

#[cfg(test)]
mod tests;
