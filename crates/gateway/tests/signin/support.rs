//! A user with a home, a configuration with protected servers, and the `mainstay` that serves it.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use mainstay_testkit::authority::{Authority, Guard, Protected, Script};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

pub(crate) const MAINSTAY: &str = env!("CARGO_BIN_EXE_mainstay");
/// Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is the case.
pub(crate) async fn until<T, F>(what: &str, mut holds: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(held) = holds().await {
            return held;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A user.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    serving: Option<Child>,
}

impl Home {
    /// One whose configuration has these servers, and whose browser is a program that writes down what it is asked to open.
    pub(crate) fn new(servers: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Self { dir, serving: None };
        for name in ["run", "bin"] {
            fs::create_dir_all(home.path(name)).unwrap();
        }
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{}'\n",
            home.path("opened").display()
        );
        for name in [
            "xdg-open",
            "gio",
            "gnome-open",
            "kde-open",
            "wslview",
            "open",
        ] {
            let path = home.path("bin").join(name);
            fs::write(&path, &script).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&path, mode).unwrap();
        }
        home.configure(servers, json!({}));
        home
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, servers: Value, mainstay: Value) {
        let config = json!({ "mcpServers": servers, "mainstay": mainstay });
        fs::write(self.path("mcp.json"), config.to_string()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the browser was asked to open.
    pub(crate) fn opened(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("opened")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(MAINSTAY);
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts to serve, and waits until it answers.
    pub(crate) async fn serve(&mut self) {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line());
        let line = line.await.unwrap().unwrap().expect("the ready line");
        let (_, rest) = line.split_once("http://").unwrap();
        let (address, _) = rest.split_once('/').unwrap();
        fs::write(self.path("address"), address).unwrap();
        // Whatever else it says is read and thrown away.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        self.serving = Some(child);
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> String {
        fs::read_to_string(self.path("address")).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.serving.as_ref().unwrap().id().unwrap()
    }

    /// Ends what serves.
    pub(crate) async fn stop(&mut self) {
        let said = self.run(&["stop"]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        if let Some(mut child) = self.serving.take() {
            tokio::time::timeout(PATIENCE, child.wait())
                .await
                .unwrap()
                .unwrap();
        }
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Said {
        let output = tokio::time::timeout(PATIENCE, self.command(args).output());
        let output = output.await.expect("an end of the command").unwrap();
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A server's own record.
    pub(crate) async fn server(&self, name: &str) -> Value {
        let said = self.run(&["status", "--json"]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        let status = said.json();
        let servers = status["servers"].as_array().unwrap();
        servers
            .iter()
            .find(|server| server["name"] == name)
            .unwrap()
            .clone()
    }

    /// Waits for a state of a server.
    pub(crate) async fn until(&self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(&format!("a state of {name}"), || async {
            Some(self.server(name).await).filter(|server| is(server))
        })
        .await
    }

    /// Waits until a server needs a sign-in.
    pub(crate) async fn needs_login(&self, name: &str) -> Value {
        self.until(name, |server| {
            server["state"] == "parked" && server["lastFailure"]["kind"] == "needs-login"
        })
        .await
    }

    pub(crate) async fn connected(&self, name: &str) -> Value {
        self.until(name, |server| server["state"] == "connected")
            .await
    }

    /// Starts `mainstay login` with these arguments, up to its first line: where to go.
    pub(crate) async fn login(&self, args: &[&str]) -> Login {
        let mut child = self
            .command(&[&["login", "--json", "--no-browser"], args].concat())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line());
        let Some(first) = first.await.unwrap().unwrap() else {
            let output = child.wait_with_output().await.unwrap();
            panic!("no login: {}", String::from_utf8_lossy(&output.stderr));
        };
        let begun: Value = serde_json::from_str(&first).unwrap();
        assert_eq!(begun["state"], "waiting", "{begun}");
        Login {
            child,
            stdin,
            lines,
            begun,
        }
    }

    /// Signs in as a person with a browser does.
    pub(crate) async fn sign_in(&self, name: &str) {
        let login = self.login(&[name]).await;
        let shown = super::browser::Browser::default().open(&login.url()).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        let (code, last) = login.end().await;
        assert_eq!(code, Some(0), "{last}");
    }
}

/// A `mainstay login` that waits.
pub(crate) struct Login {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) begun: Value,
}

impl Login {
    pub(crate) fn url(&self) -> String {
        self.begun["url"].as_str().unwrap().to_owned()
    }

    /// Types a line.
    pub(crate) async fn paste(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin
            .write_all(format!("{text}\n").as_bytes())
            .await
            .unwrap();
        stdin.flush().await.unwrap();
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    /// Whether it still waits.
    pub(crate) fn waits(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its end: the exit code, and the last line of stdout, or else what it said on stderr.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let last = tokio::time::timeout(PATIENCE, self.lines.next_line());
        let last = last.await.expect("an end of the login").unwrap();
        let output = tokio::time::timeout(PATIENCE, self.child.wait_with_output());
        let output = output.await.unwrap().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), last.unwrap_or(err))
    }
}

/// An authorization server, and servers that want its tokens.
pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) servers: Vec<(&'static str, Protected)>,
}

impl World {
    /// One authorization server for servers of these names.
    pub(crate) async fn start(names: &[&'static str]) -> Self {
        Self::with(names, Guard::default()).await
    }

    /// The same with a guard of their own.
    pub(crate) async fn with(names: &[&'static str], guard: Guard) -> Self {
        let authority = Authority::start(Script::default()).await.unwrap();
        let mut servers = Vec::new();
        for name in names {
            let script = mainstay_testkit::http_server::Script::default();
            let server = Protected::start(&authority, guard.clone(), script).await;
            servers.push((*name, server.unwrap()));
        }
        Self { authority, servers }
    }

    /// The entries of the servers.
    pub(crate) fn entries(&self) -> Value {
        let mut entries = Map::new();
        for (name, server) in &self.servers {
            entries.insert((*name).to_owned(), json!({ "url": server.url() }));
        }
        Value::Object(entries)
    }

    /// A user with these servers, whose Mainstay runs, and waits for the sign-ins.
    pub(crate) async fn home(&self) -> Home {
        let mut home = Home::new(self.entries());
        home.serve().await;
        for (name, _) in &self.servers {
            home.needs_login(name).await;
        }
        home
    }

    /// How many times a code was exchanged for tokens.
    pub(crate) fn codes_spent(&self) -> u64 {
        self.authority.families().len() as u64
    }
}
