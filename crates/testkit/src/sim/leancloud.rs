//! A device of the LeanCloud door: what it sends, and what it makes of what comes.

use bytes::Bytes;
use posthouse::peer::{CONFIG_BITMAP, is, refusal, spoken, text_content, text_of};
use posthouse_core::id::ConversationId;
use posthouse_core::time::Timestamp;
use posthouse_leancloud::wire::id;
use posthouse_leancloud::wire::proto::{
    AckCommand, CommandType, ConvCommand, DirectCommand, GenericCommand, JsonObjectMessage, LogsCommand,
    OpType, PatchCommand, PatchItem, ReadCommand, ReadTuple, SessionCommand,
};
use prost::Message as _;

use super::device::{Ask, Device};
use super::model::{Answer, Broken, Model};

/// An answer that is waited for.
pub(super) type Reply = GenericCommand;

/// How the wire writes a conversation's id.
pub(super) fn cid(conversation: ConversationId) -> String {
    if conversation.is_temporary() {
        id::temporary_text(conversation.as_u64())
    } else {
        id::lasting_text(conversation.as_u64())
    }
}

/// Sends a command with a serial.
pub(super) fn ask(device: &mut Device, ask: Ask, command: GenericCommand) -> u64 {
    let serial = device.next_serial();
    let number = i32::try_from(serial).unwrap_or(i32::MAX);
    device.expect(serial, ask);
    device.send(GenericCommand { i: Some(number), ..command }.encode_to_vec());
    serial
}

fn of(device: &Device, cmd: CommandType, op: Option<OpType>) -> GenericCommand {
    spoken(&device.person, cmd, op)
}

/// Logs in as the JavaScript SDK does.
pub(super) fn login(device: &mut Device) {
    let open = GenericCommand {
        app_id: Some(device.app.clone()),
        session_message: Some(SessionCommand {
            ua: Some("sim".to_owned()),
            r: Some(device.links > 1),
            device_id: Some(device.name.clone()),
            config_bitmap: Some(CONFIG_BITMAP),
            ..SessionCommand::default()
        }),
        ..of(device, CommandType::Session, Some(OpType::Open))
    };
    device.unread.clear();
    ask(device, Ask::Login, open);
}

/// Says what an intent wants. The token is that of the intent, whichever device says it.
pub(super) fn say(device: &mut Device, model: &Model, intent: usize) {
    let wanted = &model.intents[intent];
    let direct = DirectCommand {
        cid: wanted.to.map(cid),
        msg: Some(text_content(&wanted.text).into()),
        dt: Some(format!("token {intent}")),
        ..DirectCommand::default()
    };
    let command = GenericCommand { direct_message: Some(direct), ..of(device, CommandType::Direct, None) };
    ask(device, Ask::Say(intent), command);
}

/// Reads up to a message.
pub(super) fn read(device: &mut Device, talk: ConversationId, id: u64, at: i64) {
    let tuple = ReadTuple { cid: Some(cid(talk)), timestamp: Some(at), mid: Some(id::message_text(id)) };
    let read = ReadCommand { convs: vec![tuple], ..ReadCommand::default() };
    let command = GenericCommand { read_message: Some(read), ..of(device, CommandType::Read, None) };
    device.send(command.encode_to_vec());
}

/// Changes a message, or takes it back.
pub(super) fn patch(device: &mut Device, talk: ConversationId, id: u64, at: i64, text: Option<&str>) {
    let item = PatchItem {
        cid: Some(cid(talk)),
        mid: Some(id::message_text(id)),
        timestamp: Some(at),
        recall: Some(text.is_none()),
        data: text.map(|text| text_content(text).into()),
        ..PatchItem::default()
    };
    let patch = PatchCommand { patches: vec![item], ..PatchCommand::default() };
    let command =
        GenericCommand { patch_message: Some(patch), ..of(device, CommandType::Patch, Some(OpType::Modify)) };
    ask(device, Ask::Whatever, command);
}

/// A command about conversations.
pub(super) fn conv(device: &mut Device, how: Ask, op: OpType, conv: ConvCommand) -> u64 {
    let command = GenericCommand { conv_message: Some(conv), ..of(device, CommandType::Conv, Some(op)) };
    ask(device, how, command)
}

/// Makes a conversation.
pub(super) fn create(device: &mut Device, members: Vec<String>, unique: bool, ttl_s: Option<i32>) {
    let made = ConvCommand {
        m: members,
        unique: Some(unique),
        temp_conv: ttl_s.map(|_| true),
        temp_conv_ttl: ttl_s,
        attr: Some(JsonObjectMessage { data: Some("{}".to_owned()) }),
        ..ConvCommand::default()
    };
    conv(device, Ask::Whatever, OpType::Start, made);
}

/// Adds or removes a person.
pub(super) fn member(device: &mut Device, talk: ConversationId, person: &str, add: bool) {
    let op = if add { OpType::Add } else { OpType::Remove };
    let change = ConvCommand { cid: Some(cid(talk)), m: vec![person.to_owned()], ..ConvCommand::default() };
    conv(device, Ask::Whatever, op, change);
}

/// Asks for a page of history from a message on.
pub(super) fn logs(
    device: &mut Device,
    talk: ConversationId,
    limit: i32,
    forward: bool,
    from: Option<(u64, i64)>,
) -> u64 {
    let logs = LogsCommand {
        cid: Some(cid(talk)),
        l: Some(limit),
        direction: Some(if forward { 2 } else { 1 }),
        t: from.map(|(_, at)| at).or_else(|| forward.then_some(0)),
        mid: from.map(|(id, _)| id::message_text(id)),
        ..LogsCommand::default()
    };
    let command = GenericCommand { logs_message: Some(logs), ..of(device, CommandType::Logs, None) };
    ask(device, Ask::Wait, command)
}

/// Asks how far the others have read.
pub(super) fn max_read(device: &mut Device, talk: ConversationId) -> u64 {
    let asked = ConvCommand { cid: Some(cid(talk)), query_all_members: Some(true), ..ConvCommand::default() };
    conv(device, Ask::Wait, OpType::MaxRead, asked)
}

/// Takes a frame.
pub(super) fn on_frame(
    device: &mut Device,
    bytes: Bytes,
    model: &mut Model,
    now: Timestamp,
) -> Result<(), Broken> {
    let frame = GenericCommand::decode(bytes).map_err(|error| format!("no command: {error}"))?;
    let serial = frame.i.and_then(|serial| u64::try_from(serial).ok());
    match serial.map(|serial| (serial, device.expected(serial))) {
        None => on_push(device, &frame, model),
        Some((serial, None)) => Err(format!("an answer to nothing, or a second one: {serial} {frame:?}")),
        Some((_, Some(Ask::Login))) => {
            if is(&frame, CommandType::Session, Some(OpType::Opened)) {
                device.logged_in(model);
            } else {
                device.drop_link();
            }
            Ok(())
        }
        Some((_, Some(Ask::Say(intent)))) => {
            let answer = match refusal(&frame) {
                Some(refusal) => Answer::Refused(refusal.to_string()),
                None => {
                    let ack = frame.ack_message.unwrap_or_default();
                    let id = ack.uid.as_deref().and_then(id::parse_message).unwrap_or_default();
                    Answer::Kept(id, ack.t.unwrap_or_default())
                }
            };
            model.answered(intent, answer, now)
        }
        Some((serial, Some(Ask::Wait))) => {
            device.answers.insert(serial, frame);
            Ok(())
        }
        Some((_, Some(Ask::Whatever))) => Ok(()),
    }
}

fn on_push(device: &mut Device, frame: &GenericCommand, model: &Model) -> Result<(), Broken> {
    if is(frame, CommandType::Session, Some(OpType::Closed)) {
        device.drop_link();
    } else if let Some(direct) = &frame.direct_message {
        let id = direct.id.as_deref().and_then(id::parse_message).unwrap_or_default();
        let text = text_of(direct.msg.as_deref().unwrap_or_default()).unwrap_or_default();
        let sender = direct.from_peer_id.as_deref().unwrap_or_default();
        device.hears(model, id, direct.timestamp.unwrap_or_default(), sender, &text)?;
        let ack = AckCommand { cid: direct.cid.clone(), mid: direct.id.clone(), ..AckCommand::default() };
        let ack = GenericCommand { ack_message: Some(ack), ..of(device, CommandType::Ack, None) };
        device.send(ack.encode_to_vec());
    } else if let Some(unread) = &frame.unread_message {
        for tuple in &unread.convs {
            device.unread.insert(tuple.cid.clone().unwrap_or_default(), tuple.unread.unwrap_or_default());
        }
    }
    Ok(())
}

/// Says goodbye.
pub(super) fn logout(device: &mut Device) {
    let close = GenericCommand {
        session_message: Some(SessionCommand::default()),
        ..of(device, CommandType::Session, Some(OpType::Close))
    };
    ask(device, Ask::Whatever, close);
}
