//! Logging in, talking, and the calls over REST, said in few words.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthouse::apps::{self, Keys};
use posthouse::peer::PATIENCE;
use posthouse::peer::easemob::{Device, Identity, Rest, body_of, text_of};
use posthouse_core::app::App;
use posthouse_easemob::wire::proto::message_body::Type as BodyType;
use posthouse_easemob::wire::proto::meta::NameSpace;
use posthouse_easemob::wire::proto::{
    CommSyncDl, Jid, MessageBody, Meta, MucBody, RosterBody, StatisticsBody, Status,
};
use posthouse_testkit::server::TestServer;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::timeout;

/// The resource of whoever needs no certain one.
pub(crate) const WEB: &str = "webim_web_1";
/// Another one.
pub(crate) const PHONE: &str = "ios_1";
/// A day.
pub(crate) const DAY_MS: i64 = 86_400_000;

// ---- apps and tokens --------------------------------------------------------------------------------

/// `org#app` of the app called `test`.
pub(crate) fn app_key(server: &TestServer) -> &str {
    key(&server.app, "easemob.appkey")
}

/// A key of an app.
pub(crate) fn key<'a>(app: &'a App, name: &str) -> &'a str {
    app.key(name).expect("every app has one")
}

/// Calls to the app called `test`, without a token.
pub(crate) fn rest(server: &TestServer) -> Rest {
    rest_of(server, &server.app)
}

/// Calls to any app, without a token.
pub(crate) fn rest_of(server: &TestServer, app: &App) -> Rest {
    Rest::new(&server.http_url(), key(app, "easemob.appkey"))
}

/// Calls of the back end of the app called `test`.
pub(crate) async fn back_end(server: &TestServer) -> Rest {
    back_end_of(server, &server.app).await
}

/// Calls of the back end of any app.
pub(crate) async fn back_end_of(server: &TestServer, app: &App) -> Rest {
    let rest = rest_of(server, app);
    let (id, secret) = (key(app, "easemob.client_id"), key(app, "easemob.client_secret"));
    let token = rest.app_token(id, secret).await.unwrap();
    rest.with_token(&token)
}

/// A second app on the same server.
pub(crate) async fn other_app(server: &TestServer) -> App {
    let app =
        apps::create(server.server.posthouse.store().as_ref(), "other", &Keys::default()).await.unwrap();
    server.server.posthouse.reload_apps().await.unwrap();
    app
}

/// A token of `name`, who is registered if need be, as the back end fetches it.
pub(crate) async fn token(server: &TestServer, name: &str) -> String {
    token_of(&back_end(server).await, name, Value::Null).await
}

/// The same by a certain back end, for so many seconds.
pub(crate) async fn token_of(back_end: &Rest, name: &str, ttl: Value) -> String {
    let mut grant = json!({"grant_type": "inherit", "username": name, "autoCreateUser": true});
    if !ttl.is_null() {
        grant["ttl"] = ttl;
    }
    let answer = back_end.ok("POST", "/token", Some(&grant)).await.unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// Calls of the user `name`, who is registered if need be.
pub(crate) async fn user(server: &TestServer, name: &str) -> Rest {
    rest(server).with_token(&token(server, name).await)
}

// ---- devices ----------------------------------------------------------------------------------------

/// Who logs in to the app called `test`.
pub(crate) fn identity(server: &TestServer, name: &str, resource: &str, token: &str) -> Identity {
    Identity {
        app_key: app_key(server).to_owned(),
        name: name.to_owned(),
        resource: resource.to_owned(),
        token: token.to_owned(),
    }
}

/// A device that has logged in and not asked for anything yet.
pub(crate) async fn arrive(server: &TestServer, name: &str, resource: &str) -> Device {
    let token = token(server, name).await;
    Device::login(&server.http_url(), identity(server, name, resource, &token)).await.unwrap()
}

/// A device that has logged in and taken what waited for it.
pub(crate) async fn login_on(server: &TestServer, name: &str, resource: &str) -> Device {
    let mut device = arrive(server, name, resource).await;
    device.sync().await.unwrap();
    device
}

/// The same on the usual device.
pub(crate) async fn login(server: &TestServer, name: &str) -> Device {
    login_on(server, name, WEB).await
}

/// Alice and Bob, each on one device.
pub(crate) async fn alice_and_bob(server: &TestServer) -> (Device, Device) {
    (login(server, "alice").await, login(server, "bob").await)
}

/// Leaves without a word.
pub(crate) async fn leave(server: &TestServer, device: Device) {
    let (name, resource) = (device.identity().name.clone(), device.identity().resource.clone());
    drop(device);
    until_gone(server, &name, &resource).await;
}

/// Waits until the server has noticed that a device has left.
pub(crate) async fn until_gone(server: &TestServer, name: &str, resource: &str) {
    let back_end = back_end(server).await;
    let asking = async {
        loop {
            let answer = back_end.ok("GET", &format!("/users/{name}/resources"), None).await.unwrap();
            let here =
                answer["data"].as_array().is_some_and(|all| all.iter().any(|one| one["res"] == resource));
            if !here {
                return;
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("the server notices that a device has left");
}

/// A group that the back end makes. Its members have not heard of it yet.
pub(crate) async fn group(server: &TestServer, owner: &str, members: &[&str]) -> String {
    for name in members.iter().chain([&owner]) {
        token(server, name).await;
    }
    let wish = json!({"groupname": "friends", "description": "", "public": true, "owner": owner, "members": members});
    let answer = back_end(server).await.ok("POST", "/chatgroups", Some(&wish)).await.unwrap();
    answer["data"]["groupid"].as_str().unwrap().to_owned()
}

/// Everything that has come for a device, by its notices.
pub(crate) async fn news(device: &mut Device) -> Vec<Meta> {
    let mut metas = Vec::new();
    loop {
        device.settle().await.unwrap();
        let notices = device.take_notices();
        if notices.is_empty() {
            return metas;
        }
        for queue in notices {
            metas.extend(device.drain(&queue).await.unwrap());
        }
    }
}

/// Waits for a meta of which `wanted` is true; the others are dropped.
pub(crate) async fn until(device: &mut Device, wanted: impl Fn(&Meta) -> bool) -> Meta {
    let waiting = async {
        loop {
            let metas = device.next().await.unwrap();
            if let Some(found) = metas.into_iter().find(|meta| wanted(meta)) {
                return found;
            }
        }
    };
    timeout(PATIENCE, waiting).await.expect("it comes")
}

/// Waits for a body of this type.
pub(crate) async fn until_type(device: &mut Device, wanted: BodyType) -> (Meta, MessageBody) {
    let meta = until(device, |meta| is_type(meta, wanted)).await;
    let body = body_of(&meta).unwrap();
    (meta, body)
}

/// Waits for a group event of this number (client 6.2).
pub(crate) async fn until_muc(device: &mut Device, operation: i32) -> MucBody {
    let meta = until(device, |meta| muc_of(meta).is_some_and(|body| body.operation == Some(operation))).await;
    muc_of(&meta).unwrap()
}

/// Waits for a notify of this type; its JSON.
pub(crate) async fn until_notify(device: &mut Device, kind: &str) -> Value {
    let meta = until(device, |meta| notify_of(meta).is_some_and(|json| json["type"] == kind)).await;
    notify_of(&meta).unwrap()
}

// ---- metas ------------------------------------------------------------------------------------------

/// Whether it is of the name space of messages, with a body of this type.
pub(crate) fn is_type(meta: &Meta, wanted: BodyType) -> bool {
    meta.ns == Some(NameSpace::Chat.into())
        && body_of(meta).is_ok_and(|body| body.r#type == Some(wanted.into()))
}

/// The group event in a meta.
pub(crate) fn muc_of(meta: &Meta) -> Option<MucBody> {
    (meta.ns == Some(NameSpace::Muc.into())).then(|| MucBody::decode(meta.payload.clone().unwrap()).unwrap())
}

/// The contact event in a meta.
pub(crate) fn roster_of(meta: &Meta) -> Option<RosterBody> {
    (meta.ns == Some(NameSpace::Roster.into()))
        .then(|| RosterBody::decode(meta.payload.clone().unwrap()).unwrap())
}

/// The JSON of a notify.
pub(crate) fn notify_of(meta: &Meta) -> Option<Value> {
    (meta.ns == Some(NameSpace::Notify.into()))
        .then(|| serde_json::from_slice(&meta.payload.clone().unwrap()).expect("a notify is JSON"))
}

/// The statistics in a push: how a device hears that it has to go.
pub(crate) fn kick_of(push: &CommSyncDl) -> StatisticsBody {
    assert!(push.queue.is_some(), "every delivery names a queue");
    assert_eq!(push.metas.len(), 1);
    let meta = Meta::decode(push.metas[0].clone()).unwrap();
    assert_eq!(meta.ns, Some(NameSpace::Statistic.into()));
    StatisticsBody::decode(meta.payload.unwrap()).unwrap()
}

/// The texts of those that are ordinary messages.
pub(crate) fn texts(metas: &[Meta]) -> Vec<String> {
    metas.iter().filter(|meta| is_message(meta)).map(text_of).collect()
}

/// The ids of those that are ordinary messages.
pub(crate) fn ids(metas: &[Meta]) -> Vec<u64> {
    metas.iter().filter(|meta| is_message(meta)).map(|meta| meta.id.unwrap()).collect()
}

fn is_message(meta: &Meta) -> bool {
    is_type(meta, BodyType::Chat) || is_type(meta, BodyType::Groupchat)
}

/// The name in an address, if there is one.
pub(crate) fn name(jid: Option<&Jid>) -> &str {
    jid.and_then(|jid| jid.name.as_deref()).unwrap_or_default()
}

/// The queue of notes.
pub(crate) fn inbox() -> Jid {
    Jid { domain: Some(posthouse::peer::easemob::PEOPLE.to_owned()), ..Jid::default() }
}

/// Code and text of a status.
pub(crate) fn status(status: Option<Status>) -> (i32, String) {
    let status = status.expect("every answer has a status");
    (status.error_code.expect("every status has a code"), status.reason.unwrap_or_default())
}

/// Sends a meta that must be refused; code and text. The answer has the meta's id.
pub(crate) async fn refusal(device: &mut Device, meta: Meta) -> (i32, String) {
    let ack = device.post(meta).await.unwrap();
    let (code, reason) = status(ack.status);
    assert_ne!(code, 0, "it was accepted");
    // SDKs never settle on other words with this code (client 5.4).
    let known = [
        "sensitive words",
        "blocked by mod_antispam",
        "user is mute",
        "traffic limit",
        "Sorry, data is too large",
    ];
    assert!(code != 7 || known.contains(&&*reason), "{reason}");
    assert!(!reason.is_empty());
    (code, reason)
}

// ---- calls ------------------------------------------------------------------------------------------

/// A call that must be refused: status, name and words of the error.
pub(crate) async fn refused(
    rest: &Rest,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, String, String) {
    let (status, json) =
        rest.call(method, path, body).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    assert_ne!(status, 200, "{method} {path}: {json}");
    assert!(json.is_object(), "{method} {path}: {json}");
    let text =
        |field: &str| json[field].as_str().unwrap_or_else(|| panic!("no {field} in {json}")).to_owned();
    (status, text("error"), text("error_description"))
}

/// A page of history.
pub(crate) struct Page {
    pub(crate) metas: Vec<Meta>,
    pub(crate) next: String,
    pub(crate) is_last: bool,
}

/// Asks for history as the Web SDK does, with other fields.
pub(crate) async fn page(rest: &Rest, me: &str, queue: &str, fields: Value) -> Page {
    let mut asked = json!({
        "queue": queue, "start": -1, "end": -1, "pull_number": 50, "is_positive": false, "msgType": "",
        "startTime": null, "endTime": null, "userId": null,
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        asked[name] = value.clone();
    }
    let answer = rest.ok("POST", &format!("/users/{me}/messageroaming"), Some(&asked)).await.unwrap();
    let data = &answer["data"];
    let lines = data["msgs"].as_array().cloned().unwrap_or_default();
    let meta = |line: &Value| {
        let bytes = STANDARD.decode(line["msg"].as_str().unwrap()).unwrap();
        Meta::decode(bytes.as_slice()).unwrap()
    };
    Page {
        metas: lines.iter().map(meta).collect(),
        next: data["next_key"].as_str().unwrap_or_default().to_owned(),
        is_last: data["is_last"].as_bool().unwrap(),
    }
}

/// The texts of the newest fifty, newest first.
pub(crate) async fn said(rest: &Rest, me: &str, queue: &str) -> Vec<String> {
    texts(&page(rest, me, queue, json!({})).await.metas)
}

/// How history calls a person.
pub(crate) fn with(name: &str) -> String {
    format!("{name}@easemob.com")
}

/// How history calls a group.
pub(crate) fn within(group: &str) -> String {
    format!("{group}@conference.easemob.com")
}

/// A page of the list of conversations, of the largest size.
pub(crate) async fn list(rest: &Rest, me: &str) -> Vec<Value> {
    let path = format!("/users/{me}/user_channels/page?pageNum=1&pageSize=20");
    lines(&rest.ok("GET", &path, None).await.unwrap())
}

/// The lines of an answer with conversations.
pub(crate) fn lines(answer: &Value) -> Vec<Value> {
    answer["data"]["channel_infos"].as_array().unwrap_or_else(|| panic!("no list in {answer}")).clone()
}

/// Whom the lines are about: names of people, numbers of groups.
pub(crate) fn channels(lines: &[Value]) -> Vec<String> {
    let channel = |line: &Value| match line["channel_id"].as_str() {
        Some(id) => {
            let (address, _) = id.rsplit_once('@').unwrap();
            address.split_once('#').unwrap().1.split_once('_').unwrap().1.to_owned()
        }
        None => line["session_to"].as_str().unwrap().to_owned(),
    };
    lines.iter().map(channel).collect()
}

/// The text of a line's newest message; empty if it has none.
pub(crate) fn newest(line: &Value) -> String {
    let Some(payload) = line["meta"]["payload"].as_str() else { return String::new() };
    let payload: Value = serde_json::from_str(payload).expect("a payload is JSON text");
    payload["bodies"][0]["msg"].as_str().unwrap_or_default().to_owned()
}

/// The number of unread messages with `channel` in the list of `me`; `None` if it is not listed.
pub(crate) async fn unread(rest: &Rest, me: &str, channel: &str) -> Option<u64> {
    let lines = list(rest, me).await;
    let at = channels(&lines).iter().position(|listed| listed == channel)?;
    Some(lines[at]["unread_num"].as_u64().unwrap())
}

/// Sends a text as the back end does; its id.
pub(crate) async fn send_by_rest(back_end: &Rest, from: &str, to: &str, text: &str) -> u64 {
    let message = json!({"from": from, "to": [to], "type": "txt", "body": {"msg": text}});
    let answer = back_end.ok("POST", "/messages/users", Some(&message)).await.unwrap();
    answer["data"][to].as_str().unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
}
