//! The real program in a process of its own, so that it can be killed, starved and misled.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A running server.
pub struct Process {
    child: Child,
    /// `host:port`.
    pub address: String,
    /// Kept open: the server still writes to it.
    _stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts the server that `command` calls on the directory `data`; when this returns it is ready.
    pub fn serve(mut command: Command, data: &Path) -> Self {
        let mut child = command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--log",
                "error",
                "--data",
            ])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("posthouse: ready on http://");
        let address = address.expect("the server says that it is ready").to_owned();
        Self { child, address, _stdout: stdout }
    }

    /// Where LeanCloud's clients connect.
    #[must_use]
    pub fn socket_url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    /// Where everybody else connects.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Kills it without a warning.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How much of a processor it has used, in ticks of the kernel (a hundredth of a second).
    #[must_use]
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let number = |at: usize| after_name.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap();
        number(11) + number(12)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After `kill` there is nothing left to end, and a failing test must not leave a server behind.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Makes an app with the program that `command` calls; gives its ids and secrets.
pub fn create_app(mut command: Command, data: &Path) -> Value {
    // Clients of tests say the next thing as soon as the last is acknowledged.
    let mut unlimited = Command::new(command.get_program());
    unlimited.envs(command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
    let output = command.args(["app", "create", "test", "--json", "--data"]).arg(data).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    unlimited.args(["app", "set", "test", "preset=unlimited", "--data"]).arg(data);
    assert!(unlimited.output().unwrap().status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}
