//! A device of the Easemob door: what it sends, and what it makes of what comes. It pulls what it is told
//! of until that is empty, and acknowledges each batch by pulling the next, as SDKs do.

use bytes::Bytes;
use posthouse::peer::easemob::{GROUPS, PEOPLE, body_of, frame, metas_of, text_of};
use posthouse_core::conversation::Kind;
use posthouse_core::id::ConversationId;
use posthouse_core::time::Timestamp;
use posthouse_easemob::wire::proto::m_sync::Command;
use posthouse_easemob::wire::proto::message_body::content::Type as ContentType;
use posthouse_easemob::wire::proto::message_body::{Content, Type as BodyType};
use posthouse_easemob::wire::proto::meta::{NameSpace, RouteType};
use posthouse_easemob::wire::proto::{
    CommNotice, CommSyncDl, CommSyncUl, CommUnreadDl, Jid, MSync, MessageBody, Meta, Provision,
};
use prost::Message as _;

use super::device::{Ask, Device};
use super::model::{Answer, Broken, Model};

/// Numbers of metas that are no messages begin here; those of messages are their intents'.
const OTHERS: u64 = 1 << 40;

/// Logs in as the Web SDK does.
pub(super) fn login(device: &mut Device) {
    let token = format!("$t${}", device.token);
    let provision = Provision {
        os_type: Some(16),
        version: Some("4.21.1".to_owned()),
        compress_type: vec![0],
        encrypt_type: vec![0],
        device_uuid: Some(device.name.clone()),
        device_name: Some("sim".to_owned()),
        resource: Some(device.name.clone()),
        action_version: Some("v5.2".to_owned()),
        auth_token: Some(serde_json::json!({ "token": token }).to_string()),
        session_id: Some("1:".to_owned()),
        ..Provision::default()
    };
    let guid = Jid {
        app_key: Some(device.app.clone()),
        name: Some(device.person.clone()),
        domain: Some(PEOPLE.to_owned()),
        client_resource: Some(device.name.clone()),
    };
    let login = frame(Command::Provision, Some(provision.encode_to_vec()));
    device.send(MSync { guid: Some(guid), auth: Some(token), ..login }.encode_to_vec());
}

fn jid(device: &Device, name: &str, domain: &str) -> Jid {
    Jid {
        app_key: Some(device.app.clone()),
        name: Some(name.to_owned()),
        domain: Some(domain.to_owned()),
        client_resource: None,
    }
}

/// The address of a conversation for the device's person.
pub(super) fn address(device: &Device, model: &Model, talk: ConversationId) -> Option<Jid> {
    let known = model.conversations.get(&talk)?;
    match known.kind {
        Kind::Group => Some(jid(device, &talk.as_u64().to_string(), GROUPS)),
        Kind::Direct => {
            let other = known.members.keys().find(|member| **member != device.person)?;
            Some(jid(device, other, PEOPLE))
        }
        Kind::Room | Kind::Temporary { .. } => None,
    }
}

fn body(device: &Device, to: &Jid, kind: Option<BodyType>, text: Option<&str>) -> MessageBody {
    let in_group = to.domain.as_deref() == Some(GROUPS);
    let usual = if in_group { BodyType::Groupchat } else { BodyType::Chat };
    let bare = |name: Option<String>| Jid { name, ..Jid::default() };
    let content = Content {
        r#type: Some(ContentType::Text.into()),
        text: text.map(str::to_owned),
        ..Content::default()
    };
    MessageBody {
        r#type: Some(kind.unwrap_or(usual).into()),
        from: Some(bare(Some(device.person.clone()))),
        to: Some(bare(to.name.clone())),
        contents: vec![content],
        ..MessageBody::default()
    }
}

fn post(device: &mut Device, id: u64, ask: Ask, to: Jid, body: &MessageBody) {
    let meta = Meta {
        id: Some(id),
        to: Some(to),
        ns: Some(NameSpace::Chat.into()),
        payload: Some(body.encode_to_vec().into()),
        routetype: Some(RouteType::RouteAll.into()),
        ..Meta::default()
    };
    device.expect(id, ask);
    let sync = CommSyncUl { meta: Some(meta.encode_to_vec().into()), ..CommSyncUl::default() };
    device.send(frame(Command::Sync, Some(sync.encode_to_vec())).encode_to_vec());
}

/// Says what an intent wants, under the intent's number.
pub(super) fn say(device: &mut Device, model: &Model, intent: usize) {
    let wanted = &model.intents[intent];
    let to = match (wanted.to, &wanted.peer) {
        (Some(talk), _) => jid(device, &talk.as_u64().to_string(), GROUPS),
        (None, Some(peer)) => jid(device, peer, PEOPLE),
        (None, None) => return,
    };
    let body = body(device, &to, None, Some(&wanted.text));
    post(device, intent as u64 + 1, Ask::Say(intent), to, &body);
}

/// Reads everything in a conversation.
pub(super) fn read(device: &mut Device, to: Jid) {
    let body = body(device, &to, Some(BodyType::ChannelAck), None);
    let id = OTHERS + device.next_serial();
    post(device, id, Ask::Whatever, to, &body);
}

/// Takes a message back.
pub(super) fn recall(device: &mut Device, to: Jid, message: u64) {
    let body =
        MessageBody { ack_message_id: Some(message), ..body(device, &to, Some(BodyType::Recall), None) };
    let id = OTHERS + device.next_serial();
    post(device, id, Ask::Whatever, to, &body);
}

/// Changes a message.
pub(super) fn edit(device: &mut Device, to: Jid, message: u64, text: &str) {
    let body = MessageBody {
        edit_message_id: Some(message),
        edit_scope: Some(1),
        ..body(device, &to, Some(BodyType::Edit), Some(text))
    };
    let id = OTHERS + device.next_serial();
    post(device, id, Ask::Whatever, to, &body);
}

fn pull(device: &mut Device, queue: Jid, key: Option<u64>) {
    let pull = CommSyncUl { queue: Some(queue), key, ..CommSyncUl::default() };
    device.send(frame(Command::Sync, Some(pull.encode_to_vec())).encode_to_vec());
}

fn has_news(device: &mut Device, queue: Jid) {
    if let Some(again) = device.pulling.get_mut(name(&queue)) {
        *again = true;
        return;
    }
    device.pulling.insert(name(&queue).to_owned(), false);
    pull(device, queue, None);
}

fn name(queue: &Jid) -> &str {
    queue.name.as_deref().unwrap_or_default()
}

fn unreadable(error: &prost::DecodeError) -> Broken {
    format!("a frame can't be read: {error}")
}

/// Takes a frame.
pub(super) fn on_frame(
    device: &mut Device,
    bytes: Bytes,
    model: &mut Model,
    now: Timestamp,
) -> Result<(), Broken> {
    let frame_of = MSync::decode(bytes).map_err(|error| unreadable(&error))?;
    let payload = frame_of.payload.unwrap_or_default();
    match frame_of.command.and_then(|number| Command::try_from(number).ok()) {
        Some(Command::Provision) => {
            let reply = Provision::decode(payload).map_err(|error| unreadable(&error))?;
            match reply.status.unwrap_or_default().error_code {
                Some(0) => {
                    device.logged_in(model);
                    device.send(frame(Command::Unread, None).encode_to_vec());
                    Ok(())
                }
                code => Err(format!("the login of {} was refused: {code:?}", device.person)),
            }
        }
        Some(Command::Unread) => {
            let list = CommUnreadDl::decode(payload).map_err(|error| unreadable(&error))?;
            for queue in list.unread.into_iter().filter_map(|waiting| waiting.queue) {
                has_news(device, queue);
            }
            Ok(())
        }
        Some(Command::Notice) => {
            let notice = CommNotice::decode(payload).map_err(|error| unreadable(&error))?;
            has_news(device, notice.queue.unwrap_or_default());
            Ok(())
        }
        Some(Command::Sync) => {
            let sync = CommSyncDl::decode(payload).map_err(|error| unreadable(&error))?;
            on_sync(device, sync, model, now)
        }
        Some(Command::Logout) | None => Err(format!("a frame of an unknown kind: {:?}", frame_of.command)),
    }
}

fn on_sync(device: &mut Device, sync: CommSyncDl, model: &mut Model, now: Timestamp) -> Result<(), Broken> {
    if let Some(id) = sync.meta_id.filter(|id| *id != 0) {
        let Some(asked) = device.expected(id) else {
            return Err(format!("an answer to nothing, or a second one: {sync:?}"));
        };
        let Ask::Say(intent) = asked else { return Ok(()) };
        let status = sync.status.unwrap_or_default();
        let answer = match status.error_code {
            Some(0) => {
                let at = i64::try_from(sync.timestamp.unwrap_or_default()).unwrap_or_default();
                Answer::Kept(sync.server_id.unwrap_or_default(), at)
            }
            code => Answer::Refused(format!("{code:?} {}", status.reason.unwrap_or_default())),
        };
        return model.answered(intent, answer, now);
    }
    let metas = metas_of(&sync).map_err(|error| error.to_string())?;
    for meta in &metas {
        take(device, meta, model)?;
    }
    let Some(queue) = sync.queue else { return Err("a delivery without a queue".to_owned()) };
    let is_last = sync.is_last.unwrap_or_default();
    if !metas.is_empty() && !is_last {
        pull(device, queue, sync.next_key);
    } else if metas.is_empty() && device.pulling.remove(name(&queue)) == Some(true) {
        has_news(device, queue);
    }
    Ok(())
}

fn take(device: &mut Device, meta: &Meta, model: &Model) -> Result<(), Broken> {
    if meta.ns != Some(NameSpace::Chat.into()) {
        return Ok(());
    }
    let body = body_of(meta).map_err(|error| error.to_string())?;
    let kind = body.r#type.and_then(|kind| BodyType::try_from(kind).ok());
    match kind {
        Some(BodyType::Chat | BodyType::Groupchat) => {
            let sender = body.from.as_ref().and_then(|from| from.name.as_deref()).unwrap_or_default();
            let at = i64::try_from(meta.timestamp.unwrap_or_default()).unwrap_or_default();
            device.hears(model, meta.id.unwrap_or_default(), at, sender, &text_of(meta))
        }
        Some(BodyType::Recall) => {
            device.recalls.extend(body.ack_message_id);
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}
