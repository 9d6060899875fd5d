//! The system calls that lead around a fence of files and ports: a seccomp filter, made before the fork.
//!
//! A list of what is denied, not of what is allowed: servers are written in every language, and a filter that has to know
//! what all of them need would break them with every release. Programs for 32 bits are ended: the filter cannot see
//! through their calls.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{Network, Sandbox, Unfenced};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that no MCP server needs: into other processes, the kernel, mounts, keys, clocks.
const DENIED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Calls that programs do without where the kernel does not know them. `io_uring` opens sockets that no filter sees, and
/// the flags of `clone3` are behind a pointer.
const UNKNOWN: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
];

/// New namespaces give a program the rights of an administrator inside them.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// The filters that hold together.
pub(super) fn filters(sandbox: &Sandbox) -> Result<Vec<BpfProgram>, Unfenced> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|error| failed(format!("no seccomp filter for this processor: {error}")))?;
    let mut denied: Rules = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    denied.extend([libc::SYS_ioperm, libc::SYS_iopl].map(|call| (call, Vec::new())));
    arguments(sandbox, &mut denied).map_err(|error| failed(error.to_string()))?;
    let mut unknown: Rules = UNKNOWN.iter().map(|call| (*call, Vec::new())).collect();
    for rules in [&mut denied, &mut unknown] {
        doubled(rules);
    }
    let refused = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    Ok(vec![
        compiled(denied, refused(libc::EPERM), arch)?,
        compiled(unknown, refused(libc::ENOSYS), arch)?,
    ])
}

fn compiled(rules: Rules, action: SeccompAction, arch: TargetArch) -> Result<BpfProgram, Unfenced> {
    SeccompFilter::new(rules, SeccompAction::Allow, action, arch)
        .and_then(BpfProgram::try_from)
        .map_err(|error| failed(error.to_string()))
}

fn failed(words: String) -> Unfenced {
    Unfenced::new(format!("the seccomp filter cannot be made: {words}"))
}

/// The calls of which only some arguments are denied.
fn arguments(sandbox: &Sandbox, rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let (first, second) = (0, 1);
    let namespaces = NAMESPACES.map(|flag| {
        let bit = u64::from(flag.unsigned_abs());
        rule([(first, MaskedEq(bit), bit)])
    });
    rules.insert(
        libc::SYS_clone,
        namespaces.into_iter().collect::<Result<_, _>>()?,
    );
    // Typing into a terminal that it shares with somebody.
    let typing = [libc::TIOCSTI, libc::TIOCLINUX]
        .map(|command| rule([(second, Eq, command)]))
        .into_iter()
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_ioctl, typing);
    let mut families = Vec::new();
    if sandbox.unix_sockets {
        families.push(libc::AF_UNIX);
    }
    match sandbox.network {
        Network::None => {}
        Network::All | Network::Ports { .. } => {
            families.extend([libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]);
        }
    }
    let others = families
        .iter()
        .map(|family| (first, Ne, u64::from(family.unsigned_abs())));
    let socket = match families.is_empty() {
        // No condition at all: every call.
        true => Vec::new(),
        false => vec![rule(others)?],
    };
    rules.insert(libc::SYS_socket, socket);
    // Pairs are how runtimes talk to their own children. One of datagrams can be sent from to anybody's socket.
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    let mut pairs = vec![rule([(first, Ne, unix)])?];
    if !sandbox.unix_sockets {
        let datagrams = u64::from(libc::SOCK_DGRAM.unsigned_abs());
        pairs.push(rule([(second, MaskedEq(0xf), datagrams)])?);
    }
    rules.insert(libc::SYS_socketpair, pairs);
    Ok(())
}

/// All of the conditions at once.
fn rule(
    conditions: impl IntoIterator<Item = (u8, SeccompCmpOp, u64)>,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions.into_iter().map(|(argument, op, value)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// The second set of numbers that x86-64 has for the same calls (x32), some of them under numbers of their own.
#[cfg(target_arch = "x86_64")]
fn doubled(rules: &mut Rules) {
    const X32: i64 = 0x4000_0000;
    const OWN: [(i64, i64); 5] = [
        (libc::SYS_ioctl, 514),
        (libc::SYS_ptrace, 521),
        (libc::SYS_kexec_load, 528),
        (libc::SYS_process_vm_readv, 539),
        (libc::SYS_process_vm_writev, 540),
    ];
    let again: Vec<_> = rules
        .iter()
        .map(|(call, rules)| {
            let own = OWN.iter().find(|(usual, _)| usual == call);
            let number = own.map_or(*call, |(_, own)| *own);
            (number | X32, rules.clone())
        })
        .collect();
    rules.extend(again);
}

#[cfg(not(target_arch = "x86_64"))]
fn doubled(_rules: &mut Rules) {}

#[cfg(test)]
mod tests {
    use super::super::Backend;
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    #[cfg(target_arch = "x86_64")]
    const ARCH: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const ARCH: u32 = 0xc000_00b7;

    fn sandbox(network: Network, unix_sockets: bool) -> Sandbox {
        Sandbox {
            read: Vec::new(),
            write: Vec::new(),
            read_if_there: Vec::new(),
            network,
            unix_sockets,
            backend: Backend::Auto,
            require: true,
        }
    }

    /// What the kernel would do: runs the programs on a call. Of several verdicts the strictest holds, which is the least.
    fn verdict(filters: &[BpfProgram], arch: u32, call: i64, args: [u64; 2]) -> u32 {
        let verdicts = filters.iter().map(|filter| run(filter, arch, call, args));
        // KILL_PROCESS is negative to the kernel.
        verdicts
            .min_by_key(|verdict| verdict.cast_signed())
            .unwrap()
    }

    fn run(program: &BpfProgram, arch: u32, call: i64, args: [u64; 2]) -> u32 {
        let word = |offset: u32| match offset {
            0 => u32::try_from(call).unwrap(),
            4 => arch,
            16 | 24 => (args[(offset as usize - 16) / 8] & 0xffff_ffff) as u32,
            20 | 28 => (args[(offset as usize - 20) / 8] >> 32) as u32,
            other => panic!("nothing is at {other}"),
        };
        let (mut a, mut at) = (0_u32, 0_usize);
        loop {
            let one = &program[at];
            at += 1;
            let jump = |so: bool| usize::from(if so { one.jt } else { one.jf });
            match u32::from(one.code) {
                0x20 => a = word(one.k),
                0x54 => a &= one.k,
                0x05 => at += one.k as usize,
                0x15 => at += jump(a == one.k),
                0x25 => at += jump(a > one.k),
                0x35 => at += jump(a >= one.k),
                0x06 => return one.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn errno(number: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | number.unsigned_abs()
    }

    #[test]
    fn the_calls_that_lead_around_the_fence_are_denied() {
        let filters = filters(&sandbox(Network::All, true)).unwrap();
        let of = |call| verdict(&filters, ARCH, call, [0, 0]);
        for call in [
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_kexec_load,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_open_by_handle_at,
        ] {
            assert_eq!(of(call), errno(libc::EPERM), "{call}");
        }
        for call in [libc::SYS_io_uring_setup, libc::SYS_clone3] {
            assert_eq!(of(call), errno(libc::ENOSYS), "{call}");
        }
        for call in [
            libc::SYS_read,
            libc::SYS_execve,
            libc::SYS_clone,
            libc::SYS_futex,
        ] {
            assert_eq!(of(call), ALLOW, "{call}");
        }
    }

    #[test]
    fn arguments_decide_where_only_some_uses_are_dangerous() {
        let unsigned = |number: i32| u64::from(number.unsigned_abs());
        let denied = |filters: &[BpfProgram], call, args| {
            verdict(filters, ARCH, call, args) == errno(libc::EPERM)
        };
        let none = filters(&sandbox(Network::None, false)).unwrap();
        let all = filters(&sandbox(Network::All, false)).unwrap();
        let unix = filters(&sandbox(Network::None, true)).unwrap();
        let families = [
            (libc::AF_INET, [true, false, true]),
            (libc::AF_INET6, [true, false, true]),
            (libc::AF_NETLINK, [true, false, true]),
            (libc::AF_UNIX, [true, true, false]),
            (libc::AF_VSOCK, [true, true, true]),
            (libc::AF_PACKET, [true, true, true]),
            (libc::AF_ALG, [true, true, true]),
        ];
        for (family, expected) in families {
            let found = [&none, &all, &unix]
                .map(|filters| denied(filters, libc::SYS_socket, [unsigned(family), 1]));
            assert_eq!(found, expected, "{family}");
        }
        let pair = |kind: i32| [unsigned(libc::AF_UNIX), unsigned(kind)];
        let flagged = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        assert!(!denied(
            &none,
            libc::SYS_socketpair,
            pair(libc::SOCK_STREAM | libc::SOCK_CLOEXEC)
        ));
        assert!(denied(&none, libc::SYS_socketpair, pair(flagged)));
        assert!(!denied(&unix, libc::SYS_socketpair, pair(flagged)));
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
        assert!(!denied(&all, libc::SYS_clone, [unsigned(thread), 0]));
        assert!(denied(
            &all,
            libc::SYS_clone,
            [unsigned(thread | libc::CLONE_NEWUSER), 0]
        ));
        // The kernel looks at 32 bits of a command, so the others must not hide it.
        for command in [libc::TIOCSTI, libc::TIOCSTI | 1 << 40] {
            assert!(denied(&all, libc::SYS_ioctl, [0, command]), "{command:#x}");
        }
        assert!(!denied(&all, libc::SYS_ioctl, [0, libc::TIOCGWINSZ]));
    }

    #[test]
    fn no_other_numbering_of_the_calls_leads_around_it() {
        let filters = filters(&sandbox(Network::None, false)).unwrap();
        let i386 = 0x4000_0003;
        assert_eq!(verdict(&filters, i386, libc::SYS_read, [0, 0]), KILL);
        #[cfg(target_arch = "x86_64")]
        for number in [41, 53, 521, 165, 528, 539, 56] {
            let args = [u64::from(libc::CLONE_NEWUSER.unsigned_abs()), 2];
            let found = verdict(&filters, ARCH, number | 0x4000_0000, args);
            assert_eq!(found, errno(libc::EPERM), "{number}");
        }
    }
}
