//! A protocol that does what its peer's texts say, and what both test suites
//! share to watch it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use posthouse_transport::{Close, End, Flow, Frame, Outbox, Phase, Protocol, Pusher};
use tokio::sync::mpsc;

/// What the test sees of its protocols, over all their connections.
#[derive(Clone)]
pub(crate) struct Witness {
    ends: mpsc::Sender<End>,
    /// In the order of the connections.
    pub(crate) pushers: Arc<Mutex<Vec<Pusher<Frame>>>>,
}

impl Witness {
    pub(crate) fn new() -> (Self, mpsc::Receiver<End>) {
        let (ends, seen) = mpsc::channel(64);
        let pushers = Arc::default();
        (Self { ends, pushers }, seen)
    }

    pub(crate) fn script(&self, pusher: Pusher<Frame>) -> Script {
        self.pushers.lock().unwrap().push(pusher.clone());
        Script { phase: Phase::Fresh, pusher, witness: self.clone() }
    }
}

/// Echoes, except for the texts it knows:
/// `login`, `logout`, `panic`, `quit` and `push N`.
pub(crate) struct Script {
    phase: Phase,
    pusher: Pusher<Frame>,
    witness: Witness,
}

impl Protocol for Script {
    type Push = Frame;

    fn phase(&self) -> Phase {
        self.phase
    }

    async fn on_frame(&mut self, frame: Frame, out: &mut Outbox) -> Flow {
        match str::from_utf8(frame.payload()).unwrap_or_default() {
            "login" => {
                self.phase = Phase::Ready;
                out.push(Frame::text("welcome"));
            }
            "logout" => {
                self.phase = Phase::Fresh;
                out.push(Frame::text("bye"));
            }
            "panic" => panic!("a bug of a protocol"),
            "quit" => {
                out.push(Frame::text("last words"));
                return Flow::Close(Close { code: 4000, reason: "quit" });
            }
            other => match other.strip_prefix("push ") {
                Some(count) => {
                    for number in 0..count.parse().unwrap() {
                        let pushed: u32 = number;
                        self.pusher.try_push(Frame::text(format!("push {pushed}")), 8).unwrap();
                    }
                    out.push(Frame::text("pushed"));
                }
                None => out.push(frame),
            },
        }
        Flow::Continue
    }

    fn on_push(&mut self, push: Frame, out: &mut Outbox) -> Flow {
        out.push(push);
        Flow::Continue
    }

    fn on_drain(&mut self, out: &mut Outbox) {
        out.push(Frame::Binary(Bytes::from_static(b"goaway")));
    }

    fn close_for(&self, end: End) -> Close {
        let (code, reason) = match end {
            End::Idle => (4107, "idle"),
            End::LoginTimeout => (4108, "login timeout"),
            End::FrameTooLong => (4109, "frame too long"),
            End::Flood => (4116, "flood"),
            End::Slow => (4115, "slow"),
            End::Drained => (1001, "going away"),
            End::PeerClosed | End::Lost | End::ByProtocol => (1011, "not asked for"),
        };
        Close { code, reason }
    }

    async fn on_end(self, end: End) {
        self.witness.ends.send(end).await.unwrap();
    }
}
