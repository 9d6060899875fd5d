//! Random histories of a fleet against a reference, and proof that they find what is wrong.

use std::num::ParseIntError;

use mainstay_testkit::history::{Seen, defect, run};

/// A number from the environment, for running one history again.
fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number: Result<u64, ParseIntError> = text.parse();
    assert!(number.is_ok(), "{name}={text} is no number: {number:?}");
    number.ok()
}

/// Laws 2 to 7, 9 to 12, 16, 21; F22, F69, F77, F102, F107, F146, F147, F235, F236.
#[test]
fn histories_keep_the_laws_and_end_well() {
    if let Some(seed) = asked("MAINSTAY_HISTORY_SEED") {
        let steps = asked("MAINSTAY_HISTORY_STEPS").unwrap_or(3_000);
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        match run(seed, steps, None) {
            Ok(seen) => println!("{seen:?}"),
            Err(failed) => panic!("{failed}"),
        }
        return;
    }
    let mut all = Seen::default();
    let short = (0..4_000_u64).map(|seed| (seed, 250));
    let long = (0..400_u64).map(|seed| (1_000_000 + seed, 3_000));
    for (seed, steps) in short.chain(long) {
        match run(seed, steps, None) {
            Ok(seen) => all.add(seen),
            Err(failed) => panic!("{failed}"),
        }
    }
    println!("{all:?}");
    // Histories in which nothing happens prove nothing.
    for (what, seen) in [
        ("opens", all.opens),
        ("served", all.served),
        ("parked", all.parked),
        ("stale", all.stale),
        ("wakes", all.wakes),
        ("bursts", all.bursts),
        ("shut", all.shut),
    ] {
        assert!(seen > 100, "only {seen} {what}");
    }
}

/// A check that cannot fail proves nothing: each planted defect must be found, and told in few words.
#[test]
fn histories_find_every_planted_defect() {
    let mut missed = Vec::new();
    for defect in defect::ALL {
        let found = (0..400).find_map(|seed| run(seed, 400, Some(defect)).err());
        match found {
            Some(failed) => println!(
                "{defect:?}: {} ({} steps, cut to {} lines)",
                failed.broke,
                failed.steps,
                failed.story.len()
            ),
            None => missed.push(defect),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn a_history_is_its_seed() {
    assert_eq!(run(7, 500, None).ok(), run(7, 500, None).ok());
    let failure = |seed| {
        let failed = run(seed, 400, Some(defect::Defect::BudgetOffByOne)).err();
        failed.map(|failed| (failed.steps, failed.story.clone(), failed.to_string()))
    };
    let seed = (0..100).find(|seed| failure(*seed).is_some());
    let (steps, story, text) = seed.and_then(failure).expect("found");
    assert_eq!(
        seed.and_then(failure).map(|(_, story, _)| story),
        Some(story)
    );
    let seed = seed.unwrap_or_default();
    let again = format!("MAINSTAY_HISTORY_SEED={seed} MAINSTAY_HISTORY_STEPS={steps} ");
    assert!(text.contains(&again), "{text}");
}
