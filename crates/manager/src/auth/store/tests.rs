//! Tests of the stored grants: what is on the disk, and what becomes of files that are not as they were written.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

pub(crate) fn grant(issuer: &str, principal: Option<&str>, resource: &str, access: &str) -> Grant {
    Grant {
        key: GrantKey {
            issuer: issuer.into(),
            client_id: "client".into(),
            principal: principal.and_then(Principal::new),
            resource: resource.into(),
        },
        tokens: Tokens {
            access: Secret::new(access),
            refresh: Some(Secret::new("refresh-s3cret")),
            scopes: BTreeSet::from(["read".to_owned()]),
            received_unix_ms: 1_000,
            lifetime_ms: Some(60_000),
        },
        client: ClientIdentity {
            id: "client".into(),
            secret: Some(Secret::new("client-s3cret")),
            auth: ClientAuth::SecretPost,
            source: ClientSource::Registered,
        },
        token_endpoint: "https://issuer.test/token".into(),
        resource_indicator: Some("https://r".into()),
        revocation_endpoint: None,
        requested_scopes: BTreeSet::new(),
        by_human: true,
        granted_unix_ms: 1_000,
    }
}

fn holder(principal: Option<&str>, resource: &str) -> Holder {
    Holder {
        resource: resource.into(),
        principal: principal.and_then(Principal::new),
    }
}

fn place() -> (tempfile::TempDir, GrantStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = GrantStore::open(dir.path()).unwrap();
    (dir, store)
}

#[test]
fn law_31_grants_come_back_as_they_were_to_their_holder_alone_in_files_of_ours_alone() {
    let (_dir, store) = place();
    let mine = grant("https://i", Some("ann"), "https://r/mcp", "access-s3cret");
    let other = grant("https://j", Some("ann"), "https://r/mcp", "access-2");
    store.save(&mine).unwrap();
    store.save(&other).unwrap();
    let stored = store.load(&holder(Some("ann"), "https://r/mcp"));
    assert_eq!(stored.faults.len(), 0);
    assert!(stored.grants.contains(&mine) && stored.grants.contains(&other));
    for stranger in [
        holder(None, "https://r/mcp"),
        holder(Some("bob"), "https://r/mcp"),
        holder(Some("ann"), "https://r/mcp2"),
    ] {
        assert_eq!(store.load(&stranger).grants, [], "{stranger:?}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(&*store.dir).unwrap().mode() & 0o777, 0o700);
        for file in fs::read_dir(&*store.dir).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
        }
    }
    store.remove(&mine.key).unwrap();
    store.remove(&mine.key).unwrap();
    assert_eq!(
        store.load(&holder(Some("ann"), "https://r/mcp")).grants,
        [other]
    );
}

#[test]
fn f199_every_damage_is_told_and_put_aside_and_touches_no_other_grant() {
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Damage); 6] = [
        ("cut short", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("emptied", |_| Vec::new()),
        ("one bit changed", |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
        ("another format", |bytes| {
            [b"mainstay-grant-0", &bytes[16..]].concat()
        }),
        ("not text", |_| vec![0xff; 100]),
        ("too large", |_| vec![b' '; 2 * 1024 * 1024]),
    ];
    for (what, damage) in damages {
        let (_dir, store) = place();
        let (bad, good) = (
            grant("https://i", None, "https://r", "access-s3cret"),
            grant("https://j", None, "https://r", "access-good"),
        );
        store.save(&bad).unwrap();
        store.save(&good).unwrap();
        let path = store.path(&bad.key);
        let damaged = damage(fs::read(&path).unwrap());
        fs::write(&path, &damaged).unwrap();
        let stored = store.load(&holder(None, "https://r"));
        assert_eq!(stored.grants, std::slice::from_ref(&good), "{what}");
        let [fault] = &stored.faults[..] else {
            panic!("{what}: {:?}", stored.faults)
        };
        let told = fault.to_string();
        assert!(told.contains(&path.display().to_string()), "{told}");
        assert!(
            told.contains("sign in again") && !told.contains("s3cret"),
            "{told}"
        );
        assert_eq!(
            fs::read(path.with_extension("damaged")).unwrap(),
            damaged,
            "{what}"
        );
        // Told once; and a new sign-in is kept.
        assert_eq!(
            store.load(&holder(None, "https://r")).faults.len(),
            0,
            "{what}"
        );
        store.save(&bad).unwrap();
        assert_eq!(
            store.load(&holder(None, "https://r")).grants.len(),
            2,
            "{what}"
        );
    }
}

#[test]
fn f255_a_file_under_another_name_is_not_believed() {
    let (_dir, store) = place();
    let ann = grant("https://i", Some("ann"), "https://r", "access");
    let bob = grant("https://i", Some("bob"), "https://r", "access");
    store.save(&ann).unwrap();
    fs::rename(store.path(&ann.key), store.path(&bob.key)).unwrap();
    let stored = store.load(&holder(Some("bob"), "https://r"));
    assert_eq!(stored.grants, []);
    assert!(
        stored.faults[0]
            .to_string()
            .contains("another server or person")
    );
}

#[cfg(unix)]
#[test]
fn law_31_a_file_that_others_could_read_is_made_private_and_still_works() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (_dir, store) = place();
    let mine = grant("https://i", None, "https://r", "access");
    store.save(&mine).unwrap();
    let path = store.path(&mine.key);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let stored = store.load(&holder(None, "https://r"));
    assert_eq!((stored.grants.len(), stored.faults.len()), (1, 0));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn f201_what_cannot_be_written_leaves_the_former_grant_untouched() {
    let (_dir, store) = place();
    let mut mine = grant("https://i", None, "https://r", "access-1");
    store.save(&mine).unwrap();
    // Something in the way of the very name, which even root cannot replace by a file.
    let path = store.path(&mine.key);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("x"), b"").unwrap();
    mine.tokens.access = Secret::new("access-2");
    let fault = store.save(&mine).unwrap_err().to_string();
    assert!(
        fault.contains("make room on the disk") && !fault.contains("access-2"),
        "{fault}"
    );
    fs::remove_dir_all(&path).unwrap();
    store.save(&mine).unwrap();
    assert_eq!(store.load(&holder(None, "https://r")).grants, [mine]);
    // No unfinished file stays behind.
    assert_eq!(fs::read_dir(&*store.dir).unwrap().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn f198_a_lock_keeps_everybody_else_out_and_its_wait_ends() {
    let (_dir, store) = place();
    let who = holder(None, "https://r");
    let held = store.lock(&who, Duration::from_secs(1)).await.unwrap();
    let refused = store.lock(&who, Duration::from_secs(5)).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StoreFault::Locked {
                waited_ms: 5_000..,
                ..
            }
        ),
        "{refused}"
    );
    // Another holder is another matter.
    store
        .lock(&holder(Some("ann"), "https://r"), Duration::from_secs(1))
        .await
        .unwrap();
    drop(held);
    store.lock(&who, Duration::from_secs(1)).await.unwrap();
}
