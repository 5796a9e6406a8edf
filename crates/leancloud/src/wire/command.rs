//! Which request a command is, and how answers and pushes are addressed.

use super::proto::{
    AckCommand, CommandType, ConvCommand, DirectCommand, GenericCommand, LogsCommand, OpType, PatchCommand,
    ReadCommand, SessionCommand,
};

/// The value of `service` for instant messaging; 1 is LiveQuery, 0 mobile push.
pub const SERVICE_IM: i32 = 2;

/// A request, told apart by `cmd` and `op`. What clients never send, and numbers we do not know,
/// are [`Command::Unknown`]: total on purpose, so that whoever adds a command finds every place.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// `session/open`
    SessionOpen(SessionCommand),
    /// `session/close`
    SessionClose,
    /// `session/refresh`
    SessionRefresh(SessionCommand),
    /// `session/query`
    SessionQuery(SessionCommand),
    /// `conv/start`
    ConvStart(ConvCommand),
    /// `conv/add`
    ConvAdd(ConvCommand),
    /// `conv/remove`
    ConvRemove(ConvCommand),
    /// `conv/update`
    ConvUpdate(ConvCommand),
    /// `conv/mute`
    ConvMute(ConvCommand),
    /// `conv/unmute`
    ConvUnmute(ConvCommand),
    /// `conv/query`
    ConvQuery(ConvCommand),
    /// `conv/count`
    ConvCount(ConvCommand),
    /// `conv/members`
    ConvMembers(ConvCommand),
    /// `conv/is_member`
    ConvIsMember(ConvCommand),
    /// `conv/max_read`
    ConvMaxRead(ConvCommand),
    /// `conv/status`
    ConvStatus(ConvCommand),
    /// `conv/member_info_update`
    ConvMemberInfo,
    /// `conv/add_shutup`, `remove_shutup`, `query_shutup`, `check_shutup`
    ConvShutup,
    /// `direct`: a message
    Direct(DirectCommand),
    /// `ack`: messages have arrived
    Ack(AckCommand),
    /// `read`: messages have been read
    Read(ReadCommand),
    /// `logs`: history
    Logs(LogsCommand),
    /// `patch/modify`: an edit or a recall
    Patch(PatchCommand),
    /// `echo`: a heartbeat
    Echo,
    /// `login`: LiveQuery, or the push login of Java
    Login,
    /// `logout` of LiveQuery
    Logout,
    /// `blacklist` with any `op`
    Blacklist,
    /// `report/upload`: a device token
    Report,
    /// Anything else.
    Unknown,
}

impl Command {
    /// What `command` asks for. Takes the part it is about and leaves the envelope.
    #[must_use]
    pub fn take(command: &mut GenericCommand) -> Self {
        let Some(cmd) = command.cmd.and_then(|number| CommandType::try_from(number).ok()) else {
            return Self::Unknown;
        };
        let op = command.op.and_then(|number| OpType::try_from(number).ok());
        match cmd {
            CommandType::Session => {
                let body = command.session_message.take().unwrap_or_default();
                match op {
                    Some(OpType::Open) => Self::SessionOpen(body),
                    Some(OpType::Close) => Self::SessionClose,
                    Some(OpType::Refresh) => Self::SessionRefresh(body),
                    Some(OpType::Query) => Self::SessionQuery(body),
                    _ => Self::Unknown,
                }
            }
            CommandType::Conv => {
                let body = command.conv_message.take().unwrap_or_default();
                match op {
                    Some(OpType::Start) => Self::ConvStart(body),
                    Some(OpType::Add) => Self::ConvAdd(body),
                    Some(OpType::Remove) => Self::ConvRemove(body),
                    Some(OpType::Update) => Self::ConvUpdate(body),
                    Some(OpType::Mute) => Self::ConvMute(body),
                    Some(OpType::Unmute) => Self::ConvUnmute(body),
                    Some(OpType::Query) => Self::ConvQuery(body),
                    Some(OpType::Count) => Self::ConvCount(body),
                    Some(OpType::Members) => Self::ConvMembers(body),
                    Some(OpType::IsMember) => Self::ConvIsMember(body),
                    Some(OpType::MaxRead) => Self::ConvMaxRead(body),
                    Some(OpType::Status) => Self::ConvStatus(body),
                    Some(OpType::MemberInfoUpdate) => Self::ConvMemberInfo,
                    Some(
                        OpType::AddShutup | OpType::RemoveShutup | OpType::QueryShutup | OpType::CheckShutup,
                    ) => Self::ConvShutup,
                    _ => Self::Unknown,
                }
            }
            CommandType::Direct => Self::Direct(command.direct_message.take().unwrap_or_default()),
            CommandType::Ack => Self::Ack(command.ack_message.take().unwrap_or_default()),
            CommandType::Read => Self::Read(command.read_message.take().unwrap_or_default()),
            CommandType::Logs => Self::Logs(command.logs_message.take().unwrap_or_default()),
            CommandType::Patch => match op {
                Some(OpType::Modify) => Self::Patch(command.patch_message.take().unwrap_or_default()),
                _ => Self::Unknown,
            },
            CommandType::Echo => Self::Echo,
            CommandType::Login => Self::Login,
            CommandType::Logout => Self::Logout,
            CommandType::Blacklist => Self::Blacklist,
            CommandType::Report => Self::Report,
            CommandType::Rcp
            | CommandType::Unread
            | CommandType::Error
            | CommandType::Data
            | CommandType::Room
            | CommandType::Presence
            | CommandType::Loggedin
            | CommandType::Loggedout
            | CommandType::Pubsub
            | CommandType::Goaway => Self::Unknown,
        }
    }

    /// The value of the `command` label in metrics: from this fixed set only.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::SessionOpen(_) => "session/open",
            Self::SessionClose => "session/close",
            Self::SessionRefresh(_) => "session/refresh",
            Self::SessionQuery(_) => "session/query",
            Self::ConvStart(_) => "conv/start",
            Self::ConvAdd(_) => "conv/add",
            Self::ConvRemove(_) => "conv/remove",
            Self::ConvUpdate(_) => "conv/update",
            Self::ConvMute(_) => "conv/mute",
            Self::ConvUnmute(_) => "conv/unmute",
            Self::ConvQuery(_) => "conv/query",
            Self::ConvCount(_) => "conv/count",
            Self::ConvMembers(_) => "conv/members",
            Self::ConvIsMember(_) => "conv/is_member",
            Self::ConvMaxRead(_) => "conv/max_read",
            Self::ConvStatus(_) => "conv/status",
            Self::ConvMemberInfo => "conv/member_info_update",
            Self::ConvShutup => "conv/shutup",
            Self::Direct(_) => "direct",
            Self::Ack(_) => "ack",
            Self::Read(_) => "read",
            Self::Logs(_) => "logs",
            Self::Patch(_) => "patch/modify",
            Self::Echo => "echo",
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Blacklist => "blacklist",
            Self::Report => "report",
            Self::Unknown => "unknown",
        }
    }
}

/// The envelope of a request: what its answer repeats.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Envelope {
    /// The serial. Present or absent, never "zero for absent": Java counts from -65535 through 0.
    pub serial: Option<i32>,
    /// Which client of the socket asks; SDKs leave it out when there is one.
    pub peer: Option<String>,
    /// Which service the client addresses.
    pub service: Option<i32>,
    /// LiveQuery's name for the client.
    pub installation: Option<String>,
}

impl Envelope {
    /// The envelope of `command`. An empty peer id is none.
    #[must_use]
    pub fn of(command: &GenericCommand) -> Self {
        Self {
            serial: command.i,
            peer: command.peer_id.clone().filter(|peer| !peer.is_empty()),
            service: command.service,
            installation: command.installation_id.clone(),
        }
    }

    /// An empty answer to this request.
    #[must_use]
    pub fn answer(&self, cmd: CommandType, op: Option<OpType>) -> GenericCommand {
        GenericCommand {
            cmd: Some(cmd.into()),
            op: op.map(Into::into),
            i: self.serial,
            peer_id: self.peer.clone(),
            service: Some(self.service.unwrap_or(SERVICE_IM)),
            installation_id: self.installation.clone(),
            ..GenericCommand::default()
        }
    }
}

/// An empty push, to nobody yet. Swift and Objective-C drop pushes without `service`.
#[must_use]
pub fn push(cmd: CommandType, op: Option<OpType>) -> GenericCommand {
    GenericCommand {
        cmd: Some(cmd.into()),
        op: op.map(Into::into),
        service: Some(SERVICE_IM),
        ..GenericCommand::default()
    }
}

/// A heartbeat's answer: the same frame. C# takes it as a pong only if it has no serial, JS only if
/// it has, so neither is added nor left out. Nothing but the envelope is repeated.
#[must_use]
pub fn echo(command: &GenericCommand) -> GenericCommand {
    GenericCommand {
        cmd: command.cmd,
        op: command.op,
        app_id: command.app_id.clone(),
        peer_id: command.peer_id.clone(),
        i: command.i,
        installation_id: command.installation_id.clone(),
        service: command.service,
        ..GenericCommand::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn command(cmd: i32, op: Option<i32>) -> GenericCommand {
        GenericCommand { cmd: Some(cmd), op, ..GenericCommand::default() }
    }

    #[test]
    fn every_number_is_some_request() {
        for cmd in -1..64 {
            for op in (-1..256).map(Some).chain([None]) {
                let label = Command::take(&mut command(cmd, op)).label();
                assert!(!label.is_empty());
            }
        }
        assert_eq!(Command::take(&mut GenericCommand::default()), Command::Unknown);
        assert_eq!(Command::take(&mut command(0, Some(4))), Command::SessionClose);
        assert_eq!(Command::take(&mut command(0, Some(5))), Command::Unknown);
    }

    #[test]
    fn an_answer_repeats_serial_peer_and_service() {
        let mut request = command(1, Some(30));
        request.i = Some(0);
        request.peer_id = Some("tom".to_owned());
        let answer = Envelope::of(&request).answer(CommandType::Conv, Some(OpType::Started));
        assert_eq!((answer.i, answer.peer_id.as_deref(), answer.service), (Some(0), Some("tom"), Some(2)));
        request.i = None;
        request.service = Some(1);
        let answer = Envelope::of(&request).answer(CommandType::Conv, None);
        assert_eq!((answer.i, answer.service), (None, Some(1)));
    }

    #[test]
    fn an_echo_adds_and_drops_nothing() {
        let mut beat = command(14, None);
        assert_eq!(echo(&beat), beat);
        beat.i = Some(7);
        beat.peer_id = Some("connection".to_owned());
        assert_eq!(echo(&beat), beat);
    }
}
