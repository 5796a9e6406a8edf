//! The top-level fields of a protobuf message without its schema: what is not understood survives.

/// Field numbers have 29 bits.
const NUMBER_MAX: u64 = (1 << 29) - 1;

/// A varint of 64 bits has at most ten bytes.
const VARINT_BYTES_MAX: usize = 10;

/// Bytes that are not a sequence of protobuf fields. Groups, which no client writes, count as such.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a sequence of protobuf fields")]
pub struct Malformed;

/// One field as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Field<'a> {
    /// The field's number.
    pub number: u32,
    /// What it holds.
    pub value: Value<'a>,
    /// Tag and value as they were written.
    pub bytes: &'a [u8],
}

/// The value of a field, told apart as far as the wire does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// Integers, booleans, enums.
    Varint(u64),
    /// Eight bytes: a double.
    Eight(&'a [u8]),
    /// Texts, bytes, messages, packed numbers.
    Bytes(&'a [u8]),
    /// Four bytes: a float.
    Four(&'a [u8]),
}

/// The fields of `bytes` in their order. Ends after the first error.
#[must_use]
pub fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { rest: bytes }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = take_field(&mut self.rest).ok_or(Malformed);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let start = *rest;
    let tag = take_varint(rest)?;
    let number = tag >> 3;
    if number == 0 || number > NUMBER_MAX {
        return None;
    }
    let value = match tag & 7 {
        0 => Value::Varint(take_varint(rest)?),
        1 => Value::Eight(take(rest, 8)?),
        2 => {
            let length = usize::try_from(take_varint(rest)?).ok()?;
            Value::Bytes(take(rest, length)?)
        }
        5 => Value::Four(take(rest, 4)?),
        _ => return None,
    };
    Some(Field { number: u32::try_from(number).ok()?, value, bytes: start.get(..start.len() - rest.len())? })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

/// Takes a varint off the front; `None` when it does not end or has more than 64 bits.
pub fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
        if index == VARINT_BYTES_MAX - 1 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = rest.get(index + 1..)?;
            return Some(value);
        }
    }
    None
}

/// `bytes` without the fields of these numbers; the rest unchanged and in its order.
pub fn strip(bytes: &[u8], numbers: &[u32]) -> Result<Vec<u8>, Malformed> {
    let mut kept = Vec::with_capacity(bytes.len());
    for field in fields(bytes) {
        let field = field?;
        if !numbers.contains(&field.number) {
            kept.extend_from_slice(field.bytes);
        }
    }
    Ok(kept)
}

/// The last length-delimited field of this number, which is the one that counts for texts and bytes.
pub fn last_bytes(bytes: &[u8], number: u32) -> Result<Option<&[u8]>, Malformed> {
    let mut found = None;
    for field in fields(bytes) {
        let field = field?;
        if let (true, Value::Bytes(value)) = (field.number == number, field.value) {
            found = Some(value);
        }
    }
    Ok(found)
}

/// The last varint of this number among the fields that can be read, whatever follows them.
#[must_use]
pub fn readable_varint(bytes: &[u8], number: u32) -> Option<u64> {
    fields(bytes).map_while(Result::ok).fold(None, |found, field| match field.value {
        Value::Varint(value) if field.number == number => Some(value),
        Value::Varint(_) | Value::Eight(_) | Value::Bytes(_) | Value::Four(_) => found,
    })
}

/// Appends a varint without a tag.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends an integer, boolean or enum.
pub fn append_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Appends a text, bytes or an encoded message.
pub fn append_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_of_field_is_seen() {
        let mut bytes = Vec::new();
        append_varint(&mut bytes, 1, 300);
        append_bytes(&mut bytes, 536_870_911, b"text");
        bytes.extend_from_slice(&[0x19, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend_from_slice(&[0x25, 1, 2, 3, 4]);
        let values: Vec<(u32, Value<'_>)> =
            fields(&bytes).map(|field| field.map(|field| (field.number, field.value)).unwrap()).collect();
        assert_eq!(
            values,
            [
                (1, Value::Varint(300)),
                (536_870_911, Value::Bytes(b"text")),
                (3, Value::Eight(&[1, 2, 3, 4, 5, 6, 7, 8])),
                (4, Value::Four(&[1, 2, 3, 4])),
            ]
        );
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for bytes in [
            &[0x00_u8, 0x00][..],                                                // number 0
            &[0x0b, 0x0c],                                                       // a group
            &[0x0e],                                                             // no such wire type
            &[0x08],                                                             // no value
            &[0x08, 0x80],                                                       // half a varint
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], // 65 bits
            &[0x0a, 0x02, 0x00],                                                 // too short
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // far too short
            &[0x80, 0x80, 0x80, 0x80, 0x10, 0x00],                               // number of 30 bits
            &[0x0d, 0x00, 0x00, 0x00],                                           // half a float
        ] {
            assert_eq!(strip(bytes, &[]), Err(Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn what_stands_before_the_damage_can_be_read() {
        let mut bytes = Vec::new();
        append_varint(&mut bytes, 1, 7);
        bytes.push(0x0b);
        assert_eq!(readable_varint(&bytes, 1), Some(7));
        assert_eq!(readable_varint(&bytes, 2), None);
    }

    #[test]
    fn the_last_of_several_counts() {
        let mut bytes = Vec::new();
        append_bytes(&mut bytes, 6, b"first");
        append_bytes(&mut bytes, 6, b"second");
        assert_eq!(last_bytes(&bytes, 6), Ok(Some(&b"second"[..])));
        assert_eq!(last_bytes(&bytes, 5), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let numbers: Vec<u32> = fields(&bytes).map_while(Result::ok).map(|field| field.number).collect();
            prop_assert!(numbers.len() <= bytes.len());
            if let Ok(kept) = strip(&bytes, &[]) {
                prop_assert_eq!(&kept, &bytes);
                prop_assert_eq!(strip(&bytes, &numbers).unwrap(), b"");
            }
        }

        #[test]
        fn varints_come_back(value in any::<u64>(), after in any::<u8>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            bytes.push(after);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert_eq!(rest, [after]);
        }

        #[test]
        fn stripped_fields_are_gone_and_the_others_stay(parts in proptest::collection::vec((1_u32..20, ".{0,8}"), 0..20)) {
            let (mut all, mut odd) = (Vec::new(), Vec::new());
            for (number, text) in &parts {
                append_bytes(&mut all, *number, text.as_bytes());
                if number % 2 == 1 {
                    append_bytes(&mut odd, *number, text.as_bytes());
                }
            }
            let even: Vec<u32> = (1..20).filter(|number| number % 2 == 0).collect();
            prop_assert_eq!(strip(&all, &even).unwrap(), odd);
        }
    }
}
