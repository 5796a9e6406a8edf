//! The JSON of a message: what conversation lists, exports and webhooks show (the "bodies" form,
//! client 7.2, rest 3.3.7), and what back ends post (rest 3.3.1).

use serde_json::{Map, Value, json};

use super::proto::key_value::{Value as Typed, ValueType};
use super::proto::message_body::content::{Size, SubType, Type as ContentType};
use super::proto::message_body::stream::StreamStatus;
use super::proto::message_body::{Content, Stream, Type as BodyType};
use super::proto::{Jid, KeyValue, MessageBody};

/// Integers up to here mean the same as doubles (JavaScript's `Number.MAX_SAFE_INTEGER`).
const SAFE_INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

/// Attributes of a custom message.
const CUSTOM_EXTS_MAX: usize = 16;

/// Characters of a custom message's event.
const CUSTOM_EVENT_CHARS_MAX: usize = 32;

/// What a message's content is, with its word in JSON and in history filters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// `txt`, streams included
    Text,
    /// `img`
    Image,
    /// `video`
    Video,
    /// `loc`
    Location,
    /// `audio`
    Voice,
    /// `file`
    File,
    /// `cmd`
    Command,
    /// `custom`
    Custom,
    /// `combine` in filters; `txt` with a `subType` in JSON
    Combine,
}

impl Kind {
    /// By the numbers of a content; `None` for a type we do not know. The Web SDK sends combined
    /// messages as texts with the sub type 0 (client 5.6).
    #[must_use]
    pub fn of(content_type: i32, sub_type: Option<i32>) -> Option<Self> {
        Some(match ContentType::try_from(content_type).ok()? {
            ContentType::Text if sub_type == Some(SubType::SubCombine.into()) => Self::Combine,
            ContentType::Text => Self::Text,
            ContentType::Image => Self::Image,
            ContentType::Video => Self::Video,
            ContentType::Location => Self::Location,
            ContentType::Voice => Self::Voice,
            ContentType::File => Self::File,
            ContentType::Command => Self::Command,
            ContentType::Custom => Self::Custom,
            ContentType::Combine => Self::Combine,
        })
    }

    /// The kind of a decoded content.
    #[must_use]
    pub fn of_content(content: &Content) -> Option<Self> {
        Self::of(content.r#type.unwrap_or_default(), content.sub_type)
    }

    /// The word of filters (client 7.3, `msgType`).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Image => "img",
            Self::Video => "video",
            Self::Location => "loc",
            Self::Voice => "audio",
            Self::File => "file",
            Self::Command => "cmd",
            Self::Custom => "custom",
            Self::Combine => "combine",
        }
    }

    /// The inverse of [`Kind::word`].
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Text,
            Self::Image,
            Self::Video,
            Self::Location,
            Self::Voice,
            Self::File,
            Self::Command,
            Self::Custom,
            Self::Combine,
        ]
        .into_iter()
        .find(|kind| kind.word() == word)
    }
}

// ---- to JSON ----------------------------------------------------------------------------------------

/// The payload JSON of a message: `bodies`, `ext`, `from`, `to`, `type`, and `msgConfig`, `meta`,
/// `stream` where it has them. Of several contents the first is shown, as SDKs do; a message without
/// content shows as an empty text, because one bad payload makes the SDK's whole call fail.
#[must_use]
pub fn to_json(body: &MessageBody) -> Map<String, Value> {
    let empty = Content::default();
    let content = body.contents.first().unwrap_or(&empty);
    let mut payload = Map::new();
    payload.insert("bodies".to_owned(), json!([content_json(content)]));
    payload.insert("ext".to_owned(), Value::Object(attributes(&body.ext)));
    payload.insert("from".to_owned(), name(body.from.as_ref()).into());
    payload.insert("to".to_owned(), name(body.to.as_ref()).into());
    payload.insert("type".to_owned(), chat_word(body.r#type).into());
    if let Some(config) = &body.msg_config {
        payload.insert(
            "msgConfig".to_owned(),
            json!({"allowGroupAck": config.allow_group_ack.unwrap_or_default()}),
        );
    }
    if let Some(meta @ Value::Object(_)) = body.meta.as_deref().and_then(parsed) {
        payload.insert("meta".to_owned(), meta);
    }
    if let Some(stream) = &body.stream {
        payload.insert("stream".to_owned(), stream_json(stream));
    }
    payload
}

/// The word of a message's type. Receipts and the like, which lists don't show, count as `chat`.
fn chat_word(number: Option<i32>) -> &'static str {
    match number.and_then(|number| BodyType::try_from(number).ok()) {
        Some(BodyType::Groupchat) => "groupchat",
        Some(BodyType::Chatroom) => "chatroom",
        Some(
            BodyType::Normal
            | BodyType::Chat
            | BodyType::ReadAck
            | BodyType::DeliverAck
            | BodyType::Recall
            | BodyType::ChannelAck
            | BodyType::Edit,
        )
        | None => "chat",
    }
}

fn name(jid: Option<&Jid>) -> &str {
    jid.and_then(|jid| jid.name.as_deref()).unwrap_or_default()
}

fn content_json(content: &Content) -> Value {
    let mut json = Map::new();
    let mut put = |key: &str, value: Value| drop(json.insert(key.to_owned(), value));
    let text = |text: &Option<String>| Value::from(text.as_deref().unwrap_or_default());
    let number = |number: Option<i32>| Value::from(number.unwrap_or_default());
    let file = |put: &mut dyn FnMut(&str, Value)| {
        put("url", text(&content.remote_path));
        put("secret", text(&content.secret_key));
        put("filename", text(&content.display_name));
        put("file_length", number(content.file_length));
    };
    let thumbnail = |put: &mut dyn FnMut(&str, Value)| {
        if content.thumbnail_remote_path.is_some() {
            put("thumb", text(&content.thumbnail_remote_path));
            put("thumb_secret", text(&content.thumbnail_secret_key));
        }
    };
    match Kind::of_content(content) {
        Some(Kind::Text) => {
            put("type", "txt".into());
            put("msg", text(&content.text));
            if content.sub_type == Some(SubType::SubStream.into()) {
                put("subType", "sub_stream".into());
            }
        }
        Some(Kind::Image) => {
            put("type", "img".into());
            file(&mut put);
            put("size", size_json(content.size.as_ref()));
            thumbnail(&mut put);
            if content.sub_type == Some(SubType::SubGif.into()) {
                put("subType", "sub_gif".into());
            }
        }
        Some(Kind::Video) => {
            put("type", "video".into());
            file(&mut put);
            put("length", number(content.duration));
            thumbnail(&mut put);
            if content.size.is_some() {
                put("size", size_json(content.size.as_ref()));
            }
        }
        Some(Kind::Voice) => {
            put("type", "audio".into());
            file(&mut put);
            put("length", number(content.duration));
        }
        Some(Kind::File) => {
            put("type", "file".into());
            file(&mut put);
        }
        Some(Kind::Location) => {
            put("type", "loc".into());
            put("lat", double_json(content.latitude.unwrap_or_default()));
            put("lng", double_json(content.longitude.unwrap_or_default()));
            put("addr", text(&content.address));
            if content.building_name.is_some() {
                put("buildingName", text(&content.building_name));
            }
        }
        Some(Kind::Command) => {
            put("type", "cmd".into());
            put("action", text(&content.action));
            if !content.params.is_empty() {
                put("param", Value::Object(attributes(&content.params)));
            }
        }
        Some(Kind::Custom) => {
            put("type", "custom".into());
            put("customEvent", text(&content.custom_event));
            // Old clients put them where commands have theirs.
            let exts = if content.custom_exts.is_empty() { &content.params } else { &content.custom_exts };
            let one_each = exts.iter().map(|ext| {
                Value::Object(Map::from_iter([(ext.key.clone().unwrap_or_default(), json_of(ext))]))
            });
            put("customExts", one_each.collect());
        }
        Some(Kind::Combine) => {
            put("type", "txt".into());
            put("subType", "sub_combine".into());
            put("msg", text(&content.text));
            put("title", text(&content.title));
            put("summary", text(&content.summary));
            file(&mut put);
            put("combineLevel", number(content.combine_level));
        }
        // Whatever newer clients send shows as the text that comes with it.
        None => {
            put("type", "txt".into());
            put("msg", text(&content.text));
        }
    }
    Value::Object(json)
}

fn size_json(size: Option<&Size>) -> Value {
    let side = |side: fn(&Size) -> Option<f64>| double_json(size.and_then(side).unwrap_or_default());
    json!({"width": side(|size| size.width), "height": side(|size| size.height)})
}

fn stream_json(stream: &Stream) -> Value {
    let status = match stream.stream_status.and_then(|number| StreamStatus::try_from(number).ok()) {
        Some(StreamStatus::StreamStart) => "stream_start",
        Some(StreamStatus::StreamStartCompleted) => "stream_start_completed",
        Some(StreamStatus::StreamInProgress) => "stream_in_progress",
        Some(StreamStatus::StreamCompleted) => "stream_completed",
        Some(StreamStatus::StreamFull) | None => "stream_full",
    };
    json!({
        "stream_type": stream.stream_type(),
        "stream_status": status,
        "stream_error": stream.stream_error(),
        "stream_finish_reason": stream.stream_finish_reason(),
    })
}

/// Key-value pairs as one object. Of several with the same key the last counts.
#[must_use]
pub fn attributes(pairs: &[KeyValue]) -> Map<String, Value> {
    pairs.iter().map(|pair| (pair.key.clone().unwrap_or_default(), json_of(pair))).collect()
}

/// The JSON of a value (client 5.7). What does not fit its type is shown as what it is; JSON text
/// that is none as text; what JSON can't say, such as infinity, as `null`.
#[must_use]
pub fn json_of(pair: &KeyValue) -> Value {
    let is = |of: ValueType| pair.r#type == Some(of.into());
    match &pair.value {
        Some(Typed::VarintValue(value)) if is(ValueType::Bool) => (*value != 0).into(),
        Some(Typed::VarintValue(value)) => (*value).into(),
        // By way of its decimal digits, so that 1.1 does not become 1.10000002384185791.
        Some(Typed::FloatValue(value)) => value.to_string().parse().map_or(Value::Null, double_json),
        Some(Typed::DoubleValue(value)) => double_json(*value),
        Some(Typed::StringValue(text)) if is(ValueType::JsonString) => {
            parsed(text).unwrap_or_else(|| text.as_str().into())
        }
        Some(Typed::StringValue(text)) => text.as_str().into(),
        None if is(ValueType::String) => "".into(),
        None => Value::Null,
    }
}

/// A JSON text within the parser's bound of nesting.
fn parsed(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// A double, without a fraction where it has none, as JavaScript writes it.
fn double_json(value: f64) -> Value {
    integer(value).map_or_else(|| value.into(), Value::from)
}

/// The integer that a double is.
fn integer(value: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and 53 bits")]
    (value.fract() == 0.0 && value.abs() <= SAFE_INTEGER_MAX).then_some(value as i64)
}

// ---- from JSON --------------------------------------------------------------------------------------

/// A value with its key, typed as the Web SDK does (client 5.7).
#[must_use]
pub fn key_value(key: &str, value: &Value) -> KeyValue {
    let (of, value) = match value {
        Value::Bool(is) => (ValueType::Bool, Typed::VarintValue((*is).into())),
        Value::Number(number) => {
            let double = || number.as_f64().unwrap_or_default();
            match number.as_i64().or_else(|| integer(double())) {
                Some(integer) => (ValueType::Int, Typed::VarintValue(integer)),
                None => (ValueType::Double, Typed::DoubleValue(double())),
            }
        }
        Value::String(text) => (ValueType::String, Typed::StringValue(text.clone())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            (ValueType::JsonString, Typed::StringValue(value.to_string()))
        }
    };
    KeyValue { key: Some(key.to_owned()), r#type: Some(of.into()), value: Some(value) }
}

/// The pairs of an object.
#[must_use]
pub fn key_values(object: &Map<String, Value>) -> Vec<KeyValue> {
    object.iter().map(|(key, value)| key_value(key, value)).collect()
}

/// A message that is refused. The text of each is that of the error's description; all are 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// No `type`.
    #[error("param type can't be empty")]
    TypeEmpty,
    /// No `body`.
    #[error("param body can't be empty")]
    BodyEmpty,
    /// An `ext` that is not an object.
    #[error("param ext must be JSONObject")]
    ExtNotObject,
    /// More bytes in `body` and `ext` than allowed.
    #[error("message is too large")]
    TooLarge,
    /// A `type` that does not exist, or a field of `body` that is missing or of the wrong form.
    #[error("Request body is invalid. Please check body is correct.")]
    Invalid {
        /// Which field.
        field: &'static str,
    },
}

impl Refused {
    /// The name of the error, next to its description.
    #[must_use]
    pub const fn error(self) -> &'static str {
        match self {
            Self::TypeEmpty | Self::BodyEmpty | Self::ExtNotObject | Self::TooLarge => "message_send_error",
            Self::Invalid { .. } => "invalid_request_body",
        }
    }
}

/// The message in the keys `type`, `body` and `ext` of what a back end posted, without its own type
/// and addresses; see [`address`]. `body` and `ext` may have `bytes_max` bytes as JSON.
pub fn from_rest(request: &Map<String, Value>, bytes_max: usize) -> Result<MessageBody, Refused> {
    let kind = match request.get("type") {
        None | Some(Value::Null) => return Err(Refused::TypeEmpty),
        Some(Value::String(kind)) if kind.is_empty() => return Err(Refused::TypeEmpty),
        Some(Value::String(kind)) => kind.as_str(),
        Some(_) => return Err(Refused::Invalid { field: "type" }),
    };
    let fields = match request.get("body") {
        None | Some(Value::Null) => return Err(Refused::BodyEmpty),
        Some(Value::Object(fields)) if fields.is_empty() => return Err(Refused::BodyEmpty),
        Some(Value::Object(fields)) => Fields(fields),
        Some(_) => return Err(Refused::Invalid { field: "body" }),
    };
    let ext = match request.get("ext") {
        None => None,
        Some(Value::Object(ext)) => Some(ext),
        Some(_) => return Err(Refused::ExtNotObject),
    };
    if json_bytes(fields.0) + ext.map_or(0, json_bytes) > bytes_max {
        return Err(Refused::TooLarge);
    }
    Ok(MessageBody {
        contents: vec![fields.content(kind)?],
        ext: ext.map(key_values).unwrap_or_default(),
        ..MessageBody::default()
    })
}

/// Writes into a message what it is and from whom to whom: names, as SDKs read them.
#[must_use]
pub fn address(body: MessageBody, of: BodyType, from: &str, to: &str) -> MessageBody {
    MessageBody {
        r#type: Some(of.into()),
        from: Some(super::jid::bare(from)),
        to: Some(super::jid::bare(to)),
        ..body
    }
}

fn json_bytes(object: &Map<String, Value>) -> usize {
    serde_json::to_string(object).map_or(usize::MAX / 2, |text| text.len())
}

/// The fields of a posted body.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn content(&self, kind: &str) -> Result<Content, Refused> {
        match kind {
            "txt" => self.text(),
            "img" => Ok(Content {
                size: self.size()?,
                sub_type: (self.sub_type() == Some("sub_gif")).then_some(SubType::SubGif.into()),
                ..self.thumbnailed(ContentType::Image)?
            }),
            "audio" => Ok(Content { duration: self.seconds()?, ..self.file(ContentType::Voice)? }),
            "video" => Ok(Content {
                duration: self.seconds()?,
                size: self.size()?,
                ..self.thumbnailed(ContentType::Video)?
            }),
            "file" => self.file(ContentType::File),
            "loc" => Ok(Content {
                r#type: Some(ContentType::Location.into()),
                latitude: Some(self.double("lat")?.ok_or(Refused::Invalid { field: "lat" })?),
                longitude: Some(self.double("lng")?.ok_or(Refused::Invalid { field: "lng" })?),
                address: Some(self.required("addr")?),
                building_name: self.optional("buildingName")?,
                ..Content::default()
            }),
            "cmd" => Ok(Content {
                r#type: Some(ContentType::Command.into()),
                action: Some(self.required("action")?),
                params: self.params()?,
                ..Content::default()
            }),
            "custom" => Ok(Content {
                r#type: Some(ContentType::Custom.into()),
                custom_event: self.custom_event()?,
                custom_exts: self.custom_exts()?,
                ..Content::default()
            }),
            _ => Err(Refused::Invalid { field: "type" }),
        }
    }

    fn text(&self) -> Result<Content, Refused> {
        let text = Some(self.required("msg")?);
        if self.sub_type() != Some("sub_combine") {
            return Ok(Content { r#type: Some(ContentType::Text.into()), text, ..Content::default() });
        }
        Ok(Content {
            text,
            title: self.optional("title")?,
            summary: self.optional("summary")?,
            sub_type: Some(SubType::SubCombine.into()),
            combine_level: self.integer("combineLevel")?,
            ..self.file(ContentType::Text)?
        })
    }

    fn file(&self, of: ContentType) -> Result<Content, Refused> {
        let url = self.required("url")?;
        if url.is_empty() {
            return Err(Refused::Invalid { field: "url" });
        }
        Ok(Content {
            r#type: Some(of.into()),
            remote_path: Some(url),
            display_name: self.optional("filename")?,
            secret_key: self.optional("secret")?,
            file_length: self.integer("file_length")?,
            ..Content::default()
        })
    }

    fn thumbnailed(&self, of: ContentType) -> Result<Content, Refused> {
        Ok(Content {
            thumbnail_remote_path: self.optional("thumb")?,
            thumbnail_secret_key: self.optional("thumb_secret")?,
            ..self.file(of)?
        })
    }

    fn size(&self) -> Result<Option<Size>, Refused> {
        match self.0.get("size") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(size)) => {
                let size = Fields(size);
                Ok(Some(Size { width: size.double("width")?, height: size.double("height")? }))
            }
            Some(_) => Err(Refused::Invalid { field: "size" }),
        }
    }

    /// The documentation's table spells it with a capital.
    fn seconds(&self) -> Result<Option<i32>, Refused> {
        match self.integer("length")? {
            None => self.integer("Length"),
            seconds => Ok(seconds),
        }
    }

    fn params(&self) -> Result<Vec<KeyValue>, Refused> {
        match self.0.get("param") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(params)) => Ok(key_values(params)),
            Some(_) => Err(Refused::Invalid { field: "param" }),
        }
    }

    /// `^[a-zA-Z0-9-_/\.]{1,32}$`
    fn custom_event(&self) -> Result<Option<String>, Refused> {
        let is_allowed = |char: char| char.is_ascii_alphanumeric() || "-_/.".contains(char);
        match self.optional("customEvent")? {
            Some(event)
                if !(1..=CUSTOM_EVENT_CHARS_MAX).contains(&event.len()) || !event.chars().all(is_allowed) =>
            {
                Err(Refused::Invalid { field: "customEvent" })
            }
            event => Ok(event),
        }
    }

    /// An object, or the list of one-key objects that exports have. Values become texts.
    fn custom_exts(&self) -> Result<Vec<KeyValue>, Refused> {
        let refused = Refused::Invalid { field: "customExts" };
        let pairs: Vec<(&String, &Value)> = match self.0.get("customExts") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(exts)) => exts.iter().collect(),
            Some(Value::Array(list)) => {
                let objects: Option<Vec<&Map<String, Value>>> = list.iter().map(Value::as_object).collect();
                objects.ok_or(refused)?.into_iter().flatten().collect()
            }
            Some(_) => return Err(refused),
        };
        if pairs.len() > CUSTOM_EXTS_MAX {
            return Err(refused);
        }
        let text = |(key, value): (&String, &Value)| match value {
            Value::String(_) => Ok(key_value(key, value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(key_value(key, &value.to_string().into())),
            Value::Array(_) | Value::Object(_) => Err(refused),
        };
        pairs.into_iter().map(text).collect()
    }

    fn sub_type(&self) -> Option<&str> {
        self.0.get("subType")?.as_str()
    }

    fn required(&self, field: &'static str) -> Result<String, Refused> {
        self.optional(field)?.ok_or(Refused::Invalid { field })
    }

    fn optional(&self, field: &'static str) -> Result<Option<String>, Refused> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Refused::Invalid { field }),
        }
    }

    /// A finite number, or its digits as text.
    fn double(&self, field: &'static str) -> Result<Option<f64>, Refused> {
        let number = match self.0.get(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(digits)) => digits.trim_ascii().parse().ok(),
            Some(_) => None,
        };
        match number {
            Some(number) if f64::is_finite(number) => Ok(Some(number)),
            Some(_) | None => Err(Refused::Invalid { field }),
        }
    }

    /// Seconds, bytes: not negative, cut below one, at most what the wire can carry.
    fn integer(&self, field: &'static str) -> Result<Option<i32>, Refused> {
        let Some(number) = self.double(field)? else { return Ok(None) };
        let whole = integer(number.trunc()).and_then(|whole| i32::try_from(whole).ok());
        match whole {
            Some(whole) if whole >= 0 => Ok(Some(whole)),
            Some(_) | None => Err(Refused::Invalid { field }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::proto::message_body::MessageConfig;
    use super::super::proto::{CommSyncUl, MSync};
    use super::super::{meta, recorded};
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("{value} is no object") };
        object
    }

    /// A message with one content, as alice writes to bob.
    fn of(content: Content) -> MessageBody {
        let body = MessageBody { contents: vec![content], ..MessageBody::default() };
        address(body, BodyType::Chat, "alice", "bob")
    }

    fn listed(content: Content) -> Value {
        to_json(&of(content))["bodies"].clone()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn attachment(of: ContentType) -> Content {
        Content {
            r#type: Some(of.into()),
            remote_path: some("https://im.example/acme/demo/chatfiles/1"),
            secret_key: some("s"),
            display_name: some("cat.png"),
            file_length: Some(9),
            ..Content::default()
        }
    }

    #[test]
    fn a_recorded_text_is_shown_with_its_attributes() {
        let envelope = MSync::decode(recorded::bytes(recorded::SEND)).unwrap();
        let sync = CommSyncUl::decode(envelope.payload.unwrap()).unwrap();
        let body = meta::SentMeta::read(&sync.meta.unwrap()).unwrap().body().unwrap();
        let payload = json!({
            "bodies": [{"type": "txt", "msg": "hello 世界"}],
            "ext": {"s": "x", "n": 3, "f": 1.5, "b": true, "o": {"a": [1]}},
            "from": "alice",
            "to": "bob",
            "type": "chat",
        });
        assert_eq!(Value::Object(to_json(&body)), payload);
        assert_eq!(key_values(payload["ext"].as_object().unwrap()), body.ext);
    }

    #[test]
    fn attachments_have_the_keys_of_their_kind() {
        let url = "https://im.example/acme/demo/chatfiles/1";
        let file = attachment(ContentType::File);
        assert_eq!(
            listed(file),
            json!([{"type": "file", "url": url, "secret": "s", "filename": "cat.png", "file_length": 9}])
        );
        let image = Content {
            size: Some(Size { width: Some(640.0), height: Some(480.5) }),
            thumbnail_remote_path: some("t"),
            thumbnail_secret_key: some("ts"),
            sub_type: Some(SubType::SubGif.into()),
            ..attachment(ContentType::Image)
        };
        assert_eq!(
            listed(image),
            json!([{
                "type": "img", "url": url, "secret": "s", "filename": "cat.png", "file_length": 9,
                "size": {"width": 640, "height": 480.5}, "thumb": "t", "thumb_secret": "ts", "subType": "sub_gif",
            }])
        );
        let video =
            Content { duration: Some(7), thumbnail_remote_path: some("t"), ..attachment(ContentType::Video) };
        assert_eq!(
            listed(video),
            json!([{
                "type": "video", "url": url, "secret": "s", "filename": "cat.png", "file_length": 9,
                "length": 7, "thumb": "t", "thumb_secret": "",
            }])
        );
        let voice = Content { duration: Some(7), ..attachment(ContentType::Voice) };
        assert_eq!(
            listed(voice),
            json!([{
                "type": "audio", "url": url, "secret": "s", "filename": "cat.png", "file_length": 9, "length": 7,
            }])
        );
    }

    #[test]
    fn places_commands_and_combined_messages_have_theirs() {
        let place = Content {
            r#type: Some(ContentType::Location.into()),
            latitude: Some(39.916_668),
            longitude: Some(116.0),
            address: some("a"),
            building_name: some("b"),
            ..Content::default()
        };
        assert_eq!(
            listed(place),
            json!([{"type": "loc", "lat": 39.916_668, "lng": 116, "addr": "a", "buildingName": "b"}])
        );
        let command = Content {
            r#type: Some(ContentType::Command.into()),
            action: some("TypingBegin"),
            ..Content::default()
        };
        assert_eq!(listed(command), json!([{"type": "cmd", "action": "TypingBegin"}]));
        let combine = Content {
            sub_type: Some(0),
            text: some("old client"),
            title: some("chat"),
            summary: some("a: hi"),
            combine_level: Some(1),
            ..attachment(ContentType::Text)
        };
        assert_eq!(
            listed(combine),
            json!([{
                "type": "txt", "subType": "sub_combine", "msg": "old client", "title": "chat", "summary": "a: hi",
                "url": "https://im.example/acme/demo/chatfiles/1", "secret": "s", "filename": "cat.png",
                "file_length": 9, "combineLevel": 1,
            }])
        );
    }

    #[test]
    fn custom_attributes_are_a_list() {
        let custom = Content {
            r#type: Some(ContentType::Custom.into()),
            custom_event: some("gift"),
            custom_exts: key_values(&object(json!({"name": "flower", "size": "16"}))),
            ..Content::default()
        };
        let list = json!([{"name": "flower"}, {"size": "16"}]);
        assert_eq!(listed(custom), json!([{"type": "custom", "customEvent": "gift", "customExts": list}]));
    }

    #[test]
    fn what_is_odd_still_shows() {
        assert_eq!(
            listed(Content { r#type: Some(99), text: some("t"), ..Content::default() }),
            json!([{
                "type": "txt", "msg": "t",
            }])
        );
        let bare = to_json(&MessageBody::default());
        assert_eq!(
            Value::Object(bare),
            json!({"bodies": [{"type": "txt", "msg": ""}], "ext": {}, "from": "", "to": "", "type": "chat"})
        );
    }

    #[test]
    fn groups_receipts_meta_and_streams_come_along() {
        let mut body = MessageBody {
            meta: some("{\"edit_msg\":{\"count\":1}}"),
            msg_config: Some(MessageConfig { allow_group_ack: Some(true) }),
            stream: Some(Stream { stream_status: Some(1), ..Stream::default() }),
            ..of(Content { sub_type: Some(10), ..Content::default() })
        };
        body.r#type = Some(BodyType::Groupchat.into());
        let payload = to_json(&body);
        assert_eq!(payload["type"], "groupchat");
        assert_eq!(payload["meta"], json!({"edit_msg": {"count": 1}}));
        assert_eq!(payload["msgConfig"], json!({"allowGroupAck": true}));
        assert_eq!(payload["bodies"], json!([{"type": "txt", "msg": "", "subType": "sub_stream"}]));
        assert_eq!(payload["stream"]["stream_status"], "stream_start_completed");
        for nothing in ["", "[]", "null", "{"] {
            body.meta = some(nothing);
            assert!(!to_json(&body).contains_key("meta"), "{nothing}");
        }
    }

    #[test]
    fn values_are_typed_as_the_sdk_does() {
        for (value, of) in [
            (json!(true), ValueType::Bool),
            (json!(3), ValueType::Int),
            (json!(-9_007_199_254_740_993_i64), ValueType::Int),
            (json!(1.5), ValueType::Double),
            (json!(1e300), ValueType::Double),
            (json!("x"), ValueType::String),
            (json!({"a": [1]}), ValueType::JsonString),
            (json!([]), ValueType::JsonString),
            (json!(null), ValueType::JsonString),
        ] {
            let pair = key_value("k", &value);
            assert_eq!(pair.r#type, Some(of.into()), "{value}");
            assert_eq!(json_of(&pair), value);
        }
        assert_eq!(key_value("k", &json!(3.0)), key_value("k", &json!(3)));
    }

    #[test]
    fn values_of_other_clients_are_read() {
        let pair = |of: Option<ValueType>, value| KeyValue {
            key: None,
            r#type: of.map(i32::from),
            value: Some(value),
        };
        for (pair, json) in [
            (pair(Some(ValueType::Uint), Typed::VarintValue(4_000_000_000)), json!(4_000_000_000_u64)),
            (pair(Some(ValueType::Llint), Typed::VarintValue(-1)), json!(-1)),
            (pair(Some(ValueType::Float), Typed::FloatValue(1.1)), json!(1.1)),
            (pair(Some(ValueType::Double), Typed::DoubleValue(f64::INFINITY)), json!(null)),
            (pair(Some(ValueType::JsonString), Typed::StringValue("{no".to_owned())), json!("{no")),
            (pair(Some(ValueType::Bool), Typed::StringValue("yes".to_owned())), json!("yes")),
            (pair(None, Typed::VarintValue(1)), json!(1)),
        ] {
            assert_eq!(json_of(&pair), json, "{pair:?}");
        }
        let empty = KeyValue { r#type: Some(ValueType::String.into()), ..KeyValue::default() };
        assert_eq!(json_of(&empty), json!(""));
        // Deeper than the parser goes.
        let deep = "[".repeat(10_000);
        let pair = pair(Some(ValueType::JsonString), Typed::StringValue(deep.clone()));
        assert_eq!(json_of(&pair), json!(deep));
    }

    fn posted(request: Value) -> Result<MessageBody, Refused> {
        from_rest(&object(request), 5_000)
    }

    #[test]
    fn what_back_ends_post_is_what_lists_show() {
        for (kind, body) in [
            ("txt", json!({"msg": "hi"})),
            (
                "img",
                json!({
                    "url": "u", "secret": "", "filename": "", "file_length": 0, "size": {"width": 1, "height": 2},
                    "thumb": "t", "thumb_secret": "x", "subType": "sub_gif",
                }),
            ),
            ("audio", json!({"url": "u", "secret": "", "filename": "", "file_length": 0, "length": 3})),
            (
                "video",
                json!({
                    "url": "u", "secret": "s", "filename": "f", "file_length": 58_103, "length": 3, "thumb": "t",
                    "thumb_secret": "x", "size": {"width": 1, "height": 2},
                }),
            ),
            ("file", json!({"url": "u", "secret": "", "filename": "", "file_length": 1})),
            ("loc", json!({"lat": 39.9, "lng": -116.5, "addr": "a", "buildingName": "b"})),
            ("cmd", json!({"action": "a", "param": {"k": [1]}})),
            ("custom", json!({"customEvent": "e", "customExts": [{"a": "1"}, {"b": "2"}]})),
        ] {
            let message = posted(json!({"type": kind, "body": body, "ext": {"k": null}})).unwrap();
            let payload = to_json(&message);
            let mut shown = payload["bodies"][0].clone();
            assert_eq!(shown["type"], kind);
            shown.as_object_mut().unwrap().remove("type");
            assert_eq!(shown, body);
            assert_eq!(payload["ext"], json!({"k": null}));
        }
        let combine = json!({
            "msg": "m", "subType": "sub_combine", "title": "t", "summary": "s", "url": "u", "combineLevel": 2,
        });
        let message = posted(json!({"type": "txt", "body": combine})).unwrap();
        assert_eq!(Kind::of_content(&message.contents[0]), Some(Kind::Combine));
    }

    #[test]
    fn other_spellings_are_taken() {
        let first = |request| posted(request).unwrap().contents.remove(0);
        let place = first(json!({"type": "loc", "body": {"lat": "39.9", "lng": " 116 ", "addr": ""}}));
        assert_eq!((place.latitude, place.longitude), (Some(39.9), Some(116.0)));
        let voice = first(json!({"type": "audio", "body": {"url": "u", "Length": 10.7}}));
        assert_eq!(voice.duration, Some(10));
        let custom = first(json!({"type": "custom", "body": {"customExts": {"a": 1, "b": true, "c": null}}}));
        let texts: Vec<Value> = custom.custom_exts.iter().map(json_of).collect();
        assert_eq!(texts, ["1", "true", "null"]);
    }

    #[test]
    fn refusals_have_the_documented_texts() {
        let invalid = "Request body is invalid. Please check body is correct.";
        let many: Map<String, Value> = (0..17).map(|n| (n.to_string(), json!("x"))).collect();
        for (request, error, description) in [
            (json!({"body": {"msg": ""}}), "message_send_error", "param type can't be empty"),
            (json!({"type": "", "body": {"msg": ""}}), "message_send_error", "param type can't be empty"),
            (json!({"type": "txt"}), "message_send_error", "param body can't be empty"),
            (json!({"type": "txt", "body": {}}), "message_send_error", "param body can't be empty"),
            (
                json!({"type": "txt", "body": {"msg": ""}, "ext": null}),
                "message_send_error",
                "param ext must be JSONObject",
            ),
            (
                json!({"type": "txt", "body": {"msg": "x".repeat(5_000)}}),
                "message_send_error",
                "message is too large",
            ),
            (json!({"type": 1, "body": {"msg": ""}}), "invalid_request_body", invalid),
            (json!({"type": "txt", "body": "hi"}), "invalid_request_body", invalid),
            (json!({"type": "txt", "body": {"text": "hi"}}), "invalid_request_body", invalid),
            (json!({"type": "txt", "body": {"msg": 1}}), "invalid_request_body", invalid),
            (json!({"type": "poke", "body": {"msg": ""}}), "invalid_request_body", invalid),
            (json!({"type": "img", "body": {"url": ""}}), "invalid_request_body", invalid),
            (json!({"type": "img", "body": {"url": "u", "size": 3}}), "invalid_request_body", invalid),
            (
                json!({"type": "file", "body": {"url": "u", "file_length": -1}}),
                "invalid_request_body",
                invalid,
            ),
            (json!({"type": "audio", "body": {"url": "u", "length": 1e12}}), "invalid_request_body", invalid),
            (
                json!({"type": "loc", "body": {"lat": "NaN", "lng": 1, "addr": ""}}),
                "invalid_request_body",
                invalid,
            ),
            (json!({"type": "cmd", "body": {"action": "a", "param": 1}}), "invalid_request_body", invalid),
            (json!({"type": "custom", "body": {"customEvent": "a b"}}), "invalid_request_body", invalid),
            (json!({"type": "custom", "body": {"customExts": {"a": []}}}), "invalid_request_body", invalid),
            (json!({"type": "custom", "body": {"customExts": [1]}}), "invalid_request_body", invalid),
            (json!({"type": "custom", "body": {"customExts": many}}), "invalid_request_body", invalid),
        ] {
            let refused = posted(request.clone()).unwrap_err();
            assert_eq!((refused.error(), refused.to_string().as_str()), (error, description), "{request}");
        }
    }

    #[test]
    fn words_and_kinds_go_together() {
        for word in ["txt", "img", "video", "loc", "audio", "file", "cmd", "custom", "combine"] {
            assert_eq!(Kind::from_word(word).map(Kind::word), Some(word));
        }
        assert_eq!(Kind::from_word("TXT"), None);
        assert_eq!(Kind::of(8, None), Some(Kind::Combine));
        assert_eq!(Kind::of(0, Some(10)), Some(Kind::Text));
        assert_eq!(Kind::of(1, Some(0)), Some(Kind::Image));
        assert_eq!(Kind::of(9, None), None);
    }

    fn json_values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // The parser is exact for short numbers only.
            any::<i32>().prop_map(|eighths| double_json(f64::from(eighths) / 8.0)),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in json_values()) {
            let pair = key_value("k", &value);
            let wire = KeyValue::decode(pair.encode_to_vec().as_slice()).unwrap();
            prop_assert_eq!(json_of(&wire), value);
        }

        #[test]
        fn any_body_shows(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(body) = MessageBody::decode(bytes.as_slice()) {
                let payload = to_json(&body);
                prop_assert!(payload["bodies"][0].is_object() && payload["ext"].is_object());
            }
        }

        #[test]
        fn any_request_is_answered(kind in "txt|img|audio|video|file|loc|cmd|custom|.{0,4}", value in json_values()) {
            let fields = ["msg", "url", "size", "length", "lat", "lng", "addr", "action", "param", "customEvent", "customExts"];
            for field in fields {
                let mut body = object(json!({"msg": "m", "url": "u", "lat": 1, "lng": 2, "addr": "a", "action": "b"}));
                body.insert(field.to_owned(), value.clone());
                let request = json!({"type": kind, "body": body, "ext": value});
                if let Ok(message) = from_rest(&object(request), 4_000) {
                    let shown = to_json(&message);
                    let mut again = shown["bodies"][0].clone();
                    // An event that was not given shows as an empty one, which can't be posted.
                    again.as_object_mut().unwrap().retain(|key, value| key != "customEvent" || value != "");
                    let again = json!({"type": kind, "body": again, "ext": shown["ext"]});
                    let again = to_json(&from_rest(&object(again), 40_000).unwrap());
                    prop_assert_eq!(again, shown);
                }
            }
        }
    }
}
