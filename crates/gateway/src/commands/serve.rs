//! `mainstay serve`: everything up, until told to stop.

mod life;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay::config::{Config, GatewayConfig, Loaded, ServerConfig};
use mainstay::store::Store;
use mainstay::{Manager, ShutdownReport, journal, wire_log};
use mainstay_gateway::record::{self, Recorder};
use mainstay_gateway::reload::ConfigLife;
use mainstay_gateway::serve::serve;
use mainstay_gateway::{Gateway, GatewaySettings, admin};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use super::doors::{self, LocalSocket};
use super::progress::{self, Progress};
use super::signals::Signals;
use super::{config, paths};
use crate::cli::output::{Output, Stderr, draw_progress};
use crate::cli::{LogFormat, ServeArgs};
use crate::exit::{Exit, Stop};

/// Serves until told to stop.
///
/// # Errors
/// Everything that prevents the start, each with its own exit code. One bad server does not.
pub(crate) async fn run(args: ServeArgs, output: Output) -> Result<Exit, Stop> {
    log(&args, output)?;
    let (loaded, text) = config::load_text(args.config.config.as_deref())?;
    let Loaded {
        config, problems, ..
    } = loaded;
    config::tell(output, &problems);
    let state_dir = state_dir(&args, &config.gateway, output);
    let mut settings = GatewaySettings::from(&config.gateway);
    settings.listen = args.listen.unwrap_or(config.gateway.listen);
    settings.state_dir.clone_from(&state_dir);
    let (listener, (local, socket)) =
        listening(&args, &config.gateway, &mut settings, output).await?;
    mainstay_gateway::serve::local::announce(args.background);
    let address = listener
        .local_addr()
        .map_err(|error| Stop::unexpected("cannot read the listener's address", error))?;
    settings.listen = address;
    tell_access(&settings, output);
    let ready = ready_line(&settings, config.servers.len(), socket.as_ref());
    let mut signals = Signals::listen()?;
    let recorder = recorder(&args, &config.servers)?;
    let loaded = config.clone();
    let starters = progress::starters(&config);
    let manager = Manager::builder()
        .config(config)
        .journal(state_dir.as_ref().map(|dir| dir.join(journal::DIR_NAME)))
        .state_dir(state_dir)
        .start()
        .await
        .map_err(|error| Stop::unexpected("cannot start the servers", error))?;
    let gateway = Gateway::new(manager.clone(), settings);
    if let Some(recorder) = &recorder {
        gateway.record(recorder.clone());
    }
    let life = life(loaded, text, &manager, recorder);
    gateway.follow_config(Arc::clone(&life));
    #[cfg(feature = "otlp")]
    let exporting = export(&manager, output);
    let stop_asked = gateway.stop_asked();
    let doors = Doors::open(gateway.clone(), listener, local);
    if let Some(hangups) = signals.hangups() {
        let ending = doors.closing.clone();
        doors
            .tasks
            .spawn(life::follow(life, manager.clone(), hangups, ending));
    }
    output.line(&ready)?;
    let progress = show_progress(&args, &manager, starters, output);
    tokio::select! {
        // Cancel-safe: a signal stays pending in its stream.
        () = signals.next() => {}
        // Cancel-safe: a token holds nothing.
        () = stop_asked.cancelled() => {}
    }
    if let Some(progress) = progress {
        progress.end().await;
    }
    let report = end(&manager, doors, &mut signals, output).await;
    gateway.end_audit().await;
    drop(socket);
    #[cfg(feature = "otlp")]
    exported(exporting).await;
    output.line(&last_line(&report))?;
    Ok(Exit::Ok)
}

/// Sends the last of what is exported.
#[cfg(feature = "otlp")]
async fn exported(exporting: Option<mainstay_gateway::telemetry::otlp::Exporting>) {
    if let Some(exporting) = exporting {
        // Its deadline is its own; a panic in there has been logged.
        let _ = tokio::task::spawn_blocking(|| exporting.end()).await;
    }
}

/// Begins to export traces and metrics, if the environment says where to. What it says wrongly keeps nobody from serving.
#[cfg(feature = "otlp")]
fn export(
    manager: &Manager,
    output: Output,
) -> Option<mainstay_gateway::telemetry::otlp::Exporting> {
    match mainstay_gateway::telemetry::otlp::start(manager) {
        Ok(exporting) => exporting,
        Err(error) => {
            output.warn(
                &format!("going on without OpenTelemetry: {error}"),
                Some("look at the variables that begin with OTEL_"),
            );
            None
        }
    }
}

/// The door on the network, and the local one if there is one.
async fn listening(
    args: &ServeArgs,
    config: &GatewayConfig,
    settings: &mut GatewaySettings,
    output: Output,
) -> Result<(TcpListener, (Option<UnixListener>, Option<LocalSocket>)), Stop> {
    if args.background {
        leave_terminal();
        // The socket first: of several that start at once, all but one leave here, with the exit code that says so.
        let local = local_socket(args, config, output)?.unzip();
        return Ok((listen_somewhere(settings, output).await?, local));
    }
    let listener = doors::listen(settings).await?;
    Ok((listener, local_socket(args, config, output)?.unzip()))
}

/// Says what a person would want to know of who may come in, and may not have meant.
fn tell_access(settings: &GatewaySettings, output: Output) {
    let access = &settings.access;
    if access.tls.is_none() && !settings.listen.ip().to_canonical().is_loopback() {
        output.warn(
            "without TLS, whoever is on the way to this port can read the tokens that clients send",
            Some("set `mainstay.access.tls`, or let something in front speak TLS and nothing else reach this port"),
        );
    }
    if access.allowed_hosts.is_empty()
        && access.resource.is_none()
        && settings.listen.ip().is_unspecified()
    {
        output.warn(
            "requests are only answered that address this Mainstay by a loopback name, because no other is known to be its own",
            Some("name those that clients use as `mainstay.access.allowedHosts`, or the address as `mainstay.access.resource`"),
        );
    }
}

/// What is known of the config file from now on.
fn life(
    loaded: Config,
    text: Vec<u8>,
    manager: &Manager,
    recorder: Option<Recorder>,
) -> Arc<ConfigLife> {
    // Everything that is served was read from a file.
    let path = loaded.source.clone().unwrap_or_default();
    let life = ConfigLife::new(&path, text, loaded, manager.clone(), recorder);
    Arc::new(life)
}

/// Shows the servers that start, to whoever sits there.
fn show_progress(
    args: &ServeArgs,
    manager: &Manager,
    starters: Vec<String>,
    output: Output,
) -> Option<Progress> {
    let nobody = args.background || args.log_format == LogFormat::Json || starters.is_empty();
    (!nobody).then(|| {
        draw_progress();
        Progress::of_all(manager, starters, output, true)
    })
}

/// Starts the wire log that was asked for, before the first message.
fn recorder(args: &ServeArgs, servers: &[ServerConfig]) -> Result<Option<Recorder>, Stop> {
    let Some(file) = &args.record else {
        return Ok(None);
    };
    let bytes_max = args.record_mib.saturating_mul(1024 * 1024);
    let recorder =
        Recorder::start(file, bytes_max, record::secrets_of(servers)).map_err(|error| {
            Stop::unexpected(&format!("cannot write to {}", file.display()), error)
                .hint("name a file in a directory that you may write to with --record")
        })?;
    wire_log::install(Box::new(recorder.clone()));
    Ok(Some(recorder))
}

/// Leaves the session of whoever started us: their terminal, and their end, are not ours.
fn leave_terminal() {
    // Fails only for the leader of a process group, which has left already or was started on its own.
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "stays in its session");
    }
}

/// Nobody is there to choose another port, and the local socket is what counts: a taken one is no reason to fail.
async fn listen_somewhere(
    settings: &mut GatewaySettings,
    output: Output,
) -> Result<TcpListener, Stop> {
    match doors::listen(settings).await {
        Err(stop) if stop.exit == Exit::PortInUse => {
            output.warn(&format!("{stop}; taking a free port instead"), None);
            settings.listen.set_port(0);
            doors::listen(settings).await
        }
        listening => listening,
    }
}

/// What there is to say when the doors are open, on one line.
fn ready_line(settings: &GatewaySettings, servers: usize, socket: Option<&LocalSocket>) -> String {
    let socket = socket
        .map(|socket| format!(", socket {}", socket.path().display()))
        .unwrap_or_default();
    let servers = format!("{servers} {}", config::plural(servers, "server"));
    let scheme = settings.access.tls.as_ref().map_or("http", |_| "https");
    let at = format!("{scheme}://{}", settings.listen);
    format!("mainstay: {servers} at {at}/mcp, each alone at {at}/servers/NAME/mcp{socket}")
}

/// What there is to say when everything has ended, on one line: who had to be killed, who is left, and what became of the
/// calls that were running.
fn last_line(report: &ShutdownReport) -> String {
    let mut line = "mainstay: stopped".to_owned();
    let mut say = |words: &str, names: &[String]| {
        if !names.is_empty() {
            line.push_str(&format!("; {words}: {}", names.join(", ")));
        }
    };
    say("had to be killed", &report.killed);
    say("still there", &report.left);
    let (finished, cut) = (report.calls_finished, report.calls_cut);
    if finished + cut > 0 {
        line.push_str(&format!("; running calls: {finished} finished, {cut} cut"));
    }
    line
}

/// The open doors and the tasks behind them.
#[derive(Debug)]
pub(crate) struct Doors {
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Doors {
    /// Lets people in.
    pub(crate) fn open(
        gateway: Gateway,
        listener: TcpListener,
        local: Option<UnixListener>,
    ) -> Self {
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        if let Some(local) = local {
            let served = admin::serve_unix(local, admin::router(gateway.clone()), closing.clone());
            tasks.spawn(async move {
                served.await;
            });
        }
        let served = serve(listener, gateway, closing.clone());
        tasks.spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "the gateway does not serve");
            }
        });
        Self { tasks, closing }
    }

    /// Lets nobody in any more; answers on their way get the gateway's drain time. Cancel-safe.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// How long answers on their way get after a second signal: long enough for callers to hear how their calls ended.
const HURRIED_DOORS: Duration = Duration::from_millis(250);

/// Ends everything: the servers first, while callers still get a proper refusal, then the doors. Says how it went.
pub(crate) async fn end(
    manager: &Manager,
    doors: Doors,
    signals: &mut Signals,
    output: Output,
) -> ShutdownReport {
    tracing::info!("stopping; a second signal skips every grace period");
    let hurry = CancellationToken::new();
    let ending = async {
        let report = manager.shutdown().await;
        let hurried = async {
            hurry.cancelled().await;
            tokio::time::sleep(HURRIED_DOORS).await;
        };
        tokio::select! {
            // Cancel-safe: what is left of the doors ends with the program.
            () = doors.close() => {}
            // Cancel-safe: a token and a sleep hold nothing.
            () = hurried => {}
        }
        report
    };
    tokio::pin!(ending);
    let mut hurried = false;
    loop {
        tokio::select! {
            // Cancel-safe: pinned and polled on.
            report = &mut ending => return report,
            // Cancel-safe: a signal stays pending in its stream.
            () = signals.next() => {
                if hurried {
                    output.note("leaving at once");
                    std::process::exit(i32::from(Exit::Interrupted.code()));
                }
                hurried = true;
                hurry.cancel();
                manager.hurry();
            }
        }
    }
}

fn log(args: &ServeArgs, output: Output) -> Result<(), Stop> {
    let filter = EnvFilter::try_new(&args.log_level).map_err(|error| {
        Stop::new(Exit::Usage, format!("`{}` is no log level", args.log_level))
            .because(error)
            .hint(
                "use error, warn, info, debug or trace, or a filter such as `info,mainstay=debug`",
            )
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Stderr)
        .with_ansi(output.color_err());
    match args.log_format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// The local socket. One that was asked for must work; without the usual one the rest still does.
fn local_socket(
    args: &ServeArgs,
    config: &GatewayConfig,
    output: Output,
) -> Result<Option<(UnixListener, LocalSocket)>, Stop> {
    let asked = args.socket.socket.clone().or_else(|| config.socket.clone());
    let is_asked = asked.is_some();
    let opened = asked
        .map_or_else(paths::default_socket, Ok)
        .and_then(|path| doors::open_socket(&path));
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(stop) if is_asked || stop.exit == Exit::AlreadyRunning => Err(stop),
        Err(stop) => {
            output.warn(
                &format!("going on without `mainstay status` and its like: {stop}"),
                stop.hint.as_deref(),
            );
            Ok(None)
        }
    }
}

/// The state directory, if it can be used: catalogs that cannot be kept are no reason not to serve.
fn state_dir(args: &ServeArgs, config: &GatewayConfig, output: Output) -> Option<PathBuf> {
    let dir = args
        .state_dir
        .clone()
        .or_else(|| config.state_dir.clone())
        .or_else(Store::default_dir)?;
    match Store::open(&dir) {
        Ok(_) => Some(dir),
        Err(error) => {
            let text = error.to_string();
            let what = text.lines().next().unwrap_or_default();
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            output.warn(
                &format!("going on without remembered catalogs: {what}{cause}"),
                Some("name a directory that you may write to with --state-dir"),
            );
            None
        }
    }
}
