//! Files, TCP ports, signals and abstract sockets: a Landlock ruleset, made before the fork.
//!
//! What the declared paths and ports need is a hard requirement; what newer kernels fence on top of it is taken where it
//! is there, and named.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};

use super::super::raw;
use super::{Network, Sandbox, Unfenced};

/// The first ABI without which writing cannot be fenced: files could be emptied (Linux 6.2).
const FILES: ABI = ABI::V3;
/// The first ABI that knows ports (Linux 6.7).
const PORTS: ABI = ABI::V4;
/// The first ABI that fences device commands (Linux 6.10).
const DEVICES: ABI = ABI::V5;
/// The first ABI that fences signals and abstract sockets (Linux 6.12).
const SCOPES: ABI = ABI::V6;

/// Devices that every program may use.
const HARMLESS: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// The ruleset, and what it fences, for people.
pub(super) fn ruleset(sandbox: &Sandbox) -> Result<(OwnedFd, String), Unfenced> {
    let abi = raw::landlock_abi();
    let wanted = match sandbox.network {
        Network::None | Network::All => FILES,
        Network::Ports { .. } => PORTS,
    };
    if abi < wanted as i32 {
        return Err(missing(abi, wanted));
    }
    let made = make(sandbox).map_err(|error| {
        Unfenced::new(format!("Landlock does not take what it declares: {error}"))
    })?;
    let ruleset: Option<OwnedFd> = made.into();
    let ruleset = ruleset.ok_or_else(|| missing(abi, wanted))?;
    let mut fenced = vec!["files"];
    if matches!(sandbox.network, Network::Ports { .. }) {
        fenced.push("TCP ports");
    }
    if abi >= DEVICES as i32 {
        fenced.push("devices");
    }
    if abi >= SCOPES as i32 {
        fenced.push("signals");
    }
    Ok((ruleset, format!("Landlock {abi} ({})", fenced.join(", "))))
}

fn missing(abi: i32, wanted: ABI) -> Unfenced {
    let since = if wanted == FILES { "6.2" } else { "6.7" };
    let wanted = wanted as i32;
    Unfenced::new(match abi {
        i32::MIN..=0 => {
            "the kernel has no Landlock, or it is switched off (see the kernel's `lsm=`)".to_owned()
        }
        _ => format!(
            "the kernel's Landlock is version {abi}, and what is declared needs {wanted} (Linux {since})"
        ),
    })
}

type Made = Result<RulesetCreated, Box<dyn std::error::Error>>;

fn make(sandbox: &Sandbox) -> Made {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(FILES))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(DEVICES))?
        .scope(Scope::from_all(SCOPES))?;
    let ports = AccessNet::from_all(PORTS);
    match sandbox.network {
        Network::All => {}
        Network::None => rules = rules.handle_access(ports)?,
        Network::Ports { .. } => {
            rules = rules
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(ports)?
                .set_compatibility(CompatLevel::BestEffort);
        }
    }
    let mut made = rules.create()?;
    let read = AccessFs::from_read(FILES);
    let all = AccessFs::from_all(DEVICES);
    for path in &sandbox.read {
        made = beneath(made, path, read)?;
    }
    for path in &sandbox.write {
        made = beneath(made, path, all)?;
    }
    for path in sandbox.read_if_there.iter().filter(|path| path.exists()) {
        made = beneath(made, path, read)?;
    }
    for device in HARMLESS.map(PathBuf::from) {
        if device.exists() {
            made = beneath(made, &device, all)?;
        }
    }
    if let Network::Ports { connect, listen } = &sandbox.network {
        for port in connect {
            made = made.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        for port in listen {
            made = made.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
    }
    Ok(made)
}

/// What may be done at and below a path. A file takes the rights of files alone.
fn beneath(made: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Made {
    let is_dir = path.is_dir();
    let access = if is_dir {
        access
    } else {
        access & AccessFs::from_file(DEVICES)
    };
    Ok(made.add_rule(PathBeneath::new(PathFd::new(path)?, access))?)
}
