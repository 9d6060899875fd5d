//! The only unsafe code of this crate: what runs in a child between fork and exec, and one registration.
//!
//! Only async-signal-safe calls are allowed between fork and exec: plain system calls, no allocation, no lock, no logging.

#![expect(
    unsafe_code,
    reason = "std and tokio offer no safe way to do these few things"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};

/// What an administrator's program may keep in a sandbox: what installing packages needs (chown, `DAC` override, owner,
/// set-id bits, set group and user), and ports below 1024. What files it reaches is fenced by other means.
#[cfg(target_os = "linux")]
pub(super) const CAPABILITIES_KEPT: [u32; 7] = [0, 1, 3, 4, 6, 7, 10];

/// The child dies with the thread that forks it (Linux), inherits no descriptor but the three standard ones, and says
/// `add ID` on the guardian's line, if there is one, and its id on `told`, before it becomes the program.
///
/// Must be spawned from a thread that lives as long as the child may: the kernel counts the death of the spawning
/// *thread* as the death of the parent.
pub(super) fn tie_to_parent(command: &mut Command, line: Option<OwnedFd>, told: OwnedFd) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let parent = rustix::process::getpid();
    let prepare = move || {
        close_on_exec();
        register(line.as_ref(), &told);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // The parent may have died before the line above: then nobody would ever tell us.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::from(rustix::io::Errno::SRCH));
            }
        }
        Ok(())
    };
    // SAFETY: the closure performs system calls on constants, `Copy` values and descriptors only.
    unsafe { command.pre_exec(prepare) };
}

/// The child fences itself in, as the last thing before it becomes the program. From there on no way leads back.
#[cfg(target_os = "linux")]
pub(super) fn fence_in(command: &mut Command, fence: super::sandbox::Fence) {
    let prepare = move || {
        // SAFETY: a system call on constants. Without it neither of the two is allowed to an ordinary user.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        for inherited in &fence.inherited {
            // SAFETY: a system call on a descriptor that lives as long as the closure; the wrapper reads it.
            if unsafe { libc::fcntl(inherited.as_raw_fd(), libc::F_SETFD, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if let Some(ruleset) = &fence.ruleset {
            drop_capabilities()?;
            // SAFETY: a system call on a descriptor that lives as long as the closure.
            let done =
                unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        for filter in &fence.filters {
            // Two system calls; an error of theirs is a number, so nothing is allocated on either way.
            seccompiler::apply_filter(filter).map_err(|error| match error {
                seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => source,
                seccompiler::Error::Backend(_)
                | seccompiler::Error::EmptyFilter
                | seccompiler::Error::ThreadSync(_) => io::Error::from(io::ErrorKind::InvalidData),
            })?;
        }
        Ok(())
    };
    // SAFETY: the closure performs system calls on constants, descriptors and memory that was filled before the fork.
    unsafe { command.pre_exec(prepare) };
}

/// The process gives up what makes an administrator more than a user (only one has anything to give up): reading other
/// processes, modules, devices, the network's configuration.
#[cfg(target_os = "linux")]
fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let kept = CAPABILITIES_KEPT
        .iter()
        .fold(0_u64, |all, one| all | 1 << one);
    for capability in 0..64_u32 {
        if kept & (1 << capability) == 0 {
            // SAFETY: a system call on numbers. It fails where there is no such capability, and for those who have none.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
    }
    let header = [VERSION_3, 0];
    // Effective, permitted and inheritable: first their lower halves, then their upper ones.
    let mut sets = [0_u32; 6];
    // SAFETY: the kernel writes six numbers, for which there is room; the header is what it expects.
    if unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for (at, set) in sets.iter_mut().enumerate() {
        let half = if at < 3 { kept } else { kept >> 32 };
        *set &= (half & 0xffff_ffff) as u32;
    }
    // SAFETY: the kernel reads six numbers.
    if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The version of Landlock that the kernel has; 0 or less: none.
#[cfg(target_os = "linux")]
pub(super) fn landlock_abi() -> i32 {
    const VERSION: u32 = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: asks for a number; no memory is passed.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    i32::try_from(abi).unwrap_or(0)
}

/// In the child: says that it exists. A line that cannot be written costs only the head start: the parent says it again.
fn register(line: Option<&OwnedFd>, told: &OwnedFd) {
    let id = rustix::process::getpid().as_raw_pid().unsigned_abs();
    // Its reader is our parent, which waits for us.
    let _ = rustix::io::write(told, &id.to_ne_bytes());
    let Some(line) = line else { return };
    let mut text = *b"add 0000000000\n";
    // Leading zeros would be another word to the guardian: the number is right-aligned, and the verb moves up to it.
    let mut at = text.len() - 1;
    let mut rest = id;
    while rest > 0 || at == text.len() - 1 {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    at -= 4;
    text[at..at + 4].copy_from_slice(b"add ");
    // SAFETY: both are async-signal-safe. A helper that has just ended must not end the child too.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let _ = rustix::io::write(line, &text[at..]);
    // SAFETY: as above; what the program expects to find.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// The child leads its own session, out of reach of our terminal, and inherits no descriptor but the standard ones.
pub(super) fn own_session(command: &mut Command) {
    let prepare = || {
        close_on_exec();
        rustix::process::setsid()?;
        Ok(())
    };
    // SAFETY: the closure performs two system calls on constants only.
    unsafe { command.pre_exec(prepare) };
}

/// Descriptors that this program itself inherited, or that a C library opened carelessly, end at exec. Everything that
/// Rust opens is marked already; so on a kernel without this call (before 5.11) nothing is lost but a precaution.
fn close_on_exec() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: marks descriptors of the forked child; closes nothing now, so that std's own report pipe keeps working.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}

/// Lets the current tokio runtime wait until a descriptor is readable.
#[cfg(target_os = "linux")]
pub(crate) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is the same open descriptor for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}
