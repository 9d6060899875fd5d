//! What sealing promises: nothing comes back but what was sealed, for the same purpose, with a key of the ring.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const PAYLOAD: &[u8] = b"{\"who\":\"a client\",\"n\":12345678901234567890}";

#[test]
fn what_was_sealed_comes_back_for_the_same_purpose_only() {
    let sealer = Sealer::ephemeral().unwrap();
    for payload in [PAYLOAD, b"", &[0xff; 100_000]] {
        let text = sealer.seal(Purpose::Session, payload).unwrap();
        assert!(text.bytes().all(|byte| matches!(byte, 0x21..=0x7e)));
        assert_eq!(sealer.unseal(Purpose::Session, &text).unwrap(), payload);
        assert_eq!(sealer.unseal(Purpose::RequestState, &text), None);
    }
    let (one, two) = (
        sealer.seal(Purpose::Session, PAYLOAD).unwrap(),
        sealer.seal(Purpose::Session, PAYLOAD).unwrap(),
    );
    assert_ne!(one, two, "the nonce is random");
    assert!(!one.contains("client"));
}

#[test]
fn no_byte_can_be_changed_cut_or_added() {
    let sealer = Sealer::ephemeral().unwrap();
    let text = sealer.seal(Purpose::RequestState, PAYLOAD).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << bit;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(
                sealer.unseal(Purpose::RequestState, &changed),
                None,
                "byte {place}, bit {bit}"
            );
        }
    }
    for place in 0..text.len() {
        // Another character of the alphabet in each place, and a text that ends there.
        let mut changed = text.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(sealer.unseal(Purpose::RequestState, &changed), None);
        assert_eq!(sealer.unseal(Purpose::RequestState, &text[..place]), None);
    }
    for wrong in [format!("{text}A"), format!("{text}="), format!(" {text}")] {
        assert_eq!(sealer.unseal(Purpose::RequestState, &wrong), None);
    }
    for nonsense in ["", "x", "äöü", "0123456789abcdef0123456789abcdef"] {
        assert_eq!(sealer.unseal(Purpose::RequestState, nonsense), None);
    }
}

#[test]
fn another_ring_reads_nothing() {
    let text = Sealer::ephemeral()
        .unwrap()
        .seal(Purpose::Session, PAYLOAD)
        .unwrap();
    let other = Sealer::ephemeral().unwrap();
    assert_eq!(other.unseal(Purpose::Session, &text), None);
    let none = Sealer {
        keys: RwLock::default(),
        dir: None,
    };
    assert_eq!(none.unseal(Purpose::Session, &text), None);
    assert!(matches!(
        none.seal(Purpose::Session, PAYLOAD),
        Err(SealError::NoKey)
    ));
}

#[test]
fn a_ring_survives_its_process_and_is_readable_by_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made");
    let text = Sealer::open(&dir)
        .unwrap()
        .seal(Purpose::Session, PAYLOAD)
        .unwrap();
    let file = dir.join("keys.json");
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let again = Sealer::open(&dir).unwrap();
    assert_eq!(mode(), 0o600);
    assert_eq!(again.unseal(Purpose::Session, &text).unwrap(), PAYLOAD);
    let left: Vec<_> = fs::read_dir(&dir).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing unfinished is left: {left:?}");
}

#[test]
fn former_keys_stay_readable_for_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let start = 1_000_000;
    let sealer = Sealer::open_at(dir.path(), start).unwrap();
    let old = sealer.seal(Purpose::Session, PAYLOAD).unwrap();
    sealer.rotate_at(start + 1).unwrap();
    let new = sealer.seal(Purpose::Session, PAYLOAD).unwrap();
    assert_ne!(old[..7], new[..7], "another key is current");
    let restarted = Sealer::open_at(dir.path(), start + 2).unwrap();
    for sealer in [&sealer, &restarted] {
        for text in [&old, &new] {
            let at = |now_ms| sealer.unseal_at(Purpose::Session, text, now_ms);
            assert_eq!(at(start + KEEP_MS).as_deref(), Some(PAYLOAD));
        }
        let late = start + 1 + KEEP_MS;
        assert_eq!(sealer.unseal_at(Purpose::Session, &old, late), None);
        assert!(sealer.unseal_at(Purpose::Session, &new, late).is_some());
    }
}

#[test]
fn an_old_key_is_replaced_by_itself_and_the_ring_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::open_at(dir.path(), 0).unwrap();
    let count = |sealer: &Sealer| sealer.keys.read().unwrap().len();
    sealer.refresh_at(ROTATE_AFTER_MS - 1).unwrap();
    assert_eq!(count(&sealer), 1);
    assert_eq!(
        count(&Sealer::open_at(dir.path(), ROTATE_AFTER_MS).unwrap()),
        2
    );
    for _ in 0..3 * KEYS_MAX {
        sealer.rotate_at(1).unwrap();
    }
    assert_eq!(count(&sealer), KEYS_MAX);
    assert_eq!(count(&Sealer::open_at(dir.path(), 1).unwrap()), KEYS_MAX);
}

#[test]
fn a_damaged_ring_is_put_aside_and_replaced() {
    for damage in [
        "",
        "{\"version\":1,\"keys\":[]}",
        "{\"version\":2}",
        "{\"version\":1,\"keys\":[{\"id\":\"AAAA\"",
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("keys.json"), damage).unwrap();
        let sealer = Sealer::open(dir.path()).unwrap();
        let text = sealer.seal(Purpose::Session, PAYLOAD).unwrap();
        let again = Sealer::open(dir.path()).unwrap();
        assert!(again.unseal(Purpose::Session, &text).is_some());
        let aside = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains("keys.damaged-"))
            .unwrap();
        assert_eq!(fs::read_to_string(aside).unwrap(), damage);
    }
}

#[test]
fn a_directory_that_cannot_be_used_costs_the_restart_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let not_a_dir = dir.path().join("file");
    fs::write(&not_a_dir, "").unwrap();
    assert!(matches!(
        Sealer::open(&not_a_dir),
        Err(SealError::File { .. })
    ));
    let sealer = Sealer::for_gateway(Some(&not_a_dir));
    let text = sealer.seal(Purpose::Session, PAYLOAD).unwrap();
    assert_eq!(sealer.unseal(Purpose::Session, &text).unwrap(), PAYLOAD);
}

#[test]
fn no_secret_is_shown() {
    let sealer = Sealer::ephemeral().unwrap();
    assert_eq!(format!("{sealer:?}"), "Sealer { dir: None }");
}
