//! What an Easemob message says in words that every wire knows, and such words as an Easemob message.

use posthouse_core::content::{Content, FileSaying, Saying};
use posthouse_core::message::{Body, BodyKind};
use serde_json::{Map, Value};

use crate::wire::bodies::{self, Kind};
use crate::wire::meta;
use crate::wire::proto::message_body::Content as Part;
use crate::wire::proto::message_body::content::{Size, Type as PartType};
use crate::wire::proto::{KeyValue, MessageBody};

/// What stands for content that has no words of its own.
const SOMETHING: &str = "[message]";

/// What a stored body says. What no other wire knows is a line for people.
#[must_use]
pub(crate) fn read(body: &Body) -> Content {
    match meta::body(&body.payload.bytes) {
        Ok(stored) => said(&stored),
        Err(_) => Content { what: Saying::Other(SOMETHING.to_owned()), attributes: Map::new() },
    }
}

/// What a decoded message says.
#[must_use]
pub(crate) fn said(body: &MessageBody) -> Content {
    let what = match body.contents.first() {
        Some(part) => saying(part),
        None => Saying::Other(SOMETHING.to_owned()),
    };
    Content { what, attributes: bodies::attributes(&body.ext) }
}

fn saying(part: &Part) -> Saying {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match Kind::of_content(part) {
        Some(Kind::Text) => Saying::Text(text(&part.text)),
        Some(Kind::Image | Kind::Video | Kind::Voice | Kind::File) => file(part),
        Some(Kind::Location) => Saying::Location {
            latitude: finite(part.latitude),
            longitude: finite(part.longitude),
            address: text(&part.address),
        },
        Some(Kind::Custom) => {
            // Old clients put them where commands have theirs.
            let fields = if part.custom_exts.is_empty() { &part.params } else { &part.custom_exts };
            Saying::Custom { event: text(&part.custom_event), fields: bodies::attributes(fields) }
        }
        Some(Kind::Combine) => Saying::Other(first_of([&part.text, &part.title], "[chat history]")),
        Some(Kind::Command) => Saying::Other(first_of([&part.action, &None], "[command]")),
        None => Saying::Other(first_of([&part.text, &None], SOMETHING)),
    }
}

/// A file without an address is nothing that anybody could fetch.
fn file(part: &Part) -> Saying {
    let Some(url) = part.remote_path.clone().filter(|url| !url.is_empty()) else {
        return Saying::Other(first_of([&part.display_name, &None], "[file]"));
    };
    let positive = |side: Option<f64>| side.filter(|side| side.is_finite() && *side > 0.0);
    let pixels = part.size.as_ref().and_then(|size| Some((positive(size.width)?, positive(size.height)?)));
    let secret = part.secret_key.clone().filter(|secret| !secret.is_empty());
    Saying::File(FileSaying {
        url: openable(url, secret.as_deref()),
        name: part.display_name.clone().unwrap_or_default(),
        bytes: part.file_length.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0),
        seconds: part.duration.filter(|seconds| *seconds > 0).map(f64::from),
        pixels,
        secret,
    })
}

/// The address with what opens it, in the form in which the Web SDK asks for it (client 7.12), for
/// wires that know an address and nothing else. The SDK leaves such an address as it is.
fn openable(url: String, secret: Option<&str>) -> String {
    match secret {
        Some(secret) if !url.contains('?') => format!("{url}?em-redirect=true&share-secret={secret}"),
        Some(_) | None => url,
    }
}

fn first_of(texts: [&Option<String>; 2], otherwise: &str) -> String {
    let found = texts.into_iter().flatten().find(|text| !text.is_empty());
    found.map_or(otherwise, String::as_str).to_owned()
}

fn finite(degrees: Option<f64>) -> f64 {
    degrees.filter(|degrees| degrees.is_finite()).unwrap_or_default()
}

/// A message without type and addresses that says it (see [`bodies::address`]). `kind` tells the
/// sorts of files apart.
#[must_use]
pub(crate) fn write(kind: BodyKind, content: &Content) -> MessageBody {
    let part = match &content.what {
        Saying::Text(text) => text_part(text),
        Saying::File(file) => file_part(kind, file),
        Saying::Location { latitude, longitude, address } => Part {
            r#type: Some(PartType::Location.into()),
            latitude: Some(*latitude),
            longitude: Some(*longitude),
            address: Some(address.clone()),
            ..Part::default()
        },
        Saying::Custom { event, fields } => Part {
            r#type: Some(PartType::Custom.into()),
            custom_event: Some(event.clone()),
            custom_exts: fields.iter().map(|(key, value)| text_pair(key, value)).collect(),
            ..Part::default()
        },
        Saying::Other(line) => text_part(if line.is_empty() { SOMETHING } else { line }),
    };
    MessageBody {
        contents: vec![part],
        ext: bodies::key_values(&content.attributes),
        ..MessageBody::default()
    }
}

fn text_part(text: &str) -> Part {
    Part { r#type: Some(PartType::Text.into()), text: Some(text.to_owned()), ..Part::default() }
}

fn file_part(kind: BodyKind, file: &FileSaying) -> Part {
    let of = match kind {
        BodyKind::Image => PartType::Image,
        BodyKind::Audio => PartType::Voice,
        BodyKind::Video => PartType::Video,
        BodyKind::File
        | BodyKind::Text
        | BodyKind::Location
        | BodyKind::Recalled
        | BodyKind::Combined
        | BodyKind::Command
        | BodyKind::Custom(_)
        | BodyKind::Untyped => PartType::File,
    };
    Part {
        r#type: Some(of.into()),
        display_name: Some(file.name.clone()),
        remote_path: Some(file.url.clone()),
        secret_key: file.secret.clone(),
        file_length: file.bytes.map(|bytes| i32::try_from(bytes).unwrap_or(i32::MAX)),
        duration: file.seconds.map(whole_seconds),
        size: file.pixels.map(|(width, height)| Size { width: Some(width), height: Some(height) }),
        ..Part::default()
    }
}

/// The wire has whole seconds; what plays at all plays for one.
fn whole_seconds(seconds: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "it was brought into the range just before")]
    let whole = seconds.round().clamp(1.0, f64::from(i32::MAX)) as i32;
    whole
}

/// Fields of custom messages are texts (client 5.6); others appear as their JSON.
fn text_pair(key: &str, value: &Value) -> KeyValue {
    match value {
        Value::String(_) => bodies::key_value(key, value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            bodies::key_value(key, &Value::String(value.to_string()))
        }
    }
}

/// The kind by which history is filtered, on every wire.
#[must_use]
pub(crate) fn kind_of(part: &Part) -> BodyKind {
    match Kind::of_content(part) {
        Some(kind) => kind_named(kind),
        None => BodyKind::Untyped,
    }
}

/// The domain's word for a kind of content.
#[must_use]
pub(crate) const fn kind_named(kind: Kind) -> BodyKind {
    match kind {
        Kind::Text => BodyKind::Text,
        Kind::Image => BodyKind::Image,
        Kind::Video => BodyKind::Video,
        Kind::Location => BodyKind::Location,
        Kind::Voice => BodyKind::Audio,
        Kind::File => BodyKind::File,
        Kind::Command => BodyKind::Command,
        Kind::Custom => BodyKind::Custom(CUSTOM),
        Kind::Combine => BodyKind::Combined,
    }
}

/// The number of Easemob's custom messages among the types that apps define: they have names instead.
const CUSTOM: i32 = 0;

/// A line for people about a message: its text, or what sort of thing it is.
#[must_use]
pub(crate) fn line(body: &MessageBody) -> Option<String> {
    let part = body.contents.first()?;
    let text = match Kind::of_content(part) {
        Some(Kind::Text | Kind::Combine) => return part.text.clone().filter(|text| !text.is_empty()),
        Some(Kind::Command) => return None,
        Some(Kind::Image) => "[image]",
        Some(Kind::Video) => "[video]",
        Some(Kind::Voice) => "[audio]",
        Some(Kind::File) => "[file]",
        Some(Kind::Location) => "[location]",
        Some(Kind::Custom) => "[custom]",
        None => SOMETHING,
    };
    Some(text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use bytes::Bytes;
    use posthouse_core::message::Payload;
    use proptest::prelude::*;
    use prost::Message as _;
    use serde_json::json;

    use super::*;
    use crate::inbound::SCHEMA;
    use crate::wire::proto::message_body::content::SubType;
    use crate::wire::proto::meta::NameSpace;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("{value} is no object") };
        map
    }

    fn stored(kind: BodyKind, body: &MessageBody) -> Body {
        let bytes = meta::compose(NameSpace::Chat, &body.encode_to_vec(), "web_1");
        Body { kind, summary: None, payload: Payload { schema: SCHEMA, bytes } }
    }

    fn there_and_back(kind: BodyKind, content: &Content) -> Content {
        read(&stored(kind, &write(kind, content)))
    }

    fn of(part: Part) -> Saying {
        said(&MessageBody { contents: vec![part], ..MessageBody::default() }).what
    }

    #[test]
    fn every_kind_of_content_is_said() {
        let typed = |of: PartType| Part { r#type: Some(of.into()), ..Part::default() };
        assert_eq!(
            of(Part { text: Some("hi".to_owned()), ..typed(PartType::Text) }),
            Saying::Text("hi".to_owned())
        );
        let stream = Part { text: Some("so far".to_owned()), sub_type: Some(10), ..typed(PartType::Text) };
        assert_eq!(of(stream), Saying::Text("so far".to_owned()));
        assert_eq!(
            of(Part {
                text: Some("not supported".to_owned()),
                sub_type: Some(SubType::SubCombine.into()),
                ..typed(PartType::Text)
            }),
            Saying::Other("not supported".to_owned())
        );
        assert_eq!(of(typed(PartType::Combine)), Saying::Other("[chat history]".to_owned()));
        assert_eq!(
            of(Part {
                custom_event: Some("gift".to_owned()),
                custom_exts: vec![bodies::key_value("n", &json!("3"))],
                ..typed(PartType::Custom)
            }),
            Saying::Custom { event: "gift".to_owned(), fields: object(json!({"n": "3"})) }
        );
        assert_eq!(of(typed(PartType::File)), Saying::Other("[file]".to_owned()));
        assert_eq!(
            of(Part { action: Some("TypingBegin".to_owned()), ..typed(PartType::Command) }),
            Saying::Other("TypingBegin".to_owned())
        );
        assert_eq!(of(Part { r#type: Some(77), ..Part::default() }), Saying::Other("[message]".to_owned()));
        assert_eq!(
            of(Part {
                latitude: Some(f64::NAN),
                longitude: Some(13.4),
                address: Some("Berlin".to_owned()),
                ..typed(PartType::Location)
            }),
            Saying::Location { latitude: 0.0, longitude: 13.4, address: "Berlin".to_owned() }
        );
    }

    #[test]
    fn what_cannot_be_read_is_a_line() {
        let mut body = stored(BodyKind::Text, &MessageBody::default());
        assert_eq!(read(&body).what, Saying::Other("[message]".to_owned()));
        body.payload.bytes = Bytes::from_static(b"\xff\xff");
        assert_eq!(read(&body).what, Saying::Other("[message]".to_owned()));
    }

    #[test]
    fn files_keep_their_sort_and_what_is_known_of_them() {
        let file = FileSaying {
            url: "https://files.example/a.amr".to_owned(),
            name: "a.amr".to_owned(),
            bytes: Some(u64::MAX),
            seconds: Some(0.2),
            pixels: Some((3.0, 4.5)),
            secret: Some("s".to_owned()),
        };
        let content = Content { what: Saying::File(file), attributes: Map::new() };
        for (kind, wanted) in [
            (BodyKind::Image, PartType::Image),
            (BodyKind::Audio, PartType::Voice),
            (BodyKind::Video, PartType::Video),
            (BodyKind::File, PartType::File),
            (BodyKind::Custom(3), PartType::File),
        ] {
            let part = write(kind, &content).contents.remove(0);
            assert_eq!(part.r#type, Some(wanted.into()), "{kind:?}");
            assert_eq!((part.file_length, part.duration), (Some(i32::MAX), Some(1)));
        }
    }

    #[test]
    fn a_secret_is_put_into_the_address() {
        for (url, wanted) in [
            ("https://f/a", "https://f/a?em-redirect=true&share-secret=s"),
            ("https://f/a?em-redirect=true", "https://f/a?em-redirect=true"),
        ] {
            let part = Part {
                r#type: Some(PartType::Image.into()),
                remote_path: Some(url.to_owned()),
                secret_key: Some("s".to_owned()),
                ..Part::default()
            };
            let Saying::File(file) = of(part) else { panic!() };
            assert_eq!(file.url, wanted);
        }
    }

    #[test]
    fn fields_of_custom_messages_become_texts_and_attributes_keep_their_types() {
        let content = Content {
            what: Saying::Custom {
                event: "7".to_owned(),
                fields: object(json!({"a": 1, "b": {"c": []}, "d": "e"})),
            },
            attributes: object(json!({"n": 1.5, "o": {"p": null}, "t": true})),
        };
        let back = there_and_back(BodyKind::Custom(7), &content);
        assert_eq!(back.attributes, content.attributes);
        let fields = object(json!({"a": "1", "b": "{\"c\":[]}", "d": "e"}));
        assert_eq!(back.what, Saying::Custom { event: "7".to_owned(), fields });
    }

    fn word() -> impl Strategy<Value = String> {
        "[a-z0-9 ./:?=猫\"\\\\]{0,12}"
    }

    fn saying() -> impl Strategy<Value = (BodyKind, Saying)> {
        let file = (
            word(),
            word(),
            proptest::option::of(1..=2_000_000_000_u64),
            proptest::option::of(1..100_000_u32),
            proptest::option::of((1..10_000_u32, 1..10_000_u32)),
            proptest::option::of("[a-z]{1,8}"),
        )
            .prop_map(|(url, name, bytes, seconds, pixels, secret)| {
                Saying::File(FileSaying {
                    url: openable(format!("https://{url}"), secret.as_deref()),
                    name,
                    bytes,
                    seconds: seconds.map(f64::from),
                    pixels: pixels.map(|(width, height)| (f64::from(width), f64::from(height))),
                    secret,
                })
            });
        let fields = proptest::collection::btree_map("[a-z]{1,4}", word(), 0..4);
        let kinds = prop_oneof![
            Just(BodyKind::Image),
            Just(BodyKind::Audio),
            Just(BodyKind::Video),
            Just(BodyKind::File)
        ];
        prop_oneof![
            word().prop_map(|text| (BodyKind::Text, Saying::Text(text))),
            (kinds, file),
            (word(), fields).prop_map(|(event, fields)| {
                let fields = fields.into_iter().map(|(key, value)| (key, value.into())).collect();
                (BodyKind::Custom(0), Saying::Custom { event, fields })
            }),
            (-90.0..90.0_f64, -180.0..180.0_f64, word()).prop_map(|(latitude, longitude, address)| {
                (BodyKind::Location, Saying::Location { latitude, longitude, address })
            }),
        ]
    }

    proptest! {
        #[test]
        fn text_files_places_and_custom_content_survive_there_and_back(
            (kind, what) in saying(),
            ext in proptest::collection::btree_map("[a-z]{1,4}", any::<i32>(), 0..4),
        ) {
            let attributes = ext.into_iter().map(|(key, value)| (key, value.into())).collect();
            let content = Content { what, attributes };
            let written = write(kind, &content);
            prop_assert_eq!(kind_of(&written.contents[0]), kind);
            prop_assert_eq!(there_and_back(kind, &content), content);
        }

        #[test]
        fn nothing_stored_makes_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let payload = Payload { schema: SCHEMA, bytes: bytes.into() };
            drop(read(&Body { kind: BodyKind::Text, summary: None, payload }));
        }
    }
}
