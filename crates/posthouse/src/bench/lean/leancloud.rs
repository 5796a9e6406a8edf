//! The LeanCloud wire, as far as a load needs it.

use posthouse_leancloud::wire::proto::{CommandType, ConvCommand, GenericCommand, OpType, SessionCommand};
use prost::Message as _;

use super::fields::{Fields, Malformed, Value, put_bytes, put_number};
use super::{Heard, Line, Message};
use crate::peer::{self, CONFIG_BITMAP, Error};

// Numbers of the fields, as in the wire's schema; the tests compare with the generated types.
const CMD: u32 = 1;
const OP: u32 = 2;
const PEER_ID: u32 = 4;
const SERIAL: u32 = 5;
const SESSION_MESSAGE: u32 = 102;
const ERROR_MESSAGE: u32 = 103;
const DIRECT_MESSAGE: u32 = 104;
const ACK_MESSAGE: u32 = 105;
const DIRECT_MSG: u32 = 1;
const DIRECT_TIMESTAMP: u32 = 4;
const DIRECT_CID: u32 = 11;
const DIRECT_DT: u32 = 14;
const DIRECT_MENTION_ALL: u32 = 21;
const ACK_CODE: u32 = 1;
const ACK_CID: u32 = 4;
const ACK_TIME: u32 = 5;
const ACK_UID: u32 = 6;
const ACK_FROM: u32 = 7;
const ACK_TO: u32 = 8;

/// One logged-in client in one conversation.
#[derive(Debug)]
pub(in crate::bench) struct Voice {
    client: String,
    cid: String,
    serial: i32,
    /// Buffer of a message within a message.
    inner: Vec<u8>,
}

impl Voice {
    /// `serial` is the last one used on this socket.
    pub(in crate::bench) fn new(client: &str, cid: &str, serial: i32) -> Self {
        Self { client: client.to_owned(), cid: cid.to_owned(), serial, inner: Vec::new() }
    }

    pub(super) fn say(&mut self, out: &mut Vec<u8>, token: &[u8], content: &[u8]) -> u64 {
        self.inner.clear();
        put_bytes(&mut self.inner, DIRECT_MSG, content);
        put_bytes(&mut self.inner, DIRECT_CID, self.cid.as_bytes());
        put_bytes(&mut self.inner, DIRECT_DT, token);
        put_number(&mut self.inner, DIRECT_MENTION_ALL, 0);
        let serial = self.head(out, CommandType::Direct);
        put_bytes(out, DIRECT_MESSAGE, &self.inner);
        serial
    }

    /// The `ack` of the JavaScript SDK: a range of times, both ends included. Not answered.
    pub(in crate::bench) fn receipt(&mut self, out: &mut Vec<u8>, from: i64, to: i64) {
        self.inner.clear();
        put_bytes(&mut self.inner, ACK_CID, self.cid.as_bytes());
        put_number(&mut self.inner, ACK_FROM, from.cast_unsigned());
        put_number(&mut self.inner, ACK_TO, to.cast_unsigned());
        put_number(out, CMD, number(CommandType::Ack));
        put_bytes(out, PEER_ID, self.client.as_bytes());
        put_bytes(out, ACK_MESSAGE, &self.inner);
    }

    /// Joins (or leaves) its conversation; gives the key of the answer.
    pub(in crate::bench) fn join(&mut self, out: &mut Vec<u8>, inside: bool) -> u64 {
        self.serial += 1;
        let op = if inside { OpType::Add } else { OpType::Remove };
        let conv = ConvCommand {
            cid: Some(self.cid.clone()),
            m: vec![self.client.clone()],
            ..ConvCommand::default()
        };
        out.extend(
            GenericCommand {
                i: Some(self.serial),
                conv_message: Some(conv),
                ..peer::spoken(&self.client, CommandType::Conv, Some(op))
            }
            .encode_to_vec(),
        );
        key(self.serial)
    }

    fn head(&mut self, out: &mut Vec<u8>, command: CommandType) -> u64 {
        self.serial += 1;
        let serial = key(self.serial);
        put_number(out, CMD, number(command));
        put_bytes(out, PEER_ID, self.client.as_bytes());
        put_number(out, SERIAL, serial);
        serial
    }
}

pub(super) fn heartbeat(out: &mut Vec<u8>) {
    put_number(out, CMD, number(CommandType::Echo));
}

/// What a frame means. Only what is looked at is read; everything unusual is read again, in full.
pub(super) fn hear(payload: &[u8]) -> Result<Heard<'_>, Malformed> {
    let (mut cmd, mut op, mut serial) = (None, None, None);
    let (mut direct, mut ack, mut unusual) = (None, None, false);
    for field in Fields::of(payload) {
        match field? {
            (CMD, Value::Number(number)) => cmd = Some(number),
            (OP, Value::Number(number)) => op = Some(number),
            (SERIAL, Value::Number(number)) => serial = Some(number),
            (DIRECT_MESSAGE, Value::Bytes(bytes)) => direct = Some(bytes),
            (ACK_MESSAGE, Value::Bytes(bytes)) => ack = Some(bytes),
            (ERROR_MESSAGE | SESSION_MESSAGE, _) => unusual = true,
            _ => {}
        }
    }
    match (serial, direct, ack) {
        _ if unusual => unusual_words(payload, serial),
        (Some(serial), None, Some(ack)) => accepted(payload, serial, ack),
        // An answer to a call that was not about a message.
        (Some(serial), None, None) => Ok(Heard::Accepted(serial)),
        (None, Some(direct), None) => message(direct),
        _ if cmd == Some(number(CommandType::Session)) => {
            Ok(Heard::Wrong(format!("an unasked session command, operation {op:?}")))
        }
        _ => Ok(Heard::Other),
    }
}

fn accepted(payload: &[u8], serial: u64, ack: &[u8]) -> Result<Heard<'static>, Malformed> {
    let (mut has_id, mut has_time) = (false, false);
    for field in Fields::of(ack) {
        match field? {
            (ACK_CODE, _) => return unusual_words(payload, Some(serial)),
            (ACK_UID, Value::Bytes(id)) => has_id = !id.is_empty(),
            (ACK_TIME, Value::Number(_)) => has_time = true,
            _ => {}
        }
    }
    if has_id && has_time {
        Ok(Heard::Accepted(serial))
    } else {
        Ok(Heard::Refused(serial, "an ack without the message's id or time".to_owned()))
    }
}

fn message(direct: &[u8]) -> Result<Heard<'_>, Malformed> {
    let (mut content, mut at, mut cid) = (&[][..], 0, None);
    for field in Fields::of(direct) {
        match field? {
            (DIRECT_MSG, Value::Bytes(bytes)) => content = bytes,
            (DIRECT_TIMESTAMP, Value::Number(number)) => at = number.cast_signed(),
            (DIRECT_CID, Value::Bytes(bytes)) => cid = Some(bytes),
            _ => {}
        }
    }
    Ok(Heard::Message(Message { content, at, conversation: cid }))
}

fn unusual_words(payload: &[u8], serial: Option<u64>) -> Result<Heard<'static>, Malformed> {
    let command = GenericCommand::decode(payload).map_err(|_| Malformed)?;
    let words = match peer::refusal(&command) {
        Some(refusal) => refusal.to_string(),
        None if peer::is(&command, CommandType::Session, Some(OpType::Closed)) => {
            "the session was closed".to_owned()
        }
        None => return Ok(Heard::Other),
    };
    Ok(match serial {
        Some(serial) => Heard::Refused(serial, words),
        None => Heard::Wrong(words),
    })
}

// Before the load.
impl Line {
    /// Logs in.
    pub(in crate::bench) async fn open(&mut self, app_id: &str, client: &str) -> Result<(), Error> {
        let session = SessionCommand {
            ua: Some(concat!("posthouse/", env!("CARGO_PKG_VERSION")).to_owned()),
            r: Some(false),
            config_bitmap: Some(CONFIG_BITMAP),
            ..SessionCommand::default()
        };
        let open = GenericCommand {
            app_id: Some(app_id.to_owned()),
            session_message: Some(session),
            ..peer::spoken(client, CommandType::Session, Some(OpType::Open))
        };
        self.call("the login", open).await.map(drop)
    }

    /// Makes a conversation of `members`, or a chat room; gives its id.
    pub(in crate::bench) async fn start(
        &mut self,
        client: &str,
        members: Vec<String>,
        room: bool,
    ) -> Result<String, Error> {
        let conv = ConvCommand {
            m: members,
            unique: Some(!room),
            transient: room.then_some(true),
            attr: Some(posthouse_leancloud::wire::proto::JsonObjectMessage {
                data: Some(r#"{"name":"bench"}"#.to_owned()),
            }),
            ..ConvCommand::default()
        };
        let start = GenericCommand {
            conv_message: Some(conv),
            ..peer::spoken(client, CommandType::Conv, Some(OpType::Start))
        };
        let answer = self.call("conv/start", start).await?;
        let cid = answer.conv_message.and_then(|conv| conv.cid);
        cid.ok_or_else(|| Error::Incomplete { what: "conv/started".to_owned(), field: "cid" })
    }

    /// Joins a chat room.
    pub(in crate::bench) async fn join(&mut self, client: &str, cid: &str) -> Result<(), Error> {
        let conv =
            ConvCommand { cid: Some(cid.to_owned()), m: vec![client.to_owned()], ..ConvCommand::default() };
        let add = GenericCommand {
            conv_message: Some(conv),
            ..peer::spoken(client, CommandType::Conv, Some(OpType::Add))
        };
        self.call("conv/add", add).await.map(drop)
    }

    async fn call(&mut self, what: &str, command: GenericCommand) -> Result<GenericCommand, Error> {
        self.serial += 1;
        let serial = self.serial;
        let request = GenericCommand { i: Some(serial), ..command }.encode_to_vec();
        // Commands are large and would swell every future around this.
        Box::pin(async move {
            self.send(&request).await?;
            let answer = self.answer(what, |payload| {
                let command =
                    GenericCommand::decode(payload).map_err(|error| Error::Unreadable(error.to_string()))?;
                Ok((command.i == Some(serial)).then(|| Box::new(command)))
            });
            let answer = answer.await?;
            match peer::refusal(&answer) {
                None => Ok(*answer),
                Some(refusal) => Err(Error::Refused { what: what.to_owned(), refusal: Box::new(refusal) }),
            }
        })
        .await
    }
}

fn key(serial: i32) -> u64 {
    u64::try_from(serial).expect("serials are counted up from 1")
}

fn number(command: CommandType) -> u64 {
    u64::try_from(i32::from(command)).expect("command types are counted up from 0")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use bytes::Bytes;
    use posthouse_leancloud::wire::proto::{AckCommand, DirectCommand, ErrorCommand};

    use super::*;

    #[test]
    fn what_is_said_is_what_the_generated_types_say() {
        let mut voice = Voice::new("tom", "5f0000000000000000000001", 6);
        let mut out = Vec::new();
        assert_eq!(voice.say(&mut out, b"token", b"content"), 7);
        let direct = DirectCommand {
            cid: Some("5f0000000000000000000001".to_owned()),
            msg: Some(Bytes::from_static(b"content")),
            dt: Some("token".to_owned()),
            mention_all: Some(false),
            ..DirectCommand::default()
        };
        let expected = GenericCommand {
            i: Some(7),
            direct_message: Some(direct),
            ..peer::spoken("tom", CommandType::Direct, None)
        };
        assert_eq!(GenericCommand::decode(&*out).unwrap(), expected);

        out.clear();
        voice.receipt(&mut out, 3, 4_000_000_000_000);
        let expected = peer::ack_range("tom", "5f0000000000000000000001", 3, 4_000_000_000_000);
        assert_eq!(GenericCommand::decode(&*out).unwrap(), expected);

        out.clear();
        heartbeat(&mut out);
        assert_eq!(GenericCommand::decode(&*out).unwrap(), peer::command(CommandType::Echo, None));
    }

    #[test]
    fn a_push_is_a_message() {
        let direct = DirectCommand {
            cid: Some("c".to_owned()),
            msg: Some(Bytes::from_static(b"content")),
            from_peer_id: Some("tom".to_owned()),
            timestamp: Some(1_700_000_000_000),
            id: Some("id".to_owned()),
            conv_type: Some(1),
            ..DirectCommand::default()
        };
        let push = GenericCommand {
            direct_message: Some(direct),
            ..peer::spoken("jerry", CommandType::Direct, None)
        };
        let bytes = push.encode_to_vec();
        let message = Message { content: b"content", at: 1_700_000_000_000, conversation: Some(b"c") };
        assert_eq!(hear(&bytes), Ok(Heard::Message(message)));
    }

    fn ack(ack: AckCommand) -> Vec<u8> {
        GenericCommand { i: Some(9), ack_message: Some(ack), ..peer::spoken("tom", CommandType::Ack, None) }
            .encode_to_vec()
    }

    #[test]
    fn an_ack_accepts_if_it_has_what_it_must_have() {
        let good = AckCommand { uid: Some("id".to_owned()), t: Some(5), ..AckCommand::default() };
        assert_eq!(hear(&ack(good.clone())), Ok(Heard::Accepted(9)));
        let lame = [AckCommand { uid: None, ..good.clone() }, AckCommand { t: None, ..good }];
        for lame in lame {
            assert!(matches!(hear(&ack(lame)), Ok(Heard::Refused(9, _))));
        }
        let refusal = AckCommand { code: Some(4309), reason: Some("NO".to_owned()), ..AckCommand::default() };
        assert_eq!(hear(&ack(refusal)), Ok(Heard::Refused(9, "4309 NO".to_owned())));
    }

    #[test]
    fn errors_and_closed_sessions_are_heard() {
        let error = |serial| GenericCommand {
            i: serial,
            error_message: Some(ErrorCommand { code: Some(4114), ..ErrorCommand::default() }),
            ..peer::command(CommandType::Error, None)
        };
        assert!(matches!(hear(&error(Some(2)).encode_to_vec()), Ok(Heard::Refused(2, _))));
        assert!(matches!(hear(&error(None).encode_to_vec()), Ok(Heard::Wrong(_))));
        let closed = GenericCommand {
            session_message: Some(SessionCommand::default()),
            ..peer::spoken("tom", CommandType::Session, Some(OpType::Closed))
        };
        assert!(matches!(hear(&closed.encode_to_vec()), Ok(Heard::Wrong(_))));
        let bare = peer::spoken("tom", CommandType::Session, Some(OpType::Closed));
        assert!(matches!(hear(&bare.encode_to_vec()), Ok(Heard::Wrong(_))));
        assert_eq!(hear(&peer::command(CommandType::Echo, None).encode_to_vec()), Ok(Heard::Other));
        assert_eq!(hear(b"\xFF"), Err(Malformed));
    }
}
