//! Attributes of a conversation: a JSON object that members change by operations.

use serde_json::{Map, Number, Value};

/// A conversation's name and custom fields, in the order in which they were written.
pub type Attributes = Map<String, Value>;

/// One change: where, and what to do there.
#[derive(Clone, PartialEq, Debug)]
pub struct AttributeChange {
    /// The keys from the top to the value, at least one.
    pub path: Vec<String>,
    /// What to do.
    pub operation: Operation,
}

/// What to do with one attribute.
#[derive(Clone, PartialEq, Debug)]
pub enum Operation {
    /// Replace it.
    Set(Value),
    /// Remove it.
    Delete,
    /// Add to a number; a missing one counts as 0.
    Increment(Number),
    /// Append to an array; a missing one counts as empty.
    Add(Vec<Value>),
    /// Append what the array doesn't hold yet.
    AddUnique(Vec<Value>),
    /// Remove every occurrence from an array.
    Remove(Vec<Value>),
}

impl Operation {
    /// The values it brings along.
    fn values(&self) -> impl Iterator<Item = &Value> {
        let (one, many): (Option<&Value>, &[Value]) = match self {
            Self::Set(value) => (Some(value), &[]),
            Self::Add(items) | Self::AddUnique(items) | Self::Remove(items) => (None, items),
            Self::Delete | Self::Increment(_) => (None, &[]),
        };
        one.into_iter().chain(many)
    }
}

/// Why changes can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// The operation needs another type than the attribute has.
    #[error("{path} is no {wanted}")]
    Type {
        /// The attribute, dotted.
        path: String,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// Numbers that don't fit.
    #[error("{path} would leave the range of numbers")]
    Range {
        /// The attribute, dotted.
        path: String,
    },
    /// Deeper than [`DEPTH_MAX`].
    #[error("attributes may be nested {DEPTH_MAX} levels deep")]
    TooDeep,
}

/// How deep attributes may be nested: deeper ones only make parsers recurse.
pub const DEPTH_MAX: usize = 32;

/// Applies all changes, or none. Returns the new values of what changed, nested as the attributes
/// are; deleted ones are absent.
pub fn apply(attributes: &mut Attributes, changes: &[AttributeChange]) -> Result<Attributes, AttributeError> {
    let mut next = attributes.clone();
    for change in changes {
        if change.operation.values().any(|value| depth(value) >= DEPTH_MAX) {
            return Err(AttributeError::TooDeep);
        }
        apply_one(&mut next, change)?;
    }
    let mut modified = Attributes::new();
    for change in changes {
        if let Some(value) = lookup(&next, &change.path)
            && let Some(slot) = slot(&mut modified, &change.path)?
        {
            *slot = value.clone();
        }
    }
    ensure_shallow(&next)?;
    *attributes = next;
    Ok(modified)
}

/// `Err` for attributes that are nested too deep.
pub fn ensure_shallow(attributes: &Attributes) -> Result<(), AttributeError> {
    if attributes.values().any(|value| depth(value) >= DEPTH_MAX) {
        return Err(AttributeError::TooDeep);
    }
    Ok(())
}

/// The value at `path`, if every key on the way exists.
#[must_use]
pub fn lookup<'a>(attributes: &'a Attributes, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(attributes.get(first)?, |value, key| value.as_object()?.get(key))
}

/// How deep `value` is nested: 0 for a plain value.
#[must_use]
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn apply_one(attributes: &mut Attributes, change: &AttributeChange) -> Result<(), AttributeError> {
    let dotted = || change.path.join(".");
    let wrong = |wanted| AttributeError::Type { path: dotted(), wanted };
    if change.operation == Operation::Delete {
        delete(attributes, &change.path);
        return Ok(());
    }
    let Some(slot) = slot(attributes, &change.path)? else { return Ok(()) };
    match &change.operation {
        Operation::Set(value) => *slot = value.clone(),
        Operation::Delete => {}
        Operation::Increment(amount) => {
            *slot = match slot {
                Value::Null => Value::Number(amount.clone()),
                Value::Number(number) => Value::Number(
                    sum(number, amount).ok_or_else(|| AttributeError::Range { path: dotted() })?,
                ),
                _ => return Err(wrong("number")),
            }
        }
        Operation::Add(items) => array(slot).ok_or_else(|| wrong("array"))?.extend(items.iter().cloned()),
        Operation::AddUnique(items) => {
            let array = array(slot).ok_or_else(|| wrong("array"))?;
            for item in items {
                if !array.contains(item) {
                    array.push(item.clone());
                }
            }
        }
        Operation::Remove(items) => {
            array(slot).ok_or_else(|| wrong("array"))?.retain(|item| !items.contains(item));
        }
    }
    Ok(())
}

/// The place of `path`, made of empty objects where it is missing. `None` for an empty path.
fn slot<'a>(
    attributes: &'a mut Attributes,
    path: &[String],
) -> Result<Option<&'a mut Value>, AttributeError> {
    let Some((first, rest)) = path.split_first() else { return Ok(None) };
    if path.len() > DEPTH_MAX {
        return Err(AttributeError::TooDeep);
    }
    let mut value = attributes.entry(first.clone()).or_insert(Value::Null);
    for key in rest {
        if value.is_null() {
            *value = Value::Object(Attributes::new());
        }
        let Value::Object(map) = value else {
            return Err(AttributeError::Type { path: path.join("."), wanted: "object" });
        };
        value = map.entry(key.clone()).or_insert(Value::Null);
    }
    Ok(Some(value))
}

fn delete(attributes: &mut Attributes, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut map = attributes;
    for key in parents {
        let Some(Value::Object(next)) = map.get_mut(key) else { return };
        map = next;
    }
    map.shift_remove(last);
}

fn array(slot: &mut Value) -> Option<&mut Vec<Value>> {
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut()
}

fn sum(a: &Number, b: &Number) -> Option<Number> {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.checked_add(b).map(Number::from),
        _ => Number::from_f64(a.as_f64()? + b.as_f64()?),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(path: &str, operation: Operation) -> AttributeChange {
        AttributeChange { path: path.split('.').map(str::to_owned).collect(), operation }
    }

    fn object(value: Value) -> Attributes {
        let Value::Object(map) = value else { panic!("{value} is no object") };
        map
    }

    #[test]
    fn operations_change_nested_values_and_report_what_is_new() {
        let mut attributes = object(json!({"name": "old", "attr": {"n": 1, "tags": ["a"], "gone": true}}));
        let modified = apply(
            &mut attributes,
            &[
                change("name", Operation::Set(json!("new"))),
                change("attr.n", Operation::Increment(2.into())),
                change("attr.tags", Operation::AddUnique(vec![json!("a"), json!("b")])),
                change("attr.gone", Operation::Delete),
                change("attr.deep.er", Operation::Add(vec![json!(1)])),
            ],
        )
        .unwrap();
        let wanted = json!({"name": "new", "attr": {"n": 3, "tags": ["a", "b"], "deep": {"er": [1]}}});
        assert_eq!(Value::Object(attributes), wanted);
        assert_eq!(Value::Object(modified), wanted);
    }

    #[test]
    fn a_refused_operation_changes_nothing() {
        let mut attributes = object(json!({"name": "n", "attr": {"s": "text"}}));
        let before = attributes.clone();
        let refused = apply(
            &mut attributes,
            &[change("name", Operation::Set(json!("x"))), change("attr.s", Operation::Increment(1.into()))],
        );
        assert_eq!(refused, Err(AttributeError::Type { path: "attr.s".to_owned(), wanted: "number" }));
        assert_eq!(attributes, before);
    }

    #[test]
    fn remove_takes_every_occurrence_and_numbers_do_not_wrap() {
        let mut attributes = object(json!({"a": [1, 2, 1], "n": i64::MAX}));
        apply(&mut attributes, &[change("a", Operation::Remove(vec![json!(1)]))]).unwrap();
        assert_eq!(attributes["a"], json!([2]));
        assert!(matches!(
            apply(&mut attributes, &[change("n", Operation::Increment(1.into()))]),
            Err(AttributeError::Range { .. })
        ));
    }

    #[test]
    fn nesting_has_a_bound() {
        let mut value = json!(1);
        for _ in 0..40 {
            value = json!({ "a": value });
        }
        let mut attributes = Attributes::new();
        assert_eq!(
            apply(&mut attributes, &[change("a", Operation::Set(value))]),
            Err(AttributeError::TooDeep)
        );
        assert!(attributes.is_empty());
        let mut value = json!(1);
        for _ in 0..40 {
            value = json!([value]);
        }
        let refused = apply(&mut attributes, &[change("a", Operation::Remove(vec![value]))]);
        assert_eq!(refused, Err(AttributeError::TooDeep));
    }
}
