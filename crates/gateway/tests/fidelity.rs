//! What passes through passes through byte for byte: messages of ours with unknown members planted into every object go
//! through a real gateway in all four pairings of the eras, and what arrives differs exactly by the edits of one table,
//! which is also the page `docs/bridging.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a failure here is the test's failure"
)]

#[path = "fidelity/ask.rs"]
mod ask;
#[path = "fidelity/drive.rs"]
mod drive;
#[path = "fidelity/edits.rs"]
mod edits;
#[path = "fidelity/page.rs"]
mod page;
#[path = "fidelity/paper.rs"]
mod paper;
#[path = "fidelity/plant.rs"]
mod plant;
#[path = "serve/support.rs"]
#[allow(dead_code, reason = "shared with the other tests of the gateway")]
mod support;
#[path = "fidelity/table.rs"]
mod table;
#[path = "fidelity/tree.rs"]
mod tree;

use std::collections::BTreeSet;

use drive::Line;
use edits::{EDITS, Leg, PAIRS};
use plant::Seeded;

/// Every exchange is sent this often per pairing and endpoint, each time with other members planted.
const ROUNDS: u64 = 3;

/// The seed of one exchange; `MAINSTAY_SEED` replaces the first part to look elsewhere.
fn seed(parts: [u64; 3]) -> Seeded {
    let first = std::env::var("MAINSTAY_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut seed = Seeded(first.unwrap_or(20_261_121));
    for part in parts {
        seed = Seeded(seed.next() ^ part.wrapping_mul(0x2545_F491_4F6C_DD1D));
    }
    seed
}

/// Sends everything through these columns of [`PAIRS`]. Returns which rows made a difference in which column.
async fn carried(columns: std::ops::Range<usize>) -> BTreeSet<(usize, usize)> {
    let mut used: BTreeSet<(usize, usize)> = BTreeSet::new();
    for column in columns {
        let pair = PAIRS[column];
        for aggregate in [false, true] {
            let mut line =
                Line::open(pair, aggregate, &mut seed([u64::MAX, column as u64, 0])).await;
            let mut exchanges = table::exchanges();
            if !aggregate {
                exchanges.extend(table::unknown());
            }
            for (row, exchange) in exchanges.iter().enumerate() {
                if !exchange.fits(pair.client, pair.server) {
                    continue;
                }
                for round in 0..ROUNDS {
                    let mut seed = seed([column as u64, row as u64, round]);
                    let rows = line.carry(exchange, round > 0, &mut seed).await;
                    used.extend(rows.into_iter().map(|row| (row, column)));
                }
            }
            for (row, question) in table::questions().iter().enumerate() {
                for round in 0..ROUNDS {
                    let mut seed = seed([column as u64 + 100, row as u64, round]);
                    let rows = line.question(question, round > 0, &mut seed).await;
                    used.extend(rows.into_iter().map(|row| (row, column)));
                }
            }
            used.extend(line.listings().await.into_iter().map(|row| (row, column)));
            line.close().await;
        }
    }
    used
}

/// Invariant 7 of the architecture, in all four pairings; law 20 for names.
#[tokio::test(flavor = "multi_thread")]
async fn law_20_every_message_arrives_but_for_the_documented_edits() {
    let used = carried(0..PAIRS.len()).await;
    // Nothing is documented that does not happen.
    for (row, edit) in EDITS.iter().enumerate() {
        for (column, pair) in PAIRS.into_iter().enumerate() {
            assert_eq!(
                used.contains(&(row, column)),
                edit.pairs[column],
                "{:?} {} {} for {pair:?}",
                edit.leg,
                edit.member,
                edit.does
            );
        }
    }
    assert!(
        Leg::ALL
            .iter()
            .all(|(leg, _)| EDITS.iter().any(|edit| edit.leg == *leg))
    );
}

#[test]
fn the_page_about_bridging_is_what_is_tested() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bridging.md");
    let page = page::render();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        kept, page,
        "docs/bridging.md is stale: run `UPDATE_DOCS=1 cargo test -p mainstay-gateway --test fidelity`"
    );
}
