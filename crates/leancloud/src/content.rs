//! What a LeanCloud message says in words that every wire knows, such words as a typed message, and
//! what other gateways wrote as this one shows it.

use std::borrow::Cow;

use bytes::Bytes;
use posthouse_core::content::{Content, FileSaying, ReadContent, Readers, Saying};
use posthouse_core::event::{Event, Patch};
use posthouse_core::message::{Body, BodyKind, Message, Payload};
use posthouse_core::receipt::Unread;
use serde_json::{Map, Value, json};

use crate::inbound::{RECALLED, SCHEMA_BINARY, SCHEMA_TEXT};

/// What stands for content that has no words of its own.
const SOMETHING: &str = "[message]";

/// Keys of typed messages (js-realtime-sdk: `typed-messages`).
mod key {
    pub(super) const TYPE: &str = "_lctype";
    pub(super) const TEXT: &str = "_lctext";
    pub(super) const ATTRIBUTES: &str = "_lcattrs";
    pub(super) const FILE: &str = "_lcfile";
    pub(super) const PLACE: &str = "_lcloc";
    /// Where content that another wire's app defined is found among the attributes.
    pub(super) const EVENT: &str = "customEvent";
    pub(super) const FIELDS: &str = "customExts";
}

/// The readers of what this gateway writes, for [`posthouse_core::Posthouse::new`].
#[must_use]
pub(crate) fn readers() -> Readers {
    vec![(SCHEMA_TEXT, read as ReadContent), (SCHEMA_BINARY, read)]
}

/// What a stored body says. Binary content has no words that others know.
#[must_use]
pub(crate) fn read(body: &Body) -> Content {
    if body.payload.schema == SCHEMA_BINARY {
        return other(SOMETHING);
    }
    let text = String::from_utf8_lossy(&body.payload.bytes);
    let typed = match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(typed)) => typed,
        Ok(_) | Err(_) => Map::new(),
    };
    let Some(kind) = typed.get(key::TYPE).and_then(Value::as_i64).filter(|kind| *kind != 0) else {
        return Content { what: Saying::Text(text.into_owned()), attributes: Map::new() };
    };
    let attributes = typed.get(key::ATTRIBUTES).and_then(Value::as_object).cloned().unwrap_or_default();
    Content { what: saying(kind, typed), attributes }
}

fn saying(kind: i64, mut typed: Map<String, Value>) -> Saying {
    let text = typed.get(key::TEXT).and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind {
        -1 => Saying::Text(text),
        -6 | -4..=-2 => file(&typed).map_or_else(|| line(&text, "[file]"), Saying::File),
        -5 => place(&typed, &text).unwrap_or_else(|| line(&text, "[location]")),
        1.. => {
            for own in [key::TYPE, key::ATTRIBUTES] {
                typed.shift_remove(own);
            }
            Saying::Custom { event: kind.to_string(), fields: typed }
        }
        _ => line(&text, SOMETHING),
    }
}

fn line(text: &str, otherwise: &str) -> Saying {
    Saying::Other(if text.is_empty() { otherwise } else { text }.to_owned())
}

fn file(typed: &Map<String, Value>) -> Option<FileSaying> {
    let file = typed.get(key::FILE)?;
    let url = file.get("url").and_then(Value::as_str).filter(|url| !url.is_empty())?;
    let known = file.get("metaData").unwrap_or(&Value::Null);
    let positive = |key: &str| known.get(key).and_then(Value::as_f64).filter(|number| *number > 0.0);
    // Some SDKs put name and size beside the address.
    let name = [known, file].into_iter().find_map(|of| of.get("name")?.as_str());
    let bytes = [known, file].into_iter().find_map(|of| whole(of.get("size")?));
    Some(FileSaying {
        url: url.to_owned(),
        name: name.map_or_else(|| last_part(url), str::to_owned),
        bytes,
        seconds: positive("duration"),
        pixels: positive("width").zip(positive("height")),
        secret: None,
    })
}

/// Some SDKs count in floating point.
fn whole(number: &Value) -> Option<u64> {
    let from_float = || {
        let float = number.as_f64().filter(|float| (0.0..9e15).contains(float))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 53 bits")]
        let whole = float as u64;
        Some(whole)
    };
    number.as_u64().or_else(from_float).filter(|number| *number > 0)
}

fn last_part(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn place(typed: &Map<String, Value>, text: &str) -> Option<Saying> {
    let place = typed.get(key::PLACE)?;
    let degrees = |key: &str| place.get(key).and_then(Value::as_f64);
    Some(Saying::Location {
        latitude: degrees("latitude")?,
        longitude: degrees("longitude")?,
        address: text.to_owned(),
    })
}

fn other(line: &str) -> Content {
    Content { what: Saying::Other(line.to_owned()), attributes: Map::new() }
}

/// A typed message that says it. `kind` tells the sorts of files apart. What only its own wire knows,
/// an app's own types among it, is a text: every SDK shows one, while a type without a class is
/// shown by none. An app that knows better finds the type's name and fields among the attributes.
#[must_use]
pub(crate) fn write(kind: BodyKind, content: &Content) -> Payload {
    let mut attributes = content.attributes.clone();
    let mut typed = Map::new();
    let mut put = |key: &str, value: Value| drop(typed.insert(key.to_owned(), value));
    match &content.what {
        Saying::Text(text) => {
            put(key::TYPE, (-1).into());
            put(key::TEXT, text.as_str().into());
        }
        Saying::File(file) => {
            put(key::TYPE, file_type(kind).into());
            put(key::FILE, file_json(file));
        }
        Saying::Location { latitude, longitude, address } => {
            put(key::TYPE, (-5).into());
            put(key::TEXT, address.as_str().into());
            put(key::PLACE, json!({"latitude": latitude, "longitude": longitude}));
        }
        Saying::Custom { event, fields } => {
            let name = if event.is_empty() { "custom" } else { event };
            put(key::TYPE, (-1).into());
            put(key::TEXT, format!("[{name}]").into());
            attributes.insert(key::EVENT.to_owned(), event.as_str().into());
            attributes.insert(key::FIELDS.to_owned(), Value::Object(fields.clone()));
        }
        Saying::Other(line) => {
            put(key::TYPE, (-1).into());
            put(key::TEXT, if line.is_empty() { SOMETHING } else { line }.into());
        }
    }
    if !attributes.is_empty() {
        put(key::ATTRIBUTES, Value::Object(attributes));
    }
    Payload { schema: SCHEMA_TEXT, bytes: Value::Object(typed).to_string().into() }
}

fn file_type(kind: BodyKind) -> i32 {
    match kind {
        BodyKind::Image => -2,
        BodyKind::Audio => -3,
        BodyKind::Video => -4,
        BodyKind::File
        | BodyKind::Text
        | BodyKind::Location
        | BodyKind::Recalled
        | BodyKind::Combined
        | BodyKind::Command
        | BodyKind::Custom(_)
        | BodyKind::Untyped => -6,
    }
}

fn file_json(file: &FileSaying) -> Value {
    let mut known = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            known.insert(key.to_owned(), value);
        }
    };
    put("name", (!file.name.is_empty()).then(|| file.name.as_str().into()));
    put("size", file.bytes.map(Value::from));
    put("duration", file.seconds.map(Value::from));
    put("width", file.pixels.map(|(width, _)| width.into()));
    put("height", file.pixels.map(|(_, height)| height.into()));
    json!({"url": file.url, "metaData": known})
}

// ---- what other gateways wrote ----------------------------------------------------------------------

/// Reads any gateway's bodies: [`posthouse_core::Posthouse::content`].
pub(crate) type Reader<'a> = &'a (dyn Fn(&Body) -> Content + Sync);

fn is_own(body: &Body) -> bool {
    body.payload.schema == SCHEMA_TEXT || body.payload.schema == SCHEMA_BINARY
}

/// Whether a message is for people. What is said to another wire's programs has no place on this one.
pub(crate) fn is_shown(event: &Event) -> bool {
    !matches!(event, Event::MessagePosted { message, .. } if message.body.kind == BodyKind::Command)
}

fn own_body(body: Body, reader: Reader<'_>) -> Body {
    if is_own(&body) {
        return body;
    }
    let payload = if body.kind == BodyKind::Recalled {
        Payload { schema: SCHEMA_TEXT, bytes: Bytes::from_static(RECALLED.as_bytes()) }
    } else {
        write(body.kind, &reader(&body))
    };
    Body { payload, ..body }
}

/// The message with a body that this wire can show.
pub(crate) fn own_message(message: Message, reader: Reader<'_>) -> Message {
    Message { body: own_body(message.body, reader), ..message }
}

/// The patch with a body that this wire can show.
pub(crate) fn own_patch(patch: Patch, reader: Reader<'_>) -> Patch {
    Patch { body: own_body(patch.body, reader), ..patch }
}

/// The number with a last message that this wire can show.
pub(crate) fn own_unread(unread: Unread, reader: Reader<'_>) -> Unread {
    let last_message = unread.last_message.filter(|message| message.body.kind != BodyKind::Command);
    Unread { last_message: last_message.map(|message| own_message(message, reader)), ..unread }
}

/// The event with bodies that this wire can show; copied only where one is another's.
pub(crate) fn own_event<'a>(event: &'a Event, reader: Reader<'_>) -> Cow<'a, Event> {
    let body = match event {
        Event::MessagePosted { message, .. } => Some(&message.body),
        Event::MessagePatched { patch, .. } => Some(&patch.body),
        Event::UnreadChanged { unread, .. } => unread.last_message.as_ref().map(|message| &message.body),
        Event::Joined(_)
        | Event::MembersJoined(_)
        | Event::Left(_)
        | Event::MembersLeft(_)
        | Event::Updated(_)
        | Event::Receipt(_)
        | Event::Presence(_)
        | Event::Noted
        | Event::SessionEnded { .. } => None,
    };
    if body.is_none_or(is_own) {
        return Cow::Borrowed(event);
    }
    let mut own = event.clone();
    match &mut own {
        Event::MessagePosted { message, .. } => *message = own_message(message.clone(), reader),
        Event::MessagePatched { patch, .. } => *patch = own_patch(patch.clone(), reader),
        Event::UnreadChanged { unread, .. } => *unread = own_unread(unread.clone(), reader),
        Event::Joined(_)
        | Event::MembersJoined(_)
        | Event::Left(_)
        | Event::MembersLeft(_)
        | Event::Updated(_)
        | Event::Receipt(_)
        | Event::Presence(_)
        | Event::Noted
        | Event::SessionEnded { .. } => {}
    }
    Cow::Owned(own)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::conversation::Kind;
    use posthouse_core::id::{ClientId, ConversationId, MessageId, Seq};
    use posthouse_core::message::{Mentions, Origin, SchemaTag};
    use posthouse_core::time::Timestamp;
    use proptest::prelude::*;

    use super::*;

    /// A gateway that this one knows nothing of.
    const FOREIGN: SchemaTag = SchemaTag(99);

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("{value} is no object") };
        map
    }

    fn body(schema: SchemaTag, kind: BodyKind, bytes: impl Into<Bytes>) -> Body {
        Body { kind, summary: None, payload: Payload { schema, bytes: bytes.into() } }
    }

    fn read_text(text: impl Into<Bytes>) -> Content {
        read(&body(SCHEMA_TEXT, BodyKind::Untyped, text))
    }

    fn written(kind: BodyKind, what: Saying) -> Value {
        serde_json::from_slice(&write(kind, &Content { what, attributes: Map::new() }).bytes).unwrap()
    }

    #[test]
    fn typed_messages_are_said() {
        let text = |text: &str| Saying::Text(text.to_owned());
        let other = |line: &str| Saying::Other(line.to_owned());
        for (typed, wanted) in [
            (json!({"_lctype": -1, "_lctext": "hi"}), text("hi")),
            (json!({"_lctype": -1}), text("")),
            (json!({"_lctype": 0, "x": 1}), text(r#"{"_lctype":0,"x":1}"#)),
            (json!({"x": 1}), text(r#"{"x":1}"#)),
            (json!({"_lctype": "-1"}), text(r#"{"_lctype":"-1"}"#)),
            (json!({"_lctype": -2}), other("[file]")),
            (json!({"_lctype": -6, "_lctext": "see", "_lcfile": {"url": ""}}), other("see")),
            (
                json!({"_lctype": -3, "_lcfile": {"url": "https://f/d/a.mp3?x", "objId": "1",
                    "metaData": {"duration": 2.5, "size": 7.0}}}),
                Saying::File(FileSaying {
                    url: "https://f/d/a.mp3?x".to_owned(),
                    name: "a.mp3".to_owned(),
                    bytes: Some(7),
                    seconds: Some(2.5),
                    ..FileSaying::default()
                }),
            ),
            (
                json!({"_lctype": -2, "_lcfile": {"url": "https://f/a", "name": "b", "size": 9,
                    "metaData": {"width": 3, "height": 4, "duration": "x"}}}),
                Saying::File(FileSaying {
                    url: "https://f/a".to_owned(),
                    name: "b".to_owned(),
                    bytes: Some(9),
                    pixels: Some((3.0, 4.0)),
                    ..FileSaying::default()
                }),
            ),
            (
                json!({"_lctype": -5, "_lctext": "here", "_lcloc": {"latitude": 1, "longitude": 2.5}}),
                Saying::Location { latitude: 1.0, longitude: 2.5, address: "here".to_owned() },
            ),
            (json!({"_lctype": -5, "_lcloc": {"latitude": 1}}), other("[location]")),
            (json!({"_lctype": -100, "_lctext": "x"}), other("x")),
            (json!({"_lctype": -127}), other("[message]")),
            (
                json!({"_lctype": 7, "_lctext": "t", "n": 1, "_lcattrs": {"a": 1}}),
                Saying::Custom { event: "7".to_owned(), fields: object(json!({"_lctext": "t", "n": 1})) },
            ),
        ] {
            assert_eq!(read_text(typed.to_string()).what, wanted, "{typed}");
        }
        assert_eq!(read_text("plain").what, text("plain"));
        assert_eq!(read(&body(SCHEMA_BINARY, BodyKind::Untyped, "x")).what, other("[message]"));
        let with_attributes = read_text(json!({"_lctype": -1, "_lcattrs": {"a": [1]}}).to_string());
        assert_eq!(with_attributes.attributes, object(json!({"a": [1]})));
        assert_eq!(read_text(json!({"_lctype": -1, "_lcattrs": 7}).to_string()).attributes, Map::new());
    }

    #[test]
    fn what_is_said_becomes_a_typed_message() {
        let file = Saying::File(FileSaying {
            url: "https://f/a".to_owned(),
            name: "a".to_owned(),
            bytes: Some(7),
            seconds: Some(2.0),
            pixels: Some((3.0, 4.0)),
            secret: Some("s".to_owned()),
        });
        for (kind, number) in
            [(BodyKind::Image, -2), (BodyKind::Audio, -3), (BodyKind::Video, -4), (BodyKind::File, -6)]
        {
            let meta = json!({"name": "a", "size": 7, "duration": 2.0, "width": 3.0, "height": 4.0});
            assert_eq!(
                written(kind, file.clone()),
                json!({"_lctype": number, "_lcfile": {"url": "https://f/a", "metaData": meta}})
            );
        }
        let custom = Saying::Custom { event: "gift".to_owned(), fields: object(json!({"n": "3"})) };
        assert_eq!(
            written(BodyKind::Custom(0), custom),
            json!({"_lctype": -1, "_lctext": "[gift]",
                "_lcattrs": {"customEvent": "gift", "customExts": {"n": "3"}}})
        );
        for (line, wanted) in [("", "[message]"), ("[chat history]", "[chat history]")] {
            assert_eq!(
                written(BodyKind::Combined, Saying::Other(line.to_owned())),
                json!({"_lctype": -1, "_lctext": wanted})
            );
        }
    }

    fn message(body: Body) -> Message {
        Message {
            id: MessageId::from_u64(9).unwrap(),
            conversation: ConversationId::lasting(7),
            seq: Seq(3),
            timestamp: Timestamp(5_000),
            sender: ClientId::parse("tom").unwrap(),
            body,
            mentions: Mentions::default(),
            receipt: false,
            patched_at: None,
            delivered_at: None,
            read_at: None,
            origin: Origin::Client,
            edits: 0,
            patched_by: None,
        }
    }

    fn there(body: &Body) -> Content {
        let text = String::from_utf8_lossy(&body.payload.bytes).into_owned();
        Content { what: Saying::Text(text), attributes: Map::new() }
    }

    #[test]
    fn only_what_others_wrote_is_rewritten() {
        let own = message(body(SCHEMA_TEXT, BodyKind::Untyped, "as it is"));
        assert_eq!(own_message(own.clone(), &there), own);
        let posted = |message: Message| Event::MessagePosted {
            message,
            kind: Kind::Group,
            pair: None,
            transient: false,
        };
        assert!(matches!(own_event(&posted(own), &there), Cow::Borrowed(_)));
        let foreign = posted(message(body(FOREIGN, BodyKind::Text, "hi")));
        let Event::MessagePosted { message: shown, .. } = own_event(&foreign, &there).into_owned() else {
            panic!()
        };
        assert_eq!(shown.body.payload.bytes, r#"{"_lctype":-1,"_lctext":"hi"}"#);
        assert!(is_shown(&foreign));
        assert!(!is_shown(&posted(message(body(FOREIGN, BodyKind::Command, "x")))));
    }

    #[test]
    fn others_recalled_messages_look_like_ours() {
        let recalled = own_message(message(body(FOREIGN, BodyKind::Recalled, "")), &there);
        assert_eq!(recalled.body.payload.bytes, RECALLED);
        assert_eq!(recalled.body.kind, BodyKind::Recalled);
    }

    #[test]
    fn a_command_is_nobodys_last_message() {
        let unread = |kind| Unread {
            conversation: ConversationId::lasting(7),
            kind: Kind::Group,
            count: 1,
            mentioned: false,
            last_message: Some(message(body(FOREIGN, kind, "x"))),
            head: Seq(9),
        };
        assert_eq!(own_unread(unread(BodyKind::Command), &there).last_message, None);
        let told = Event::UnreadChanged { unread: unread(BodyKind::Text), at: Timestamp(1) };
        let Event::UnreadChanged { unread, .. } = own_event(&told, &there).into_owned() else { panic!() };
        assert_eq!(unread.last_message.unwrap().body.payload.schema, SCHEMA_TEXT);
    }

    fn saying() -> impl Strategy<Value = (BodyKind, Saying)> {
        let kinds = prop_oneof![
            Just(BodyKind::Image),
            Just(BodyKind::Audio),
            Just(BodyKind::Video),
            Just(BodyKind::File)
        ];
        let file = ("[a-z/.]{1,12}", "[a-z猫\"]{1,12}", any::<[Option<u32>; 3]>()).prop_map(
            |(url, name, [bytes, seconds, side])| {
                let positive = |number: Option<u32>| number.filter(|number| *number > 0);
                Saying::File(FileSaying {
                    url: format!("https://{url}"),
                    name,
                    bytes: positive(bytes).map(u64::from),
                    seconds: positive(seconds).map(f64::from),
                    pixels: positive(side).map(|side| (f64::from(side), 1.5)),
                    secret: None,
                })
            },
        );
        prop_oneof![
            ".{0,20}".prop_map(|text| (BodyKind::Text, Saying::Text(text))),
            (kinds, file),
            (-9_000..9_000_i32, -18_000..18_000_i32, ".{0,12}").prop_map(|(north, east, address)| {
                let (latitude, longitude) = (f64::from(north) / 100.0, f64::from(east) / 100.0);
                (BodyKind::Location, Saying::Location { latitude, longitude, address })
            }),
        ]
    }

    proptest! {
        #[test]
        fn texts_files_and_places_survive_there_and_back(
            (kind, what) in saying(),
            attributes in proptest::collection::btree_map("[a-z]{1,4}", any::<i32>(), 0..4),
        ) {
            let attributes = attributes.into_iter().map(|(key, value)| (key, value.into())).collect();
            let content = Content { what, attributes };
            let payload = write(kind, &content);
            prop_assert_eq!(read(&Body { kind, summary: None, payload }), content);
        }

        #[test]
        fn nothing_stored_makes_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            drop(read_text(bytes));
        }
    }
}
