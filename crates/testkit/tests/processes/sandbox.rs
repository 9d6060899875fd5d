//! Sandboxes around real children, on the real kernel: this test program starts itself in one and tries everything.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay::process::{
    Backend, ExitInfo, Network, Sandbox, SpawnError, SpawnSpec, Spawned, spawn, system_paths,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, socketpair};
use tokio::io::AsyncReadExt;

use crate::yard::{ALONE, INITIALIZE, MISBEHAVE, Yard, ask, exit_of, lives, script, until, within};

/// Where the child finds the places that it is to try.
const FOLDER: &str = "MAINSTAY_TEST_FENCED";
const PORT: &str = "MAINSTAY_TEST_PORT";

/// A folder with one part for each right.
struct Places {
    dir: PathBuf,
    listener: TcpListener,
    _service: UnixListener,
}

impl Places {
    fn new(yard: &Yard) -> Self {
        let dir = yard.dir.path().canonicalize().unwrap();
        for part in ["secret", "readable", "writable"] {
            fs::create_dir(dir.join(part)).unwrap();
            fs::write(dir.join(part).join("file"), part).unwrap();
        }
        script(&dir.join("secret/run"), "#!/bin/sh\necho ran\n");
        script(&dir.join("readable/run"), "#!/bin/sh\necho ran\n");
        Self {
            _service: UnixListener::bind(dir.join("writable/service")).unwrap(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            dir,
        }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    fn sandbox(&self) -> Sandbox {
        let me = std::env::current_exe().unwrap();
        Sandbox {
            read: vec![self.dir.join("readable"), me, MISBEHAVE.into()],
            write: vec![self.dir.join("writable")],
            read_if_there: system_paths(),
            network: Network::None,
            unix_sockets: false,
            backend: Backend::Landlock,
            require: true,
        }
    }

    fn spec(&self, yard: &Yard, sandbox: Sandbox) -> SpawnSpec {
        let me = std::env::current_exe().unwrap();
        let name = "sandbox::what_a_child_can_do_in_there";
        let args = ["--exact", name, "--nocapture", "--test-threads=1"];
        let mut spec = yard.spec(me.to_str().unwrap(), &args);
        let own: [(&str, OsString); 2] = [
            (FOLDER, self.dir.clone().into()),
            (PORT, self.port().to_string().into()),
        ];
        spec.env.retain(|(name, _)| name != ALONE);
        spec.env
            .extend(own.map(|(name, value)| (name.into(), value)));
        spec.cwd = Some(self.dir.join("readable"));
        spec.sandbox = Some(Arc::new(sandbox));
        spec
    }

    /// What the child could do in such a sandbox: one word for each thing that it tried.
    async fn tried(&self, yard: &Yard, sandbox: Sandbox) -> Vec<String> {
        let mut server = within("a start", spawn(self.spec(yard, sandbox), &yard.guardian))
            .await
            .unwrap();
        let said = all_of(&mut server).await;
        let done = exit_of(&server.process).await;
        let words = server.stderr.tail(20).join("\n");
        assert_eq!(done.code, Some(0), "{said}\n{words}");
        yard.bury(&mut server).await;
        let could = said.lines().filter_map(|line| line.strip_prefix("could: "));
        could.map(str::to_owned).collect()
    }
}

async fn all_of(server: &mut Spawned) -> String {
    let mut said = String::new();
    within("the end of stdout", server.stdout.read_to_string(&mut said))
        .await
        .unwrap();
    said
}

/// Without opening it for writing in the usual way.
fn empty(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).truncate(true).open(path).map(drop)
}

/// The other side of the tests below: tries everything and says what was possible. Does nothing by itself.
#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one flat list of everything that is tried"
)]
fn what_a_child_can_do_in_there() {
    let Some(dir) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let port: u16 = std::env::var(PORT).unwrap().parse().unwrap();
    let at = |path: &str| dir.join(path);
    let read = |path: &str| fs::read(at(path)).map(drop);
    let append = |path: &str| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).open(at(path))?;
        file.write_all(b"+")
    };
    let run = |path: &str| match std::process::Command::new(at(path)).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(io::Error::other(status.to_string())),
        Err(error) => Err(error),
    };
    let parent = rustix::process::getppid().unwrap().as_raw_nonzero();
    let pair = |kind| {
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, kind, flags, None).map(drop)
    };
    let netlink = || {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        socket_with(family, kind, SocketFlags::CLOEXEC, None).map(drop)
    };
    let command = |program: &str, args: &[&str]| -> io::Result<()> {
        let status = std::process::Command::new(program)
            .args(args)
            .stderr(std::process::Stdio::null())
            .status()?;
        status
            .success()
            .then_some(())
            .ok_or(io::ErrorKind::Other.into())
    };
    let tries: Vec<(&str, io::Result<()>)> = vec![
        ("read secret", read("secret/file")),
        ("list secret", fs::read_dir(at("secret")).map(drop)),
        ("write secret", append("secret/file")),
        ("empty secret", empty(&at("secret/file"))),
        ("remove secret", fs::remove_file(at("secret/file"))),
        ("run secret", run("secret/run")),
        (
            "link secret",
            fs::hard_link(at("secret/file"), at("writable/link")),
        ),
        ("climb", fs::read(at("readable/../secret/file")).map(drop)),
        ("read", read("readable/file")),
        ("run", run("readable/run")),
        ("write readable", append("readable/file")),
        ("create in readable", fs::write(at("readable/new"), "x")),
        ("remove readable", fs::remove_file(at("readable/file"))),
        ("write", append("writable/file")),
        ("create", fs::write(at("writable/new"), "x")),
        ("remove", fs::remove_file(at("writable/new"))),
        (
            "other's environment",
            fs::read(format!("/proc/{parent}/environ")).map(drop),
        ),
        (
            "signal parent",
            rustix::process::test_kill_process(rustix::process::getppid().unwrap())
                .map_err(Into::into),
        ),
        ("tcp", TcpStream::connect(("127.0.0.1", port)).map(drop)),
        ("listen", TcpListener::bind("127.0.0.1:0").map(drop)),
        ("udp", UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("netlink", netlink().map_err(Into::into)),
        (
            "unix",
            UnixStream::connect(at("writable/service")).map(drop),
        ),
        ("unix datagram", UnixDatagram::unbound().map(drop)),
        ("pair", pair(SocketType::STREAM).map_err(Into::into)),
        ("datagram pair", pair(SocketType::DGRAM).map_err(Into::into)),
        ("namespace", command("unshare", &["--user", "true"])),
        ("null", fs::write("/dev/null", "x")),
        (
            "thread",
            std::thread::Builder::new()
                .spawn(|| ())
                .map(|thread| thread.join().unwrap()),
        ),
    ];
    for (what, tried) in tries {
        match tried {
            Ok(()) => println!("\ncould: {what}"),
            Err(error) => println!("\ncould not: {what}: {error}"),
        }
    }
}

// --- what it holds -----------------------------------------------------------------------------------------------------

const ALWAYS: [&str; 8] = [
    "read", "run", "write", "create", "remove", "pair", "null", "thread",
];

fn expected(more: &[&str]) -> Vec<String> {
    let order = [
        "read",
        "run",
        "write",
        "create",
        "remove",
        "tcp",
        "listen",
        "udp",
        "netlink",
        "unix",
        "unix datagram",
        "pair",
        "datagram pair",
        "null",
        "thread",
    ];
    let wanted = order
        .iter()
        .filter(|word| ALWAYS.contains(word) || more.contains(word));
    wanted.map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn a_sandbox_opens_what_is_declared_and_nothing_else() {
    let yard = Yard::new();
    let places = Places::new(&yard);
    assert_eq!(places.tried(&yard, places.sandbox()).await, expected(&[]));
    for (part, content) in [
        ("secret", "secret"),
        ("readable", "readable"),
        ("writable", "writable+"),
    ] {
        let file = places.dir.join(part).join("file");
        assert_eq!(fs::read_to_string(file).unwrap(), content);
    }
}

#[tokio::test]
async fn a_sandbox_with_the_network_has_the_network_and_no_more() {
    let yard = Yard::new();
    let places = Places::new(&yard);
    let sandbox = Sandbox {
        network: Network::All,
        ..places.sandbox()
    };
    let network = ["tcp", "listen", "udp", "netlink"];
    assert_eq!(places.tried(&yard, sandbox).await, expected(&network));
}

#[tokio::test]
async fn a_sandbox_tells_ports_apart() {
    let yard = Yard::new();
    let places = Places::new(&yard);
    let with = |connect: Vec<u16>| Sandbox {
        network: Network::Ports {
            connect,
            listen: Vec::new(),
        },
        ..places.sandbox()
    };
    let ours = places.tried(&yard, with(vec![places.port()])).await;
    assert_eq!(ours, expected(&["tcp", "udp", "netlink"]));
    fs::write(places.dir.join("readable/file"), "readable").unwrap();
    let others = places.tried(&yard, with(vec![1])).await;
    assert_eq!(others, expected(&["udp", "netlink"]));
}

#[tokio::test]
async fn a_sandbox_with_unix_sockets_reaches_services() {
    let yard = Yard::new();
    let places = Places::new(&yard);
    let sandbox = Sandbox {
        unix_sockets: true,
        ..places.sandbox()
    };
    let sockets = ["unix", "unix datagram", "datagram pair"];
    assert_eq!(places.tried(&yard, sandbox).await, expected(&sockets));
}

// --- what it leaves as it is ---------------------------------------------------------------------------------------------

fn fenced(yard: &Yard, program: &str, args: &[&str]) -> SpawnSpec {
    let mut spec = yard.spec(program, args);
    spec.sandbox = Some(Arc::new(Sandbox {
        read: vec![MISBEHAVE.into()],
        write: vec![yard.dir.path().to_owned()],
        read_if_there: system_paths(),
        network: Network::None,
        unix_sockets: false,
        backend: Backend::Auto,
        require: true,
    }));
    spec
}

async fn start(yard: &Yard, spec: SpawnSpec) -> Spawned {
    within("a start", spawn(spec, &yard.guardian))
        .await
        .unwrap()
}

#[tokio::test]
async fn law_13_an_exit_out_of_a_sandbox_is_noticed_and_its_code_told() {
    let yard = Yard::new();
    let flags = [
        "--ledger",
        "ledger",
        "--grandchild",
        "--exit-at",
        "initialize",
        "--exit-code",
        "7",
    ];
    let mut server = start(&yard, fenced(&yard, MISBEHAVE, &flags)).await;
    assert!(
        server
            .fence
            .as_deref()
            .is_some_and(|words| words.starts_with("Landlock"))
    );
    tokio::io::AsyncWriteExt::write_all(&mut server.stdin, INITIALIZE)
        .await
        .unwrap();
    let seven = ExitInfo {
        code: Some(7),
        signal: None,
    };
    assert_eq!(exit_of(&server.process).await, seven);
    let [grandchild] = yard.ledger("grandchild")[..] else {
        panic!("{:?}", yard.ledger("grandchild"));
    };
    assert!(lives(grandchild));
    yard.bury(&mut server).await;
    assert!(!lives(grandchild));
}

#[tokio::test]
async fn law_29_a_sandboxed_group_hears_term_says_its_last_words_and_goes() {
    let yard = Yard::new();
    let text =
        "echo $$ >> pids; sleep 600 & echo $! >> pids; trap 'echo bye >&2; exit 3' TERM; wait";
    let mut server = start(&yard, fenced(&yard, "sh", &["-c", text])).await;
    yard.until_pids(2).await;
    server.process.terminate();
    let three = ExitInfo {
        code: Some(3),
        signal: None,
    };
    assert_eq!(exit_of(&server.process).await, three);
    until("the last words", || server.stderr.tail(1) == ["bye"]).await;
    yard.bury(&mut server).await;
    assert_eq!(yard.living(), crate::yard::NOBODY);
}

#[tokio::test]
async fn a_sandboxed_server_answers() {
    let yard = Yard::new();
    let mut server = start(&yard, fenced(&yard, MISBEHAVE, &["--ledger", "ledger"])).await;
    let answer = ask(&mut server, INITIALIZE).await;
    assert!(answer.contains("\"result\""), "{answer}");
    yard.bury(&mut server).await;
}

// --- what cannot be had --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_sandbox_that_cannot_be_had_is_no_start() {
    let yard = Yard::new();
    let broken = |change: &dyn Fn(&mut Sandbox)| {
        let mut spec = fenced(&yard, "sh", &["-c", "echo ran > ran"]);
        let mut sandbox = Sandbox::clone(spec.sandbox.as_ref().unwrap());
        change(&mut sandbox);
        spec.sandbox = Some(Arc::new(sandbox));
        spec
    };
    let gone = yard.dir.path().join("gone");
    for (spec, word) in [
        (broken(&|sandbox| sandbox.read.push(gone.clone())), "gone"),
        (broken(&|sandbox| sandbox.write.push(gone.clone())), "gone"),
        // The program itself is outside.
        (broken(&|sandbox| sandbox.read_if_there.clear()), "executed"),
    ] {
        let failed = within("a start", spawn(spec, &yard.guardian)).await;
        let Err(error @ SpawnError::Unfenced { .. }) = failed else {
            panic!("{word}: {failed:?}");
        };
        let words = error.to_string();
        assert!(
            words.contains(word) && words.contains("`sandbox`"),
            "{words}"
        );
    }
    assert!(!yard.dir.path().join("ran").exists());
    // Whoever can do without says so.
    let mut server = start(
        &yard,
        broken(&|sandbox| {
            sandbox.read.push(gone.clone());
            sandbox.require = false;
        }),
    )
    .await;
    assert_eq!(exit_of(&server.process).await.code, Some(0));
    assert_eq!(server.fence, None, "and is told");
    yard.bury(&mut server).await;
}

// --- bubblewrap ----------------------------------------------------------------------------------------------------------

/// Where `bwrap` may not do its work (a container, a kernel without user namespaces), it is an error of the start.
#[tokio::test]
async fn bubblewrap_holds_or_is_an_error() {
    let yard = Yard::new();
    let places = Places::new(&yard);
    let sandbox = Sandbox {
        backend: Backend::Bubblewrap,
        ..places.sandbox()
    };
    if !Path::new("/usr/bin/bwrap").exists() {
        let failed = spawn(places.spec(&yard, sandbox), &yard.guardian).await;
        let words = failed.unwrap_err().to_string();
        assert!(words.contains("bubblewrap"), "{words}");
        return;
    }
    let could = places.tried(&yard, sandbox).await;
    for denied in [
        "secret",
        "readable",
        "tcp",
        "climb",
        "unix",
        "udp",
        "netlink",
        "namespace",
    ] {
        assert!(!could.iter().any(|word| word.contains(denied)), "{could:?}");
    }
    for allowed in ["read", "run", "write", "create", "remove"] {
        assert!(could.iter().any(|word| word == allowed), "{could:?}");
    }
}
