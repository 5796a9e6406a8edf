//! The counters that every message moves. Looking one up by its name and labels costs more than all the
//! rest of counting, so these are looked up once; what happens rarely is counted where it happens.

use metrics::{Counter, counter};

use crate::wire::frame::Uplink;

/// The gateway's handles. Made after the program has installed its recorder.
pub(crate) struct Meters {
    provision: Counter,
    unread: Counter,
    pull: Counter,
    roam: Counter,
    send: Counter,
    logout: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let command = |label: &'static str| counter!("posthouse_commands_total", "command" => label);
        Self {
            provision: command("msync/provision"),
            unread: command("msync/unread"),
            pull: command("msync/pull"),
            roam: command("msync/roam"),
            send: command("msync/send"),
            logout: command("msync/logout"),
        }
    }

    /// Counts a request.
    pub(crate) fn count(&self, request: &Uplink) {
        let counter = match request {
            Uplink::Provision(_) => &self.provision,
            Uplink::Unread => &self.unread,
            Uplink::Pull(_) => &self.pull,
            Uplink::Roam(_) => &self.roam,
            Uplink::Send(_) => &self.send,
            Uplink::Logout => &self.logout,
        };
        counter.increment(1);
    }
}
