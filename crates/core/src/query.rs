//! Queries for conversations: a filter, an order, a page.

use std::cmp::Ordering;

use regex::Regex;
use serde_json::Value;

use crate::attribute::lookup;
use crate::conversation::{Conversation, Kind};
use crate::id::{ClientId, ConversationId};
use crate::time::Timestamp;

/// Which conversations to find.
#[derive(Clone, Debug)]
pub struct ConversationQuery {
    /// Which to consider at all.
    pub scope: Scope,
    /// What must hold.
    pub filter: Filter,
    /// The order; empty means newest message first, then newest change first.
    pub sort: Vec<SortKey>,
    /// How many to pass over.
    pub skip: usize,
    /// How many to return at most.
    pub limit: usize,
    /// Whether to add the newest message of those the caller may read.
    pub with_last_message: bool,
}

/// What a query considers. Temporary conversations are found by id only, and by their members only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Lasting conversations that have this member.
    Member(ClientId),
    /// Lasting conversations with one of these ids, of whatever kind.
    Ids(Vec<ConversationId>),
    /// Living temporary conversations with one of these ids that have this member.
    Temporary {
        /// The ids.
        ids: Vec<ConversationId>,
        /// The member.
        member: ClientId,
    },
    /// Every lasting conversation of the app.
    All,
}

/// What must hold for a conversation.
#[derive(Clone, Debug)]
pub enum Filter {
    /// All of these. Empty: everything matches.
    All(Vec<Self>),
    /// At least one of these. Empty: nothing matches.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// This test on this field.
    Field(Field, Test),
}

/// A field of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Its id, compared as the number's text that the gateway put into [`Operand::Id`].
    Id,
    /// Its members.
    Members,
    /// Members who muted it.
    MutedBy,
    /// Its creator.
    Creator,
    /// When it was made.
    CreatedAt,
    /// When it was last changed.
    UpdatedAt,
    /// The time of its newest message.
    LastMessageAt,
    /// Whether it is a chat room.
    IsRoom,
    /// Whether the backend owns it; none does yet.
    IsService,
    /// Whether it was made unique.
    IsUnique,
    /// The hex digits of its member set.
    UniqueId,
    /// An attribute, by its keys from the top.
    Attribute(Vec<String>),
}

/// A constant in a filter.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A plain value.
    Value(Value),
    /// A point in time.
    Time(Timestamp),
    /// A conversation; `None` is an id that can't exist, which nothing equals.
    Id(Option<ConversationId>),
}

/// A test on a field.
#[derive(Clone, Debug)]
pub enum Test {
    /// Equal; on arrays: contains.
    Equal(Operand),
    /// Less than; values of different types are never less.
    Less(Operand),
    /// Less or equal.
    LessOrEqual(Operand),
    /// Greater than.
    Greater(Operand),
    /// Greater or equal.
    GreaterOrEqual(Operand),
    /// Equal to one of these.
    In(Vec<Operand>),
    /// An array that contains all of these.
    ContainsAll(Vec<Operand>),
    /// An array of exactly so many items.
    Size(usize),
    /// Present (or, with `false`, absent).
    Exists(bool),
    /// A text of at most 4 KiB in which this is found.
    Matches(Regex),
}

/// One key of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// By what.
    pub field: Field,
    /// Largest first.
    pub descending: bool,
}

/// A field's value, as the tests see it.
#[derive(Clone, Debug)]
enum Seen {
    Absent,
    Value(Value),
    Time(Timestamp),
    Id(ConversationId),
    Clients(Vec<ClientId>),
}

impl Filter {
    /// Whether it runs a user's regular expression.
    #[must_use]
    pub fn has_regex(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::has_regex),
            Self::Not(part) => part.has_regex(),
            Self::Field(_, test) => matches!(test, Test::Matches(_)),
        }
    }

    /// Whether `conversation` matches.
    #[must_use]
    pub fn matches(&self, conversation: &Conversation) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(conversation)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(conversation)),
            Self::Not(part) => !part.matches(conversation),
            Self::Field(field, test) => test.holds(&field.of(conversation)),
        }
    }
}

impl Field {
    fn of(&self, conversation: &Conversation) -> Seen {
        match self {
            Self::Id => Seen::Id(conversation.id),
            Self::Members => Seen::Clients(conversation.members.clone()),
            Self::MutedBy => Seen::Clients(conversation.muted_by.clone()),
            Self::Creator => {
                conversation.creator.as_ref().map_or(Seen::Absent, |c| Seen::Value(Value::from(c.as_str())))
            }
            Self::CreatedAt => Seen::Time(conversation.created_at),
            Self::UpdatedAt => Seen::Time(conversation.updated_at),
            Self::LastMessageAt => conversation.last_message_at.map_or(Seen::Absent, Seen::Time),
            Self::IsRoom => flag(conversation.kind == Kind::Room),
            Self::IsService => Seen::Absent,
            Self::IsUnique => flag(conversation.unique.is_some()),
            Self::UniqueId => {
                conversation.unique.map_or(Seen::Absent, |set| Seen::Value(Value::from(set.to_hex())))
            }
            Self::Attribute(path) => {
                lookup(&conversation.attributes, path).map_or(Seen::Absent, |v| Seen::Value(v.clone()))
            }
        }
    }
}

/// Flags are absent rather than false: that is how the rows that clients see are written.
fn flag(set: bool) -> Seen {
    if set { Seen::Value(Value::Bool(true)) } else { Seen::Absent }
}

impl Test {
    fn holds(&self, seen: &Seen) -> bool {
        match self {
            Self::Equal(operand) => equal(seen, operand),
            Self::Less(operand) => compare(seen, operand) == Some(Ordering::Less),
            Self::LessOrEqual(operand) => {
                matches!(compare(seen, operand), Some(Ordering::Less | Ordering::Equal))
            }
            Self::Greater(operand) => compare(seen, operand) == Some(Ordering::Greater),
            Self::GreaterOrEqual(operand) => {
                matches!(compare(seen, operand), Some(Ordering::Greater | Ordering::Equal))
            }
            Self::In(operands) => operands.iter().any(|operand| equal(seen, operand)),
            Self::ContainsAll(operands) => {
                is_array(seen) && operands.iter().all(|operand| equal(seen, operand))
            }
            Self::Size(size) => match seen {
                Seen::Clients(clients) => clients.len() == *size,
                Seen::Value(Value::Array(items)) => items.len() == *size,
                Seen::Absent | Seen::Value(_) | Seen::Time(_) | Seen::Id(_) => false,
            },
            Self::Exists(wanted) => matches!(seen, Seen::Absent) != *wanted,
            Self::Matches(regex) => match seen {
                Seen::Value(Value::String(text)) => found(regex, text),
                Seen::Value(Value::Array(items)) => {
                    let texts = items.iter().filter_map(Value::as_str);
                    texts.take(SEARCHED_ITEMS_MAX).any(|text| found(regex, text))
                }
                Seen::Clients(clients) => clients.iter().any(|client| regex.is_match(client.as_str())),
                Seen::Absent | Seen::Value(_) | Seen::Time(_) | Seen::Id(_) => false,
            },
        }
    }
}

/// The longest text that users' regular expressions are searched in, in bytes, and how many texts of a
/// list. The time of a search is the size of the expression times that of the text, so both have a
/// bound. A longer text matches nothing: a part of it might match where the whole does not.
const SEARCHED_BYTES_MAX: usize = 4_096;
const SEARCHED_ITEMS_MAX: usize = 8;

fn found(regex: &Regex, text: &str) -> bool {
    text.len() <= SEARCHED_BYTES_MAX && regex.is_match(text)
}

fn is_array(seen: &Seen) -> bool {
    matches!(seen, Seen::Clients(_) | Seen::Value(Value::Array(_)))
}

fn equal(seen: &Seen, operand: &Operand) -> bool {
    match (seen, operand) {
        // As in the document stores that clients know: an absent field equals null and false flags.
        (Seen::Absent, Operand::Value(Value::Null | Value::Bool(false))) => true,
        (Seen::Value(Value::Array(items)), Operand::Value(value)) => {
            items.iter().any(|item| same(item, value)) || same(&Value::Array(items.clone()), value)
        }
        (Seen::Value(seen), Operand::Value(value)) => same(seen, value),
        (Seen::Time(seen), Operand::Time(time)) => seen == time,
        (Seen::Id(seen), Operand::Id(Some(id))) => seen == id,
        (Seen::Clients(clients), Operand::Value(Value::String(id))) => {
            clients.iter().any(|c| c.as_str() == id)
        }
        (Seen::Clients(clients), Operand::Value(Value::Array(ids))) => {
            clients.len() == ids.len()
                && clients.iter().zip(ids).all(|(c, id)| id.as_str() == Some(c.as_str()))
        }
        _ => false,
    }
}

/// Equality that treats 1 and 1.0 as the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b) == Ordering::Equal,
        _ => a == b,
    }
}

fn compare(seen: &Seen, operand: &Operand) -> Option<Ordering> {
    match (seen, operand) {
        (Seen::Value(Value::Number(a)), Operand::Value(Value::Number(b))) => {
            Some(a.as_f64()?.total_cmp(&b.as_f64()?))
        }
        (Seen::Value(Value::String(a)), Operand::Value(Value::String(b))) => Some(a.as_str().cmp(b.as_str())),
        (Seen::Time(a), Operand::Time(b)) => Some(a.cmp(b)),
        (Seen::Id(a), Operand::Id(Some(b))) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Orders two conversations by `keys`; the ids break ties, so that pages never overlap.
#[must_use]
pub fn order(keys: &[SortKey], a: &Conversation, b: &Conversation) -> Ordering {
    let newest = [
        SortKey { field: Field::LastMessageAt, descending: true },
        SortKey { field: Field::UpdatedAt, descending: true },
    ];
    let keys = if keys.is_empty() { &newest[..] } else { keys };
    keys.iter()
        .map(|key| {
            let order = order_seen(&key.field.of(a), &key.field.of(b));
            if key.descending { order.reverse() } else { order }
        })
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.id.cmp(&b.id))
}

/// Absent before everything else, then by type, then by value.
fn order_seen(a: &Seen, b: &Seen) -> Ordering {
    match (a, b) {
        (Seen::Value(Value::Number(a)), Seen::Value(Value::Number(b))) => {
            a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0))
        }
        (Seen::Value(Value::String(a)), Seen::Value(Value::String(b))) => a.cmp(b),
        (Seen::Value(Value::Bool(a)), Seen::Value(Value::Bool(b))) => a.cmp(b),
        (Seen::Time(a), Seen::Time(b)) => a.cmp(b),
        (Seen::Id(a), Seen::Id(b)) => a.cmp(b),
        (Seen::Clients(a), Seen::Clients(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(seen: &Seen) -> u8 {
    match seen {
        Seen::Absent | Seen::Value(Value::Null) => 0,
        Seen::Value(Value::Number(_)) => 1,
        Seen::Value(Value::String(_)) => 2,
        Seen::Value(Value::Object(_)) => 3,
        Seen::Value(Value::Array(_)) | Seen::Clients(_) => 4,
        Seen::Id(_) => 5,
        Seen::Value(Value::Bool(_)) => 6,
        Seen::Time(_) => 7,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn conversation() -> Conversation {
        let client = |id| ClientId::parse(id).unwrap();
        Conversation {
            id: ConversationId::lasting(7),
            kind: Kind::Group,
            creator: Some(client("tom")),
            attributes: json!({"name": "猫 and mouse", "attr": {"n": 3, "tags": ["a", "b"]}})
                .as_object()
                .unwrap()
                .clone(),
            unique: None,
            created_at: Timestamp(1_000),
            updated_at: Timestamp(2_000),
            last_message_at: None,
            members: vec![client("tom"), client("jerry")],
            joined: Vec::new(),
            muted_by: vec![],
            owner: None,
            admins: Vec::new(),
        }
    }

    fn attribute(path: &str, test: Test) -> Filter {
        Filter::Field(Field::Attribute(path.split('.').map(str::to_owned).collect()), test)
    }

    fn value(value: Value) -> Operand {
        Operand::Value(value)
    }

    #[test]
    fn tests_on_fields_follow_the_query_language() {
        let c = conversation();
        let holds = |filter: Filter| filter.matches(&c);
        assert!(holds(attribute("attr.n", Test::Equal(value(json!(3.0))))));
        assert!(holds(attribute("attr.n", Test::GreaterOrEqual(value(json!(3))))));
        assert!(!holds(attribute("attr.n", Test::Greater(value(json!("2"))))));
        assert!(holds(attribute("attr.tags", Test::Equal(value(json!("b"))))));
        assert!(holds(attribute("attr.tags", Test::ContainsAll(vec![value(json!("a")), value(json!("b"))]))));
        assert!(holds(attribute("attr.tags", Test::Size(2))));
        assert!(holds(attribute("attr.none", Test::Exists(false))));
        assert!(holds(attribute("attr.none", Test::Equal(value(Value::Null)))));
        assert!(holds(attribute("name", Test::Matches(Regex::new("^猫").unwrap()))));
        let all = Regex::new("^a*$").unwrap();
        assert!(found(&all, &"a".repeat(4_096)) && !found(&all, &"a".repeat(4_097)));
        assert!(holds(Filter::Field(Field::Members, Test::ContainsAll(vec![value(json!("jerry"))]))));
        assert!(holds(Filter::Field(Field::Members, Test::Size(2))));
        assert!(holds(Filter::Field(Field::IsRoom, Test::Equal(value(json!(false))))));
        assert!(holds(Filter::Field(Field::CreatedAt, Test::Less(Operand::Time(Timestamp(1_001))))));
        assert!(holds(Filter::Field(Field::Id, Test::In(vec![Operand::Id(None), Operand::Id(Some(c.id))]))));
        assert!(holds(Filter::Not(Box::new(Filter::Any(vec![])))));
        assert!(holds(Filter::All(vec![])));
    }

    #[test]
    fn the_default_order_is_newest_message_then_newest_change() {
        let mut spoken = conversation();
        spoken.last_message_at = Some(Timestamp(5));
        let mut changed = conversation();
        changed.updated_at = Timestamp(9_000);
        let mut all = [conversation(), changed.clone(), spoken.clone()];
        all.sort_by(|a, b| order(&[], a, b));
        assert_eq!((all[0].last_message_at, all[1].updated_at), (spoken.last_message_at, changed.updated_at));
    }
}
