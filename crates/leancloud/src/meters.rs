//! The counters that every message moves. Looking one up by its name and labels costs more than all the
//! rest of counting, so these are looked up once; what happens rarely is counted where it happens.

use metrics::{Counter, counter};

use crate::wire::command::Command;

/// The gateway's handles. Made after the program has installed its recorder.
pub(crate) struct Meters {
    pub(crate) messages_in: Counter,
    pub(crate) messages_out: Counter,
    direct: Counter,
    ack: Counter,
    read: Counter,
    echo: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let command = |label: &'static str| counter!("posthouse_commands_total", "command" => label);
        Self {
            messages_in: counter!("posthouse_messages_in_total"),
            messages_out: counter!("posthouse_messages_out_total"),
            direct: command("direct"),
            ack: command("ack"),
            read: command("read"),
            echo: command("echo"),
        }
    }

    /// Counts a request.
    pub(crate) fn count(&self, request: &Command) {
        match request {
            Command::Direct(_) => self.direct.increment(1),
            Command::Ack(_) => self.ack.increment(1),
            Command::Read(_) => self.read.increment(1),
            Command::Echo => self.echo.increment(1),
            other => counter!("posthouse_commands_total", "command" => other.label()).increment(1),
        }
    }
}
