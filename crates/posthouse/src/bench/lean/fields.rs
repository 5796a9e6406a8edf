//! Protobuf by hand: the few fields that the load generator writes and reads for every message,
//! without a value for each of the dozens that it does not look at.

/// Bytes that are no protobuf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value<'a> {
    /// A varint: numbers and truth values. Fixed-width numbers too, which neither wire uses here.
    Number(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message, in the order in which they stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        let little_endian = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Number(little_endian(self.take(8)?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Number(little_endian(self.take(4)?)),
            _ => return Err(Malformed),
        };
        Ok((field, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Appends a field that holds a number.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    put_varint(out, u64::from(field) << 3);
    put_varint(out, number);
}

/// Appends a field that holds text, bytes or a message.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read() {
        let mut out = Vec::new();
        put_number(&mut out, 1, 0);
        put_number(&mut out, 104, u64::MAX);
        put_bytes(&mut out, 5, b"");
        put_bytes(&mut out, 200, &[7; 300]);
        let read: Vec<_> = Fields::of(&out).map(Result::unwrap).collect();
        assert_eq!(
            read,
            [
                (1, Value::Number(0)),
                (104, Value::Number(u64::MAX)),
                (5, Value::Bytes(b"")),
                (200, Value::Bytes(&[7; 300])),
            ]
        );
    }

    #[test]
    fn every_cut_is_malformed_and_ends() {
        let mut out = Vec::new();
        put_bytes(&mut out, 9, b"payload");
        for end in 1..out.len() {
            let read: Vec<_> = Fields::of(&out[..end]).collect();
            assert_eq!(read, [Err(Malformed)], "{end}");
        }
        assert_eq!(Fields::of(&[0xFF; 11]).next(), Some(Err(Malformed)));
        assert_eq!(Fields::of(&[0x0B, 0]).next(), Some(Err(Malformed)));
    }

    #[test]
    fn fixed_widths_are_numbers() {
        assert_eq!(Fields::of(&[0x0D, 1, 2, 0, 0]).next(), Some(Ok((1, Value::Number(513)))));
        assert_eq!(
            Fields::of(&[0x09, 1, 0, 0, 0, 0, 0, 0, 1]).next(),
            Some(Ok((1, Value::Number(1 << 56 | 1))))
        );
    }
}
