//! The `where` language of conversation queries, from JSON to the domain's filter.
//!
//! A query comes from the network, so everything about it is bounded: its bytes, its depth, its
//! conditions, its operands, and the memory of its regular expressions, which run in linear time.

use posthouse_core::attribute::Attributes;
use posthouse_core::id::{ClientId, ConversationId};
use posthouse_core::query::{ConversationQuery, Field, Filter, Operand, Scope, SortKey, Test};
use posthouse_core::time::Timestamp;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::inbound;
use crate::wire::date;

/// Bytes of a query's JSON. JS asks for all its unread conversations by id in one query, up to 999
/// ids of 27 bytes each.
pub const WHERE_BYTES_MAX: usize = 48 * 1024;
/// How deep conditions may be nested.
pub const DEPTH_MAX: usize = 16;
/// Conditions: one test on one field each.
pub const CONDITIONS_MAX: usize = 200;
/// Constants in all lists of a query together.
pub const OPERANDS_MAX: usize = 2_000;
/// Regular expressions in a query.
pub const REGEXES_MAX: usize = 10;
/// Bytes of a regular expression as written.
pub const REGEX_BYTES_MAX: usize = 1_024;
/// Bytes a compiled regular expression may take, and again its cache while it runs. The time it takes
/// is its size times that of the text, which has at most 4 KiB: some ten milliseconds.
pub const REGEX_MEMORY_MAX: usize = 128 * 1024;
/// How deep groups of a regular expression may be nested.
const REGEX_NEST_MAX: u32 = 32;
/// Keys of an order.
pub const SORT_KEYS_MAX: usize = 5;
/// Temporary conversations asked for at once. SDKs ask for one.
pub const TEMPORARY_IDS_MAX: usize = 100;
/// What a page holds unless the client says otherwise, and at most (JS asks for 999).
const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 1_000;
/// No app pages further; the number only keeps arithmetic honest.
const SKIP_MAX: usize = 1_000_000;

/// What is wrong with a query, in words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadQuery(String);

fn bad<T>(words: impl Into<String>) -> Result<T, BadQuery> {
    Err(BadQuery(words.into()))
}

/// The parts of a query as they come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The conditions, JSON. Absent or `{}` asks for the caller's own conversations.
    pub conditions: Option<&'a str>,
    /// Comma-separated fields, `-` for descending.
    pub sort: Option<&'a str>,
    /// How many at most.
    pub limit: Option<i32>,
    /// How many to pass over.
    pub skip: Option<i32>,
    /// Ids of temporary conversations; if any, the conditions don't count.
    pub temporary_ids: &'a [String],
    /// Whether to add last messages.
    pub with_last_message: bool,
}

/// The domain's query for what `caller` asks.
pub fn parse(asked: Asked<'_>, caller: &ClientId) -> Result<ConversationQuery, BadQuery> {
    if !asked.temporary_ids.is_empty() {
        return temporary(asked, caller);
    }
    let page = |number: Option<i32>, default: usize, max: usize| match number {
        Some(number) => usize::try_from(number).unwrap_or(default).min(max),
        None => default,
    };
    let conditions = asked.conditions.unwrap_or("{}");
    if conditions.len() > WHERE_BYTES_MAX {
        return bad(format!("`where` may have {WHERE_BYTES_MAX} bytes"));
    }
    let Ok(Value::Object(conditions)) = serde_json::from_str(conditions) else {
        return bad("`where` is not a JSON object");
    };
    let mut reader = Reader::default();
    let mut filters = reader.conditions(&conditions, 0)?;
    let scope =
        if conditions.is_empty() { Scope::Member(caller.clone()) } else { scope(&conditions, caller) };
    // Every SDK resolves a push by the conversation's id, so that finds rooms too; a search finds
    // them only if it speaks of them.
    if !reader.names_id && !reader.names_kind {
        filters.push(plain(Field::IsRoom));
        filters.push(plain(Field::IsService));
    }
    Ok(ConversationQuery {
        scope,
        filter: Filter::All(filters),
        sort: asked.sort.map_or_else(|| Ok(Vec::new()), sort)?,
        skip: page(asked.skip, 0, SKIP_MAX),
        limit: page(asked.limit, LIMIT_DEFAULT, LIMIT_MAX),
        with_last_message: asked.with_last_message,
    })
}

/// The condition that a flag isn't set.
fn plain(flag: Field) -> Filter {
    Filter::Field(flag, Test::Equal(Operand::Value(Value::Bool(false))))
}

fn temporary(asked: Asked<'_>, caller: &ClientId) -> Result<ConversationQuery, BadQuery> {
    if asked.temporary_ids.len() > TEMPORARY_IDS_MAX {
        return bad(format!("`tempConvIds` may hold {TEMPORARY_IDS_MAX} ids"));
    }
    // Ids that are none, or none of a temporary conversation, find nothing, as expired ones do.
    let mut ids: Vec<ConversationId> = asked
        .temporary_ids
        .iter()
        .filter_map(|id| inbound::conversation_id(id).ok())
        .filter(|id| id.is_temporary())
        .collect();
    ids.sort_unstable();
    // C# can't take the same conversation twice in one answer.
    ids.dedup();
    Ok(ConversationQuery {
        limit: ids.len(),
        scope: Scope::Temporary { ids, member: caller.clone() },
        filter: Filter::All(Vec::new()),
        sort: Vec::new(),
        skip: 0,
        with_last_message: asked.with_last_message,
    })
}

/// The narrowest scope that the top-level conditions allow. The filter still holds all of them.
fn scope(conditions: &Attributes, caller: &ClientId) -> Scope {
    if let Some(ids) = conditions.get("objectId").and_then(named) {
        let mut ids: Vec<ConversationId> = ids
            .iter()
            .filter_map(|id| inbound::conversation_id(id.as_str()?).ok())
            .filter(|id| !id.is_temporary())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        return Scope::Ids(ids);
    }
    let members = conditions.get("m").and_then(required_members).unwrap_or_default();
    if members.contains(&caller.as_str()) {
        return Scope::Member(caller.clone());
    }
    match members.first().map(|id| ClientId::parse(id)) {
        Some(Ok(member)) => Scope::Member(member),
        Some(Err(_)) | None => Scope::All,
    }
}

/// The values of which one must be the field's: of an equality or of `$in`.
fn named(condition: &Value) -> Option<Vec<&Value>> {
    match condition {
        Value::String(_) => Some(vec![condition]),
        Value::Object(tests) => Some(tests.get("$in")?.as_array()?.iter().collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

/// Clients who must all be members for the condition on `m` to hold.
fn required_members(condition: &Value) -> Option<Vec<&str>> {
    let list = match condition {
        Value::String(id) => return Some(vec![id]),
        Value::Array(ids) => ids,
        Value::Object(tests) => match (tests.get("$all"), tests.get("$in")) {
            (Some(Value::Array(all)), _) => all,
            (None, Some(Value::Array(one))) if one.len() == 1 => one,
            _ => return None,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    list.iter().map(Value::as_str).collect()
}

fn sort(text: &str) -> Result<Vec<SortKey>, BadQuery> {
    let keys: Vec<SortKey> = text
        .split(',')
        .map(str::trim)
        .filter(|key| !matches!(*key, "" | "-"))
        .take(SORT_KEYS_MAX + 1)
        .map(|key| match key.strip_prefix('-') {
            Some(name) => SortKey { field: field(name), descending: true },
            None => SortKey { field: field(key), descending: false },
        })
        .collect();
    if keys.len() > SORT_KEYS_MAX {
        return bad(format!("`sort` may name {SORT_KEYS_MAX} fields"));
    }
    Ok(keys)
}

fn field(name: &str) -> Field {
    match name {
        "objectId" => Field::Id,
        "m" => Field::Members,
        "mu" => Field::MutedBy,
        "c" => Field::Creator,
        "createdAt" => Field::CreatedAt,
        "updatedAt" => Field::UpdatedAt,
        "lm" => Field::LastMessageAt,
        "tr" => Field::IsRoom,
        "sys" => Field::IsService,
        "unique" => Field::IsUnique,
        "uniqueId" => Field::UniqueId,
        _ => Field::Attribute(name.split('.').map(str::to_owned).collect()),
    }
}

/// Reads conditions and counts what they cost.
#[derive(Default)]
struct Reader {
    conditions: usize,
    operands: usize,
    regexes: usize,
    names_id: bool,
    names_kind: bool,
}

impl Reader {
    /// All members of `object` must hold.
    fn conditions(&mut self, object: &Attributes, depth: usize) -> Result<Vec<Filter>, BadQuery> {
        if depth > DEPTH_MAX {
            return bad(format!("conditions may be nested {DEPTH_MAX} levels deep"));
        }
        let mut filters = Vec::with_capacity(object.len().min(CONDITIONS_MAX));
        for (key, value) in object {
            match key.as_str() {
                "$and" => filters.push(Filter::All(self.branches(key, value, depth)?)),
                "$or" => filters.push(Filter::Any(self.branches(key, value, depth)?)),
                "$not" => {
                    let Value::Object(inner) = value else { return bad("`$not` takes an object") };
                    let inner = self.conditions(inner, depth + 1)?;
                    filters.push(Filter::Not(Box::new(Filter::All(inner))));
                }
                _ if key.starts_with('$') => return bad(format!("`{key}` is not offered here")),
                _ => filters.extend(self.condition(&field(key), value, depth)?),
            }
        }
        Ok(filters)
    }

    fn branches(&mut self, key: &str, value: &Value, depth: usize) -> Result<Vec<Filter>, BadQuery> {
        let Value::Array(branches) = value else { return bad(format!("`{key}` takes a list")) };
        let mut filters = Vec::with_capacity(branches.len().min(CONDITIONS_MAX));
        for branch in branches {
            let Value::Object(branch) = branch else {
                return bad(format!("`{key}` takes a list of objects"));
            };
            self.count_condition()?;
            filters.push(Filter::All(self.conditions(branch, depth + 1)?));
        }
        Ok(filters)
    }

    /// The tests of one field: its value, or operators.
    fn condition(&mut self, field: &Field, value: &Value, depth: usize) -> Result<Vec<Filter>, BadQuery> {
        self.names_id |= *field == Field::Id;
        self.names_kind |= matches!(field, Field::IsRoom | Field::IsService);
        if let Field::Attribute(path) = field
            && path.iter().any(String::is_empty)
        {
            return bad("a field's name has an empty part");
        }
        match value {
            Value::Object(tests) if tests.keys().any(|key| key.starts_with('$')) => {
                self.tests(field, tests, depth)
            }
            _ => {
                self.count_condition()?;
                Ok(vec![Filter::Field(field.clone(), Test::Equal(operand(field, value)?))])
            }
        }
    }

    fn tests(&mut self, field: &Field, tests: &Attributes, depth: usize) -> Result<Vec<Filter>, BadQuery> {
        if depth > DEPTH_MAX {
            return bad(format!("conditions may be nested {DEPTH_MAX} levels deep"));
        }
        let mut filters = Vec::with_capacity(tests.len().min(CONDITIONS_MAX));
        for (operator, value) in tests {
            self.count_condition()?;
            let test = match operator.as_str() {
                "$ne" => {
                    filters.push(not(field, Test::Equal(operand(field, value)?)));
                    continue;
                }
                "$nin" => {
                    filters.push(not(field, Test::In(self.operands(operator, field, value)?)));
                    continue;
                }
                "$not" => {
                    let Value::Object(inner) = value else { return bad("`$not` takes an object") };
                    let inner = self.tests(field, inner, depth + 1)?;
                    filters.push(Filter::Not(Box::new(Filter::All(inner))));
                    continue;
                }
                "$options" if tests.contains_key("$regex") => continue,
                "$eq" => Test::Equal(operand(field, value)?),
                "$lt" | "$lte" | "$gt" | "$gte" => {
                    let (field, operand) = compared(field, value)?;
                    let test = match operator.as_str() {
                        "$lt" => Test::Less(operand),
                        "$lte" => Test::LessOrEqual(operand),
                        "$gt" => Test::Greater(operand),
                        _ => Test::GreaterOrEqual(operand),
                    };
                    filters.push(Filter::Field(field, test));
                    continue;
                }
                "$in" => Test::In(self.operands(operator, field, value)?),
                "$all" => Test::ContainsAll(self.operands(operator, field, value)?),
                "$size" => match value.as_u64().and_then(|size| usize::try_from(size).ok()) {
                    Some(size) => Test::Size(size),
                    None => return bad("`$size` takes a whole number"),
                },
                "$exists" => match value {
                    Value::Bool(wanted) => Test::Exists(*wanted),
                    Value::Number(number) => Test::Exists(number.as_f64() != Some(0.0)),
                    Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                        return bad("`$exists` takes true or false");
                    }
                },
                "$regex" => Test::Matches(self.regex(value, tests.get("$options"))?),
                _ => return bad(format!("`{operator}` is not offered here")),
            };
            filters.push(Filter::Field(field.clone(), test));
        }
        Ok(filters)
    }

    fn operands(&mut self, operator: &str, field: &Field, value: &Value) -> Result<Vec<Operand>, BadQuery> {
        let Value::Array(values) = value else { return bad(format!("`{operator}` takes a list")) };
        self.operands += values.len();
        if self.operands > OPERANDS_MAX {
            return bad(format!("a query may hold {OPERANDS_MAX} values"));
        }
        values.iter().map(|value| operand(field, value)).collect()
    }

    fn regex(&mut self, pattern: &Value, options: Option<&Value>) -> Result<Regex, BadQuery> {
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            return bad(format!("a query may hold {REGEXES_MAX} regular expressions"));
        }
        let Value::String(pattern) = pattern else { return bad("`$regex` takes a text") };
        if pattern.len() > REGEX_BYTES_MAX {
            return bad(format!("a regular expression may have {REGEX_BYTES_MAX} bytes"));
        }
        let mut builder = RegexBuilder::new(&unquote(pattern));
        builder.size_limit(REGEX_MEMORY_MAX).dfa_size_limit(REGEX_MEMORY_MAX).nest_limit(REGEX_NEST_MAX);
        let options = match options {
            None => "",
            Some(Value::String(options)) => options.as_str(),
            Some(_) => return bad("`$options` takes a text"),
        };
        for option in options.chars() {
            match option {
                'i' => builder.case_insensitive(true),
                'm' => builder.multi_line(true),
                's' => builder.dot_matches_new_line(true),
                'x' => builder.ignore_whitespace(true),
                _ => return bad("`$options` takes the letters i, m, s and x"),
            };
        }
        builder.build().or_else(|error| match error {
            regex::Error::CompiledTooBig(_) => bad("a regular expression is too large"),
            // The library's text quotes the pattern over several lines; its last one says what is wrong.
            error => {
                let words = error.to_string();
                let last = words.lines().next_back().unwrap_or_default();
                bad(format!("a regular expression can't be read: {}", last.trim_start_matches("error: ")))
            }
        })
    }

    fn count_condition(&mut self) -> Result<(), BadQuery> {
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            return bad(format!("a query may hold {CONDITIONS_MAX} conditions"));
        }
        Ok(())
    }
}

fn not(field: &Field, test: Test) -> Filter {
    Filter::Not(Box::new(Filter::Field(field.clone(), test)))
}

/// A constant, in the type its field has.
fn operand(field: &Field, value: &Value) -> Result<Operand, BadQuery> {
    match field {
        Field::Id => match value {
            Value::String(id) => Ok(Operand::Id(inbound::conversation_id(id).ok())),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                bad("`objectId` is compared with texts")
            }
        },
        Field::CreatedAt | Field::UpdatedAt | Field::LastMessageAt => match time(value) {
            Some(time) => Ok(Operand::Time(time)),
            None if value.is_null() => Ok(Operand::Value(Value::Null)),
            None => bad("a time is compared with a date such as \"2026-11-21T23:12:40.165Z\""),
        },
        Field::Members
        | Field::MutedBy
        | Field::Creator
        | Field::IsRoom
        | Field::IsService
        | Field::IsUnique
        | Field::UniqueId
        | Field::Attribute(_) => Ok(Operand::Value(value.clone())),
    }
}

/// What a field is ordered against. Dates in attributes are objects whose texts are ordered as their
/// times are, because SDKs write all of them in one form.
fn compared(field: &Field, value: &Value) -> Result<(Field, Operand), BadQuery> {
    match (field, value, time(value)) {
        (Field::Attribute(path), Value::Object(_), Some(at)) => {
            let path = path.iter().cloned().chain(["iso".to_owned()]).collect();
            Ok((Field::Attribute(path), Operand::Value(Value::from(date::format(at.0)))))
        }
        _ => Ok((field.clone(), operand(field, value)?)),
    }
}

/// A date object, a date's text, or Unix milliseconds.
fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Object(object) => {
            let is_date = object.get("__type").and_then(Value::as_str) == Some("Date");
            let iso = object.get("iso").and_then(Value::as_str).filter(|_| is_date)?;
            date::parse(iso).map(Timestamp)
        }
        Value::String(iso) => date::parse(iso).map(Timestamp),
        Value::Number(ms) => ms.as_i64().map(Timestamp),
        Value::Null | Value::Bool(_) | Value::Array(_) => None,
    }
}

/// A pattern in which what stands between `\Q` and `\E` is escaped instead. JS quotes like this
/// (js:src/conversation-query.js), and a value that holds `\E` leaves and enters the quote again. A
/// quote that doesn't end reaches to the end of the pattern.
fn unquote(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (quoted, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            plain.push_str(&regex::escape(quoted));
            rest = after;
        } else if let Some(after) = rest.strip_prefix(r"\E") {
            // The end of a quote that never began means nothing, as in Perl.
            rest = after;
        } else {
            // A backslash and what it escapes go together, so that `\\Q` is no quote.
            let pair = rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end);
            plain.push_str(&rest[..pair]);
            rest = &rest[pair..];
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::conversation::{Conversation, Kind};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::outbound;

    fn client(id: &str) -> ClientId {
        ClientId::parse(id).unwrap()
    }

    fn query(conditions: &Value) -> Result<ConversationQuery, BadQuery> {
        let text = conditions.to_string();
        parse(Asked { conditions: Some(&text), ..Asked::default() }, &client("tom"))
    }

    fn refused(conditions: &Value) -> String {
        query(conditions).unwrap_err().to_string()
    }

    fn conversation(attributes: &Value) -> Conversation {
        Conversation {
            id: ConversationId::lasting(7),
            kind: Kind::Group,
            creator: Some(client("tom")),
            attributes: attributes.as_object().unwrap().clone(),
            unique: None,
            created_at: Timestamp(1_000),
            updated_at: Timestamp(2_000),
            last_message_at: Some(Timestamp(3_000)),
            members: vec![client("tom"), client("jerry")],
            joined: Vec::new(),
            muted_by: vec![],
            owner: None,
            admins: Vec::new(),
        }
    }

    fn finds(conditions: &Value, attributes: &Value) -> bool {
        query(conditions).unwrap().filter.matches(&conversation(attributes))
    }

    #[test]
    fn an_empty_query_asks_for_the_callers_own() {
        let own = query(&json!({})).unwrap();
        assert_eq!(own.scope, Scope::Member(client("tom")));
        assert_eq!((own.limit, own.skip, own.sort.len()), (10, 0, 0));
        assert!(own.filter.matches(&conversation(&json!({}))));
        let mut room = conversation(&json!({}));
        room.kind = Kind::Room;
        assert!(!own.filter.matches(&room));
    }

    #[test]
    fn a_room_is_found_by_its_id_or_by_asking_for_rooms_only() {
        let mut room = conversation(&json!({"name": "r"}));
        room.kind = Kind::Room;
        let id = outbound::conversation_text(room.id);
        for (conditions, found) in [
            (json!({"objectId": id}), true),
            (json!({"objectId": {"$in": ["x", id]}}), true),
            (json!({"$or": [{"objectId": id}]}), true),
            (json!({"tr": true}), true),
            (json!({"name": "r"}), false),
            (json!({"tr": true, "sys": true}), false),
        ] {
            assert_eq!(query(&conditions).unwrap().filter.matches(&room), found, "{conditions}");
        }
    }

    #[test]
    fn ids_and_members_narrow_the_scope() {
        let id = ConversationId::lasting(7);
        let text = outbound::conversation_text(id);
        for (conditions, scope) in [
            (json!({"objectId": text}), Scope::Ids(vec![id])),
            (json!({"objectId": {"$in": [text, text, "nonsense"]}}), Scope::Ids(vec![id])),
            (json!({"objectId": "nonsense"}), Scope::Ids(vec![])),
            (json!({"m": "tom"}), Scope::Member(client("tom"))),
            (json!({"m": {"$all": ["jerry", "tom"], "$size": 2}}), Scope::Member(client("tom"))),
            (json!({"m": {"$all": ["jerry", "mary"]}}), Scope::Member(client("jerry"))),
            (json!({"m": {"$in": ["tom"]}}), Scope::Member(client("tom"))),
            (json!({"m": {"$in": ["tom", "jerry"]}}), Scope::All),
            (json!({"m": {"$ne": "tom"}}), Scope::All),
            (json!({"m": 7}), Scope::All),
            (json!({"name": "x"}), Scope::All),
            (json!({"$or": [{"objectId": text}]}), Scope::All),
            (json!({"objectId": {"$ne": text}}), Scope::All),
        ] {
            assert_eq!(query(&conditions).unwrap().scope, scope, "{conditions}");
        }
    }

    #[test]
    fn every_operator_means_what_the_language_says() {
        let row = json!({"name": "Tom & Jerry", "attr": {"n": 5, "tags": ["a", "b"]}});
        for yes in [
            json!({"name": "Tom & Jerry"}),
            json!({"attr.n": 5}),
            json!({"attr.n": {"$ne": 6}}),
            json!({"attr.n": {"$gt": 4, "$lt": 6, "$gte": 5, "$lte": 5}}),
            json!({"attr.n": {"$in": [1, 5]}}),
            json!({"attr.n": {"$nin": [1, 2]}}),
            json!({"attr.tags": {"$all": ["b", "a"]}}),
            json!({"attr.tags": {"$size": 2}}),
            json!({"attr.x": {"$exists": false}}),
            json!({"attr.n": {"$exists": true}}),
            json!({"attr.n": {"$not": {"$gt": 5}}}),
            json!({"name": {"$regex": "^tom", "$options": "i"}}),
            json!({"name": {"$options": "i", "$regex": "^tom"}}),
            json!({"m": {"$size": 2}}),
            json!({"c": "tom"}),
            json!({"createdAt": {"$lt": {"__type": "Date", "iso": "1970-01-01T00:00:01.001Z"}}}),
            json!({"lm": {"$gt": {"__type": "Date", "iso": "1970-01-01T00:00:02.999Z"}}}),
            json!({"$or": [{"attr.n": 1}, {"attr.n": 5}]}),
            json!({"$and": [{"attr.n": 5}, {"c": "tom"}]}),
        ] {
            assert!(finds(&yes, &row), "{yes}");
        }
        for no in [
            json!({"name": "tom & jerry"}),
            json!({"attr.n": {"$nin": [5]}}),
            json!({"attr.tags": {"$all": ["c"]}}),
            json!({"name": {"$regex": "^tom"}}),
            json!({"$or": []}),
            json!({"$and": [{"attr.n": 5}, {"c": "jerry"}]}),
        ] {
            assert!(!finds(&no, &row), "{no}");
        }
    }

    #[test]
    fn quotes_of_the_js_sdk_are_taken_literally() {
        for (pattern, text, found) in [
            (r"\Qa.b\E", "xa.by", true),
            (r"\Qa.b\E", "xaxby", false),
            (r"^\Q(*\E", "(*)", true),
            (r"\Qa+\Eb\Qc?\E", "a+bc?", true),
            (r"\Qnever ends (", "never ends (", true),
            // What JS makes of the value `a\Eb`.
            (r"\Qa\E\\E\Qb\E", r"a\Eb", true),
            (r"\\Qa\d", r"\Qa1", true),
            (r"a\Eb", "ab", true),
            (r"\Q\E", "", true),
            (r"\Q猫.\E", "猫.", true),
        ] {
            let conditions = json!({"name": {"$regex": pattern}});
            assert_eq!(finds(&conditions, &json!({"name": text})), found, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_is_not_offered_is_refused_in_words() {
        for (conditions, words) in [
            (json!({"a": {"$select": {}}}), "$select"),
            (json!({"a": {"$nearSphere": {}}}), "$nearSphere"),
            (json!({"$where": "1"}), "$where"),
            (json!({"a": {"$gt": 1, "plain": 2}}), "plain"),
            (json!({"a": {"$in": 1}}), "list"),
            (json!({"a": {"$size": -1}}), "whole number"),
            (json!({"a": {"$exists": "yes"}}), "true or false"),
            (json!({"a": {"$not": 1}}), "object"),
            (json!({"$or": {}}), "list"),
            (json!({"$and": [1]}), "objects"),
            (json!({"a": {"$regex": "(?=x)"}}), "look-around"),
            (json!({"a": {"$regex": "("}}), "unclosed"),
            (json!({"a": {"$regex": "a", "$options": "g"}}), "letters"),
            (json!({"a": {"$options": "i"}}), "$options"),
            (json!({"createdAt": "yesterday"}), "date"),
            (json!({"objectId": 7}), "texts"),
            (json!({"a..b": 7}), "empty part"),
            (json!([]), "JSON object"),
        ] {
            assert!(refused(&conditions).contains(words), "{conditions}: {}", refused(&conditions));
        }
    }

    #[test]
    fn what_people_search_for_fits_into_the_bound() {
        for pattern in [
            r"\Q(1.0)\E",
            "^(?i)客服.*mouse$",
            r"^\w+ \d{4}-\d{2}-\d{2}$",
            r"[\p{Han}a-z]+",
            "red|green|blue|cyan|magenta",
            ".*(order|invoice)-[0-9a-f]{8}.*",
        ] {
            let text = json!({"a": {"$regex": pattern, "$options": "i"}}).to_string();
            let asked = Asked { conditions: Some(&text), ..Asked::default() };
            assert!(parse(asked, &client("tom")).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn hostile_queries_meet_a_bound() {
        let mut deep = json!({"a": 1});
        for _ in 0..20 {
            deep = json!({ "$and": [deep] });
        }
        assert!(refused(&deep).contains("deep"));
        let mut not = json!({"$gt": 1});
        for _ in 0..20 {
            not = json!({ "$not": not });
        }
        assert!(refused(&json!({ "a": not })).contains("deep"));
        let branch = json!({"a": 1});
        assert!(refused(&json!({"$or": vec![branch; 300]})).contains("200 conditions"));
        assert!(refused(&json!({"$or": vec![json!({}); 300]})).contains("200 conditions"));
        assert!(refused(&json!({"a": {"$in": vec![1; 3_000]}})).contains("2000 values"));
        assert!(refused(&json!({"a": "x".repeat(60_000)})).contains("bytes"));
        assert!(refused(&json!({"a": {"$regex": "x".repeat(2_000)}})).contains("bytes"));
        assert!(refused(&json!({"a": {"$regex": "(a{1000}){1000}"}})).contains("large"));
        assert!(
            refused(&json!({"a": {"$regex": format!("{}{}", "(".repeat(100), ")".repeat(100))}}))
                .contains("read")
        );
        let regex = json!({"a": {"$regex": "a"}});
        assert!(refused(&json!({"$or": vec![regex; 30]})).contains("10 regular"));
        let text = "[".repeat(10_000);
        assert!(parse(Asked { conditions: Some(&text), ..Asked::default() }, &client("tom")).is_err());
    }

    #[test]
    fn pages_and_orders_are_bounded() {
        let asked = Asked {
            limit: Some(5_000),
            skip: Some(-3),
            sort: Some("-lm,createdAt,,attr.n"),
            ..Asked::default()
        };
        let query = parse(asked, &client("tom")).unwrap();
        assert_eq!((query.limit, query.skip), (1_000, 0));
        assert_eq!(query.sort.len(), 3);
        assert!(query.sort[0].descending && query.sort[0].field == Field::LastMessageAt);
        let zero = parse(Asked { limit: Some(0), ..Asked::default() }, &client("tom")).unwrap();
        assert_eq!(zero.limit, 0);
        assert!(parse(Asked { sort: Some("a,b,c,d,e,f"), ..Asked::default() }, &client("tom")).is_err());
    }

    #[test]
    fn temporary_conversations_are_found_by_id_whatever_else_is_asked() {
        let bucket = posthouse_core::expiry::Bucket::for_expiry(Timestamp(0), Timestamp(5_000));
        let id = ConversationId::temporary(bucket, 9);
        let ids = [outbound::conversation_text(id), "_tmp:x".to_owned(), outbound::conversation_text(id)];
        let asked = Asked { temporary_ids: &ids, conditions: Some("nonsense"), ..Asked::default() };
        let query = parse(asked, &client("tom")).unwrap();
        assert_eq!(query.scope, Scope::Temporary { ids: vec![id], member: client("tom") });
        assert_eq!(query.limit, 1);
        let many = vec![String::new(); 101];
        assert!(parse(Asked { temporary_ids: &many, ..Asked::default() }, &client("tom")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in ".{0,200}") {
            let _query: Result<_, _> = parse(Asked { conditions: Some(&text), ..Asked::default() }, &client("tom"));
        }

        #[test]
        fn any_pattern_is_safe(pattern in r"(\\Q|\\E|\\|[a-z(.*]|猫){0,30}") {
            let _query: Result<_, _> = query(&json!({"name": {"$regex": pattern}}));
        }

        #[test]
        fn any_quoted_text_finds_itself(text in ".{0,40}") {
            let quoted = format!(r"^\Q{}\E$", text.replace(r"\E", r"\E\\E\Q"));
            prop_assume!(!text.contains('\n') && !text.ends_with('\\') && quoted.len() <= REGEX_BYTES_MAX);
            let found = finds(&json!({"name": {"$regex": quoted}}), &json!({"name": text}));
            prop_assert!(found);
        }
    }
}
