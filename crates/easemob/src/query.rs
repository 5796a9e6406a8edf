//! What REST calls ask for: query strings, pages, cursors, and stretches of history.
//!
//! Pure functions. SDKs paste values into addresses unescaped, so a query string is read leniently,
//! while what it says is checked: a number out of its range is refused, not guessed at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use posthouse_core::id::{ClientId, ConversationId, MessageId};
use posthouse_core::listing::ListPlace;
use posthouse_core::message::{BodyKind, Bound, Direction, HistoryQuery, KindFilter};
use posthouse_core::time::Timestamp;
use serde_json::{Map, Value};

use crate::inbound;
use crate::wire::bodies::Kind;
use crate::wire::jid::{CONFERENCE_DOMAIN, PEOPLE_DOMAIN};

/// Messages of one page of history that names no size.
const HISTORY_PAGE_DEFAULT: usize = 20;
/// The most messages of one page of history; larger wishes are granted as this.
pub const HISTORY_PAGE_MAX: usize = 50;

// ---- query strings ----------------------------------------------------------------------------------

/// A query string. Of several values for one name the first counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query(Vec<(String, String)>);

/// A parameter that can't be what it has to be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadParameter {
    /// No whole number, or none at all where one is needed.
    #[error("{name} must be a whole number")]
    Number {
        /// Its name.
        name: &'static str,
    },
    /// A number outside its range.
    #[error("{name} must be from {min} to {max}")]
    Range {
        /// Its name.
        name: &'static str,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// No cursor of this server's, or of another list.
    #[error("cursor is invalid")]
    Cursor,
}

impl Query {
    /// Reads the part of an address behind `?`, also with empty parts as in `list?&limit=1&&resource=a`.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        let parts = text.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let pair = |part: &str| match part.split_once('=') {
            Some((name, value)) => (decode(name), decode(value)),
            None => (decode(part), String::new()),
        };
        Self(parts.map(pair).collect())
    }

    /// The value of `name`; `None` if it is absent or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether `name` was said at all.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Whether `name` is `true`.
    #[must_use]
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Whether `name` is `false`.
    #[must_use]
    pub fn is_false(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("false"))
    }

    /// The whole number called `name`; `None` if it is absent or empty.
    pub fn number(&self, name: &'static str) -> Result<Option<u64>, BadParameter> {
        self.get(name).map(|text| digits(text).ok_or(BadParameter::Number { name })).transpose()
    }

    /// A page size that is granted as `max` where more is asked for.
    pub fn clamped(&self, name: &'static str, default: usize, max: usize) -> Result<usize, BadParameter> {
        let Some(wish) = self.number(name)? else { return Ok(default) };
        Ok(usize::try_from(wish).unwrap_or(usize::MAX).clamp(1, max))
    }

    /// A number from 1 to `max`, and nothing else.
    pub fn within(
        &self,
        name: &'static str,
        default: Option<usize>,
        max: usize,
    ) -> Result<usize, BadParameter> {
        let Some(text) = self.get(name) else { return default.ok_or(BadParameter::Number { name }) };
        let refused = match text.strip_prefix('-') {
            Some(positive) if digits(positive).is_some() => BadParameter::Range { name, min: 1, max },
            Some(_) | None => BadParameter::Number { name },
        };
        let number = digits(text).ok_or(refused)?;
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if (1..=max).contains(&number) { Ok(number) } else { Err(BadParameter::Range { name, min: 1, max }) }
    }

    /// The query as answers echo it: every value in a list of texts.
    #[must_use]
    pub fn params(&self) -> Map<String, Value> {
        self.0.iter().map(|(name, value)| (name.clone(), vec![value.as_str()].into())).collect()
    }
}

/// `text` without percent escapes. What is no escape stays as it is, also `+`; bytes that are no UTF-8
/// become question marks in diamonds, which no name or id has.
#[must_use]
pub fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let nibble = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = nibble(at + 1).zip(nibble(at + 2)).filter(|_| *byte == b'%');
        match escaped.map(|(high, low)| u8::try_from(high << 4 | low)) {
            Some(Ok(escaped)) => {
                decoded.push(escaped);
                at += 3;
            }
            Some(Err(_)) | None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A number written in digits alone; one too large to be held counts as the largest.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

// ---- cursors ----------------------------------------------------------------------------------------

/// Where the next page of a list begins. Its text can stand in an address unescaped, as SDKs put it
/// there, and holds nothing secret: it is only a place in a list that its reader may see anyway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cursor {
    /// After this line of a conversation list.
    Place(ListPlace),
    /// After this number, or so many.
    Number(u64),
    /// After this client.
    Client(ClientId),
}

impl Cursor {
    /// The text that SDKs hand back.
    #[must_use]
    pub fn text(&self) -> String {
        let plain = match self {
            Self::Place(place) => format!("p{}.{}", place.at.0, place.conversation.as_u64()),
            Self::Number(number) => format!("n{number}"),
            Self::Client(client) => format!("c{client}"),
        };
        URL_SAFE_NO_PAD.encode(plain)
    }

    /// Reads [`Self::text`].
    pub fn parse(text: &str) -> Result<Self, BadParameter> {
        Self::read(text).filter(|cursor| cursor.text() == text).ok_or(BadParameter::Cursor)
    }

    /// The place in a conversation list; `None` is its beginning.
    pub fn place(text: Option<&str>) -> Result<Option<ListPlace>, BadParameter> {
        match Self::given(text)? {
            None => Ok(None),
            Some(Self::Place(place)) => Ok(Some(place)),
            Some(Self::Number(_) | Self::Client(_)) => Err(BadParameter::Cursor),
        }
    }

    /// The number; 0 is the beginning.
    pub fn number(text: Option<&str>) -> Result<u64, BadParameter> {
        match Self::given(text)? {
            None => Ok(0),
            Some(Self::Number(number)) => Ok(number),
            Some(Self::Place(_) | Self::Client(_)) => Err(BadParameter::Cursor),
        }
    }

    /// The client; `None` is the beginning.
    pub fn client(text: Option<&str>) -> Result<Option<ClientId>, BadParameter> {
        match Self::given(text)? {
            None => Ok(None),
            Some(Self::Client(client)) => Ok(Some(client)),
            Some(Self::Place(_) | Self::Number(_)) => Err(BadParameter::Cursor),
        }
    }

    /// A cursor, unless the text is what JavaScript makes of none.
    fn given(text: Option<&str>) -> Result<Option<Self>, BadParameter> {
        text.filter(|text| !["", "undefined", "null"].contains(text)).map(Self::parse).transpose()
    }

    fn read(text: &str) -> Option<Self> {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        if let Some(place) = plain.strip_prefix('p') {
            let (at, conversation) = place.split_once('.')?;
            let conversation = ConversationId::from_u64(conversation.parse().ok()?)?;
            Some(Self::Place(ListPlace { at: Timestamp(at.parse().ok()?), conversation }))
        } else if let Some(number) = plain.strip_prefix('n') {
            Some(Self::Number(number.parse().ok()?))
        } else {
            Some(Self::Client(ClientId::parse(plain.strip_prefix('c')?).ok()?))
        }
    }
}

// ---- pages of the old conversation list -------------------------------------------------------------

/// The largest page of the old conversation list, as the hosted cloud has it.
pub const CONVERSATIONS_PAGE_MAX: usize = 20;
/// No list has so many pages.
const PAGES_MAX: usize = u32::MAX as usize;

/// Size and number (from 0) of a page of the old conversation list: both must be said, and be in their
/// range. The hosted cloud documents the ranges and no error.
pub fn conversations_page(query: &Query) -> Result<(usize, usize), BadParameter> {
    let size = query.within("pageSize", None, CONVERSATIONS_PAGE_MAX)?;
    let number = query.within("pageNum", None, usize::MAX).map_err(|bad| match bad {
        BadParameter::Range { name, min, .. } => BadParameter::Range { name, min, max: PAGES_MAX },
        BadParameter::Number { .. } | BadParameter::Cursor => bad,
    })?;
    Ok((size, number.min(PAGES_MAX) - 1))
}

// ---- history ----------------------------------------------------------------------------------------

/// Whose history, as a `queue` names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// With this client.
    Client(ClientId),
    /// In this group.
    Group(ConversationId),
    /// With or in something that can't exist.
    Nowhere,
}

/// A page of history that somebody asks for (client 7.3, rest 3.4.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryAsked {
    /// Where it was said.
    pub said: Said,
    /// Which way to go.
    pub direction: Direction,
    /// Begin after this message.
    pub after: Option<MessageId>,
    /// Only what was said at or after this time.
    pub since: Option<Timestamp>,
    /// Only what was said at or before this time.
    pub until: Option<Timestamp>,
    /// Only these kinds; `None` is all of them.
    pub kinds: Option<Vec<KindFilter>>,
    /// Only what this client said; `None` within is a client that can't exist.
    pub sender: Option<Option<ClientId>>,
    /// At most so many.
    pub limit: usize,
}

/// A field of a request's body that can't be what it has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadField(pub &'static str);

impl HistoryAsked {
    /// Reads the body of a request for history.
    pub fn parse(body: &Map<String, Value>, app_key: &str) -> Result<Self, BadField> {
        let queue = match body.get("queue") {
            Some(Value::String(queue)) if !queue.is_empty() => queue.as_str(),
            Some(_) | None => return Err(BadField("queue")),
        };
        let forward = match body.get("is_positive") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(forward)) => *forward,
            Some(_) => return Err(BadField("is_positive")),
        };
        let is_group = body.get("isGroup").and_then(Value::as_bool).unwrap_or_default();
        let limit = match body.get("pull_number") {
            None | Some(Value::Null) => HISTORY_PAGE_DEFAULT,
            Some(wish) => {
                let wish = whole(wish).ok_or(BadField("pull_number"))?;
                usize::try_from(wish).unwrap_or_default().clamp(1, HISTORY_PAGE_MAX)
            }
        };
        Ok(Self {
            said: said(queue, app_key, is_group)?,
            direction: if forward { Direction::Forward } else { Direction::Backward },
            after: start(body.get("start"))?,
            since: time(body.get("startTime"), BadField("startTime"))?,
            until: time(body.get("endTime"), BadField("endTime"))?,
            kinds: kinds(body.get("msgType"))?,
            sender: match body.get("userId") {
                None | Some(Value::Null) => None,
                Some(Value::String(name)) if name.is_empty() => None,
                Some(Value::String(name)) => Some(client_of(name)),
                Some(_) => return Err(BadField("userId")),
            },
            limit,
        })
    }

    /// The domain's query for it, in `conversation`; `None` if nothing can match.
    #[must_use]
    pub fn query(&self, conversation: ConversationId, since_joined: bool) -> Option<HistoryQuery> {
        let at = |timestamp| Bound { timestamp, id: None, included: true };
        let (since, until) = (self.since.map(at), self.until.map(at));
        let (start, end) = match self.direction {
            Direction::Forward => (since, until),
            Direction::Backward => (until, since),
        };
        if self.kinds.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let sender = match &self.sender {
            None => None,
            Some(sender) => Some(sender.clone()?),
        };
        Some(HistoryQuery {
            conversation,
            direction: self.direction,
            start,
            end,
            after: self.after,
            kinds: self.kinds.clone().unwrap_or_default(),
            sender,
            without_recalled: true,
            since_joined,
            in_room: false,
            limit: self.limit,
        })
    }
}

/// The client called `name` on this wire; `None` for what is nobody's name.
#[must_use]
pub fn client_of(name: &str) -> Option<ClientId> {
    inbound::client_of(name).ok()
}

/// The group with this number; `None` for what is none's.
#[must_use]
pub fn group_of(number: &str) -> Option<ConversationId> {
    inbound::group_id(number).ok()
}

/// `bob@easemob.com`, `1001@conference.easemob.com`, also with the appKey before it.
fn said(queue: &str, app_key: &str, is_group: bool) -> Result<Said, BadField> {
    let (owner, domain) = queue.split_once('@').unwrap_or((queue, PEOPLE_DOMAIN));
    let owner = owner.strip_prefix(app_key).and_then(|rest| rest.strip_prefix('_')).unwrap_or(owner);
    if domain == CONFERENCE_DOMAIN || is_group {
        Ok(group_of(owner).map_or(Said::Nowhere, Said::Group))
    } else if domain == PEOPLE_DOMAIN {
        Ok(client_of(owner).map_or(Said::Nowhere, Said::Client))
    } else {
        Err(BadField("queue"))
    }
}

/// A message to begin after. Apart from the documented -1, SDKs say other things for "from the end".
fn start(value: Option<&Value>) -> Result<Option<MessageId>, BadField> {
    let wrong = BadField("start");
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(wrong),
    };
    match text.as_str() {
        "" | "-1" | "0" | "undefined" | "null" => Ok(None),
        digits => {
            let number = digits.parse().map_err(|_| wrong)?;
            MessageId::from_u64(number).map(Some).ok_or(wrong)
        }
    }
}

/// A time in ms; -1 and 0 are no bound, as in native SDKs.
fn time(value: Option<&Value>, wrong: BadField) -> Result<Option<Timestamp>, BadField> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(value) => match whole(value) {
            None => Err(wrong),
            Some(ms) if ms <= 0 => Ok(None),
            Some(ms) => Ok(Some(Timestamp(ms))),
        },
    }
}

/// A list of words, as one text or as a list. Words that nobody knows match nothing.
fn kinds(value: Option<&Value>) -> Result<Option<Vec<KindFilter>>, BadField> {
    let wrong = BadField("msgType");
    let words: Vec<&str> = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(words)) => words.split(',').collect(),
        Some(Value::Array(words)) => words.iter().map(Value::as_str).collect::<Option<_>>().ok_or(wrong)?,
        Some(_) => return Err(wrong),
    };
    let words: Vec<&str> = words.into_iter().map(str::trim).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Ok(None);
    }
    Ok(Some(words.into_iter().filter_map(Kind::from_word).map(filter_of).collect()))
}

const fn filter_of(kind: Kind) -> KindFilter {
    match kind {
        Kind::Text => KindFilter::Exactly(BodyKind::Text),
        Kind::Image => KindFilter::Exactly(BodyKind::Image),
        Kind::Video => KindFilter::Exactly(BodyKind::Video),
        Kind::Location => KindFilter::Exactly(BodyKind::Location),
        Kind::Voice => KindFilter::Exactly(BodyKind::Audio),
        Kind::File => KindFilter::Exactly(BodyKind::File),
        Kind::Command => KindFilter::Exactly(BodyKind::Command),
        Kind::Custom => KindFilter::AnyCustom,
        Kind::Combine => KindFilter::Exactly(BodyKind::Combined),
    }
}

/// A whole number, also as text.
#[must_use]
pub fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const APP_KEY: &str = "acme#shop_1";

    fn query(text: &str) -> Query {
        Query::parse(Some(text))
    }

    fn client(id: &str) -> ClientId {
        ClientId::parse(id).unwrap()
    }

    fn asked(body: Value) -> Result<HistoryAsked, BadField> {
        let Value::Object(body) = body else { panic!("{body} is no object") };
        HistoryAsked::parse(&body, APP_KEY)
    }

    #[test]
    fn query_strings_are_read_as_sdks_write_them() {
        let odd = query("&limit=20&cursor=&&resource=webim_1&msgIdList=1%2C2&x&mark=👍+1&limit=3");
        assert_eq!(odd.get("limit"), Some("20"));
        assert_eq!(odd.get("cursor"), None);
        assert!(odd.has("cursor") && odd.has("x") && !odd.has("y"));
        assert_eq!(odd.get("resource"), Some("webim_1"));
        assert_eq!(odd.get("msgIdList"), Some("1,2"));
        assert_eq!(odd.get("mark"), Some("👍+1"));
        assert_eq!(Query::parse(None), Query::default());
        assert_eq!(Value::Object(query("limit=2&a=").params()), json!({"limit": ["2"], "a": [""]}));
    }

    #[test]
    fn escapes_are_decoded_and_what_is_none_stays() {
        for (text, plain) in [
            ("a%2Cb", "a,b"),
            ("%e6%b1%a4", "汤"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%ff", "\u{fffd}"),
            ("%25", "%"),
        ] {
            assert_eq!(decode(text), plain);
        }
    }

    #[test]
    fn pages_of_conversations_must_be_in_their_range() {
        let page = |text: &str| conversations_page(&query(text));
        assert_eq!(page("pageNum=1&pageSize=20"), Ok((20, 0)));
        assert_eq!(page("pageSize=1&pageNum=7"), Ok((1, 6)));
        assert_eq!(page("pageSize=20&pageNum=99999999999999999999999"), Ok((20, PAGES_MAX - 1)));
        for refused in [
            "",
            "pageNum=1",
            "pageSize=20",
            "pageNum=1&pageSize=21",
            "pageNum=1&pageSize=0",
            "pageNum=1&pageSize=-1",
            "pageNum=0&pageSize=20",
            "pageNum=-1&pageSize=20",
            "pageNum=x&pageSize=20",
            "pageNum=1&pageSize=NaN",
            "pageNum=1&pageSize=1.5",
            "pageNum=1&pageSize=+5",
            "pageNum=1&pageSize=",
            "pageNum=undefined&pageSize=20",
            "pageNum=1&pageSize=99999999999999999999999",
        ] {
            assert!(page(refused).is_err(), "{refused}");
        }
        let words = page("pageNum=1&pageSize=21").unwrap_err().to_string();
        assert_eq!(words, "pageSize must be from 1 to 20");
        for number in ["0", "-1"] {
            let words = page(&format!("pageNum={number}&pageSize=20")).unwrap_err().to_string();
            assert_eq!(words, "pageNum must be from 1 to 4294967295");
        }
    }

    #[test]
    fn page_sizes_are_clamped_or_refused_as_the_call_says() {
        assert_eq!(query("limit=5000").clamped("limit", 10, 100), Ok(100));
        assert_eq!(query("limit=0").clamped("limit", 10, 100), Ok(1));
        assert_eq!(query("limit=").clamped("limit", 10, 100), Ok(10));
        assert!(query("limit=a").clamped("limit", 10, 100).is_err());
        assert_eq!(
            query("limit=51").within("limit", Some(20), 50),
            Err(BadParameter::Range { name: "limit", min: 1, max: 50 })
        );
        assert_eq!(query("").within("limit", Some(20), 50), Ok(20));
        assert_eq!(
            query("limit=-3").within("limit", Some(20), 50),
            Err(BadParameter::Range { name: "limit", min: 1, max: 50 })
        );
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let cursor = Cursor::Number(7).text();
        assert_eq!(Cursor::number(Some(&cursor)), Ok(7));
        assert_eq!(Cursor::place(Some(&cursor)), Err(BadParameter::Cursor));
        assert_eq!(Cursor::client(Some(&cursor)), Err(BadParameter::Cursor));
        assert_eq!(Cursor::number(None), Ok(0));
        for beginning in ["", "undefined", "null"] {
            assert_eq!(Cursor::number(Some(beginning)), Ok(0));
            assert_eq!(Cursor::place(Some(beginning)), Ok(None));
            assert_eq!(Cursor::client(Some(beginning)), Ok(None));
        }
        for forged in ["x", "=", "bjA3", "cDEuMA", "undefined", "ÿ"] {
            assert_eq!(Cursor::parse(forged), Err(BadParameter::Cursor), "{forged}");
        }
    }

    #[test]
    fn the_first_page_of_history_has_many_spellings() {
        for start in
            [json!(-1), json!("-1"), json!(0), json!("0"), json!(""), json!(null), json!("undefined")]
        {
            let asked = asked(json!({"queue": "bob@easemob.com", "start": start, "end": -1})).unwrap();
            assert_eq!((asked.after, asked.limit), (None, 20), "{start}");
        }
        for start in [json!("x"), json!(1.5), json!([]), json!("-2"), json!("99999999999999999999")] {
            assert_eq!(asked(json!({"queue": "bob@easemob.com", "start": start})), Err(BadField("start")));
        }
        for start in [json!("1029457500870543736"), json!(1_029_457_500_870_543_736_u64)] {
            let asked = asked(json!({"queue": "bob@easemob.com", "start": start})).unwrap();
            assert_eq!(asked.after.map(MessageId::as_u64), Some(1_029_457_500_870_543_736));
        }
    }

    #[test]
    fn a_queue_names_a_person_or_a_group() {
        let said = |queue: &str| asked(json!({"queue": queue})).map(|asked| asked.said);
        let group = ConversationId::from_u64(1001).unwrap();
        assert_eq!(said("Bob@easemob.com"), Ok(Said::Client(client("bob"))));
        assert_eq!(said("acme#shop_1_bob_2@easemob.com"), Ok(Said::Client(client("bob_2"))));
        assert_eq!(said("1001@conference.easemob.com"), Ok(Said::Group(group)));
        assert_eq!(said("acme#shop_1_1001@conference.easemob.com"), Ok(Said::Group(group)));
        assert_eq!(said("bob"), Ok(Said::Client(client("bob"))));
        for nowhere in
            ["@easemob.com", "a b@easemob.com", "x@conference.easemob.com", "0@conference.easemob.com"]
        {
            assert_eq!(said(nowhere), Ok(Said::Nowhere), "{nowhere}");
        }
        assert_eq!(said("bob@example.com"), Err(BadField("queue")));
        assert_eq!(asked(json!({})), Err(BadField("queue")));
        let old = asked(json!({"queue": "1001", "isGroup": true, "start": -1, "end": -1})).unwrap();
        assert_eq!(old.said, Said::Group(group));
    }

    #[test]
    fn a_page_of_history_is_clamped_and_filtered() {
        let conversation = ConversationId::from_u64(1001).unwrap();
        let asked = asked(json!({
            "queue": "1001@conference.easemob.com", "pull_number": 100, "is_positive": true,
            "msgType": "txt, img,custom", "startTime": 5, "endTime": "9", "userId": "Bob",
        }))
        .unwrap();
        let query = asked.query(conversation, true).unwrap();
        assert_eq!((query.limit, query.direction, query.since_joined), (50, Direction::Forward, true));
        let bound = |ms| Some(Bound { timestamp: Timestamp(ms), id: None, included: true });
        assert_eq!((query.start, query.end), (bound(5), bound(9)));
        let kinds = [
            KindFilter::Exactly(BodyKind::Text),
            KindFilter::Exactly(BodyKind::Image),
            KindFilter::AnyCustom,
        ];
        assert_eq!(query.kinds, kinds);
        assert_eq!(query.sender, Some(client("bob")));
        let backward = HistoryAsked { direction: Direction::Backward, ..asked }.query(conversation, false);
        assert_eq!(backward.map(|query| (query.start, query.end)), Some((bound(9), bound(5))));
    }

    #[test]
    fn filters_that_nothing_matches_ask_the_store_nothing() {
        let conversation = ConversationId::from_u64(7).unwrap();
        for body in [json!({"queue": "b", "msgType": "sticker"}), json!({"queue": "b", "userId": "a b"})] {
            assert_eq!(asked(body).unwrap().query(conversation, false), None);
        }
        let all = asked(json!({"queue": "b", "msgType": "", "startTime": -1, "endTime": null})).unwrap();
        let query = all.query(conversation, false).unwrap();
        assert_eq!((query.kinds, query.start, query.end), (Vec::new(), None, None));
    }

    #[test]
    fn group_numbers_have_one_spelling() {
        assert!(group_of("184524748161025").is_some());
        for none in ["", "0", "007", "-1", "+7", "1 ", "9223372036854775808", "4611686018427387905"] {
            assert_eq!(group_of(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn cursors_come_back_and_need_no_escape(at: i64, bits in 1..u64::MAX >> 1, name in ".{1,64}") {
            let conversation = ConversationId::from_u64(bits).unwrap();
            let cursors = [
                Some(Cursor::Place(ListPlace { at: Timestamp(at), conversation })),
                Some(Cursor::Number(bits)),
                ClientId::parse(&name).ok().map(Cursor::Client),
            ];
            for cursor in cursors.into_iter().flatten() {
                let text = cursor.text();
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
                prop_assert_eq!(Cursor::parse(&text), Ok(cursor));
            }
        }

        #[test]
        fn any_query_string_is_read(text in ".{0,60}") {
            let read = Query::parse(Some(&text));
            prop_assert!(read.params().len() <= text.len());
        }

        #[test]
        fn any_text_is_a_cursor_or_refused(text in ".{0,40}") {
            if let Ok(cursor) = Cursor::parse(&text) {
                prop_assert_eq!(cursor.text(), text);
            }
        }
    }
}
