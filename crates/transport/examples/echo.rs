//! An echo through the transport's own listener, handshake and connection loop, for the Autobahn test
//! suite (`conformance/autobahn/run`). Takes the address to listen on and prints the one it has.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "an example for a script")]

use std::io::Write as _;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::any;
use posthouse_transport::{
    Close, Drain, End, Flow, Frame, Limits, Listener, Outbox, Phase, Protocol, ServeSettings,
    WebSocketUpgrade, upgrade,
};

/// The longest message of the suite.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

struct Echo;

impl Protocol for Echo {
    type Push = Frame;

    fn phase(&self) -> Phase {
        Phase::Ready
    }

    async fn on_frame(&mut self, frame: Frame, out: &mut Outbox) -> Flow {
        out.push(frame);
        Flow::Continue
    }

    fn on_push(&mut self, push: Frame, out: &mut Outbox) -> Flow {
        out.push(push);
        Flow::Continue
    }

    fn on_drain(&mut self, _out: &mut Outbox) {}

    fn close_for(&self, _end: End) -> Close {
        Close { code: 1001, reason: "going away" }
    }

    async fn on_end(self, _end: End) {}
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let address: SocketAddr = address.parse().expect("an address with a port");
    let listener = Listener::bind(address, None).await.expect("the address is free");
    println!("{}", listener.local_addr());
    std::io::stdout().flush().expect("somebody reads the address");
    let drain = Drain::new();
    let signal = drain.signal();
    let limits = Limits { frame_max: MESSAGE_BYTES_MAX, ..Limits::default() };
    let router = Router::new().fallback(any(|socket: WebSocketUpgrade| async move {
        upgrade(socket, None, limits, signal, |_| Echo)
    }));
    listener.serve(router, ServeSettings::default(), drain.signal()).await;
}
