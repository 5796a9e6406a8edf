//! The floor under all figures: a server that does nothing but answer each WebSocket message with itself, on
//! the crate and the buffers that Posthouse uses, under the same load generator. What Posthouse costs beyond
//! this, Posthouse is to blame for.

use std::io::{BufRead as _, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

use super::connect::Dial;
use super::report;
use super::request_report::RequestReport;
use super::requests::{self, Asker, LoadArgs, Measured};
use super::schedule::Dice;
use super::server::Server;
use super::{Error, Target, check_open_files};
use crate::peer::{self, Wire};

/// As in the server: `posthouse-transport`, `websocket.rs`.
const READ_BUFFER: usize = 4 << 10;
const WRITE_BUFFER: usize = 16 << 10;
const MESSAGE_BYTES_MAX: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(10);
/// What an echo may take at the 99th percentile, for the ladder: as an ack of B1.
const P99_MS_MAX: f64 = 200.0;

/// The arguments of `posthouse bench floor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    load: LoadArgs,
    /// Connections, each with one message on the way.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Bytes of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    payload: u32,
    /// Be the server.
    #[arg(long, hide = true)]
    serve: bool,
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// Runs the workload.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    if args.serve {
        return serve(out).await;
    }
    if args.target.url.is_some() || args.target.data.is_some() {
        return Err(Error::OwnServerOnly);
    }
    check_open_files(args.clients)?;
    let program = std::env::current_exe().map_err(Error::OwnServer)?;
    let mut command = super::process::on_cpu(&program, args.target.own_server_cpu());
    let echo = Echo::start(command.args(["bench", "floor", "--serve"]))?;
    let server = Server::echo(&echo.url, echo.child.id(), &args.target)?;
    let dial = Dial::new(&echo.url, None)?;
    let mut askers = Vec::new();
    for number in 0..args.clients {
        let stream = dial.stream(number).await?;
        let url = echo.url.clone();
        let (socket, _) = client_async_with_config(&url, stream, Some(config()))
            .await
            .map_err(|source| peer::Error::Handshake { url, source: Box::new(source) })?;
        askers.push(Caller { socket, message: Bytes::from(vec![b'.'; args.payload as usize]) });
    }
    let Measured { load, rungs, answers } =
        requests::measure(askers, &args.load, 1, P99_MS_MAX, &server).await?;
    let title = format!(
        "WebSocket echo of {} bytes on {} connections, by the server's crate and buffers and nothing else",
        args.payload, args.clients
    );
    let mut result = RequestReport::new("floor", title, &server, load, &["echo"], &answers);
    result.durability = "none: nothing is stored";
    result.details = json!({ "clients": args.clients, "payload_bytes": args.payload });
    result.climbed(rungs);
    report::publish(&result, args.target.json.as_deref(), out)
}

/// The echo server's process.
struct Echo {
    child: Child,
    url: String,
}

impl Echo {
    fn start(command: &mut Command) -> Result<Self, Error> {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(Error::OwnServer)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(Error::OwnServer)?;
        }
        Ok(Self { child, url: line.trim().to_owned() })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            tracing::warn!(%error, "the echo server could not be stopped");
        }
    }
}

async fn serve(out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    writeln!(out, "ws://{}", listener.local_addr()?)?;
    out.flush()?;
    let mut echoing = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        echoing.spawn(async move {
            if let Err(error) = echo(stream).await {
                tracing::debug!(%error, "an echo ended");
            }
        });
        while echoing.try_join_next().is_some() {}
    }
}

async fn echo(stream: TcpStream) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let mut socket = accept_async_with_config(stream, Some(config())).await?;
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Binary(_) | Message::Text(_)) => socket.send(message).await?,
            Message::Close(_) => return Ok(()),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Ok(())
}

struct Caller {
    socket: WebSocketStream<Box<dyn Wire>>,
    message: Bytes,
}

impl Asker for Caller {
    async fn ask(&mut self, _: &mut Dice) -> Result<usize, peer::Error> {
        let broken = |error| peer::Error::Broken(Box::new(error));
        let exchange = async {
            self.socket.send(Message::Binary(self.message.clone())).await.map_err(broken)?;
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) if bytes == self.message => Ok(0),
                Some(Ok(other)) => Err(peer::Error::Unreadable(format!("{} bytes, no echo", other.len()))),
                Some(Err(error)) => Err(broken(error)),
                None => Err(peer::Error::Closed { code: None, reason: String::new() }),
            }
        };
        let late = |_| peer::Error::TimedOut { what: "an echo".to_owned(), waited: PATIENCE };
        timeout(PATIENCE, exchange).await.map_err(late)?
    }
}
