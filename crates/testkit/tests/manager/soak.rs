//! The bounded soak, in a process of its own: the other tests of this binary hold descriptors and children too.
//! `scripts/soak` is the long one.

#[test]
fn law_6_law_26_f11_f68_f230_f231_crashes_and_lost_sessions_leave_nothing_behind() {
    let soaked = std::process::Command::new(env!("CARGO_BIN_EXE_soak"))
        .arg("150")
        .output()
        .unwrap();
    assert!(
        soaked.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&soaked.stdout),
        String::from_utf8_lossy(&soaked.stderr)
    );
}
