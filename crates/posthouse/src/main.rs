//! The command line of Posthouse.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use posthouse::config::{Config, Flags, LogFormat};
use posthouse::wiring::{Server, World};
use posthouse::{apps, bench, demo};
use posthouse_store::SqliteStore;
use tokio::signal::unix::{SignalKind, signal};

/// See `docs/adr/0018-the-path-outside-the-store.md` for what others cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A small, fast, trustworthy instant-messaging server.
///
/// Speaks the wire of LeanCloud Realtime, so that shipped apps keep working when their server
/// address changes. Start with `posthouse demo`.
#[derive(Parser)]
#[command(name = "posthouse", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve {
        #[command(flatten)]
        file: FileFlag,
        #[command(flatten)]
        flags: Flags,
    },
    /// See it work: a server with a demo app, and two scripted clients that talk.
    Demo(DemoFlags),
    /// Make and look after apps, also beside a running server.
    App {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: apps::Command,
    },
    /// Read the configuration as `serve` would, and print what is in force.
    CheckConfig {
        #[command(flatten)]
        file: FileFlag,
        #[command(flatten)]
        flags: Flags,
    },
    /// Generate load over the real socket and measure; fails on any loss, duplicate or disorder.
    Bench(bench::Args),
}

#[derive(Args)]
struct FileFlag {
    /// Configuration file; `posthouse.toml` here is read if it exists.
    #[arg(long, env = "POSTHOUSE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Which data directory an offline command works on.
#[derive(Args)]
struct Place {
    /// Configuration file; `posthouse.toml` here is read if it exists.
    #[arg(long, env = "POSTHOUSE_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Directory of everything that is kept.
    #[arg(long, env = "POSTHOUSE_DATA", value_name = "DIR", global = true)]
    data: Option<String>,
}

#[derive(Args)]
struct DemoFlags {
    /// Run the talk on a free port and a temporary directory, print it, and exit.
    #[arg(long)]
    once: bool,
    /// Address for apps [default: 127.0.0.1:7700, with --once a free port].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Directory to keep the demo's data in [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration file for everything else.
    #[arg(long, env = "POSTHOUSE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Whatever went wrong, in words; its causes follow it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let command =
        Cli::command().mut_subcommand("serve", with_defaults).mut_subcommand("check-config", with_defaults);
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve { file, flags } => serve(file.config.as_deref(), &flags).await,
            Command::Demo(flags) => run_demo(flags).await,
            Command::App { place, command } => app(place, command).await,
            Command::CheckConfig { file, flags } => check_config(file.config.as_deref(), &flags),
            Command::Bench(args) => Ok(bench::run(args).await?),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Adds to each option's help what is in force without it. Flags are optional for clap, because the
/// file comes between them and the default.
fn with_defaults(command: clap::Command) -> clap::Command {
    Config::describe().into_iter().fold(command, |command, option| {
        let default = if option.default.is_empty() { "none" } else { option.default };
        command.mut_arg(option.key, |arg| arg.help(format!("{} [default: {default}]", option.meaning)))
    })
}

fn fail(error: &Failure) -> ExitCode {
    let mut text = format!("posthouse: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.contains(&line) {
            text.push_str(&format!("\n  because: {line}"));
        }
        cause = error.source();
    }
    if writeln!(std::io::stderr(), "{text}").is_err() {
        return ExitCode::from(2);
    }
    ExitCode::FAILURE
}

async fn serve(file: Option<&Path>, flags: &Flags) -> Result<(), Failure> {
    let config = Config::load(file, flags)?;
    start_log(&config)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    // Installed before the first client can connect, so that no early signal kills us half-way.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(&config, World::default()).await?;
    if let Err(error) = announce(&server) {
        tracing::warn!(%error, "standard output is closed; the server runs on");
    }
    if server.posthouse.store().apps_since(0).await?.is_none_or(|(_, apps)| apps.is_empty()) {
        tracing::info!(
            "there is no app yet; make one with `posthouse app create NAME --data {}`",
            config.data.display()
        );
    }
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to stop (SIGTERM)"),
        _ = interrupt.recv() => tracing::info!("told to stop (SIGINT)"),
    }
    server.stop().await;
    tracing::info!("stopped; everything accepted is on disk");
    Ok(())
}

/// Two lines for people and scripts, which learn from them which ports the system chose.
fn announce(server: &Server) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "posthouse: ready on {}", server.url())?;
    writeln!(stdout, "posthouse: admin on http://{}", server.admin_address)?;
    stdout.flush()
}

async fn run_demo(flags: DemoFlags) -> Result<(), Failure> {
    let temporary = tempfile::tempdir()?;
    let data = flags.data.unwrap_or_else(|| temporary.path().to_owned());
    let listen = flags.listen.or_else(|| flags.once.then(|| "127.0.0.1:0".to_owned()));
    let overrides = Flags {
        data: Some(data.display().to_string()),
        listen,
        admin_listen: Some("127.0.0.1:0".to_owned()),
        log: Some("warn".to_owned()),
        drain_seconds: Some("1".to_owned()),
        ..Flags::default()
    };
    let config = Config::load(flags.config.as_deref(), &overrides)?;
    start_log(&config)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(&config, World::default()).await?;
    let app = match apps::find(server.posthouse.store().as_ref(), "demo").await {
        Ok(app) => app,
        Err(apps::AppError::Unknown(_)) => {
            apps::create(server.posthouse.store().as_ref(), "demo", &apps::Keys::default()).await?
        }
        Err(error) => return Err(error.into()),
    };
    server.posthouse.reload_apps().await?;
    let target = demo::DemoTarget {
        url: server.url(),
        app_id: app.key("leancloud.id").unwrap_or_default().to_owned(),
        app_key: app.key("leancloud.key").unwrap_or_default().to_owned(),
        easemob_appkey: app.key("easemob.appkey").unwrap_or_default().to_owned(),
        easemob_client_id: app.key("easemob.client_id").unwrap_or_default().to_owned(),
        easemob_client_secret: app.key("easemob.client_secret").unwrap_or_default().to_owned(),
    };
    let mut stdout = std::io::stdout();
    let tom = demo::talk(&target, &mut stdout).await?;
    demo::kept::talk(&target, &mut stdout).await?;
    if !flags.once {
        demo::invite(&target, &mut stdout)?;
        tokio::select! {
            ended = demo::keep_company(tom, &mut stdout) => ended?,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    server.stop().await;
    Ok(())
}

async fn app(place: Place, command: apps::Command) -> Result<(), Failure> {
    let flags = Flags { data: place.data, ..Flags::default() };
    let config = Config::load(place.config.as_deref(), &flags)?;
    let store = SqliteStore::open_for_apps(&config.data)?;
    apps::run(&store, command, &mut std::io::stdout()).await?;
    Ok(())
}

fn check_config(file: Option<&Path>, flags: &Flags) -> Result<(), Failure> {
    let config = Config::load(file, flags)?;
    if let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) {
        posthouse_transport::TlsConfig::from_files(cert, key)?;
    }
    let mut stdout = std::io::stdout();
    for (key, value) in config.entries() {
        writeln!(stdout, "{key} = {value}")?;
    }
    for warning in config.warnings() {
        writeln!(stdout, "warning: {warning}")?;
    }
    writeln!(stdout, "the configuration is good")?;
    Ok(())
}

fn start_log(config: &Config) -> Result<(), Failure> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(config.log_filter()?)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
