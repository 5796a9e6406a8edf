//! Easemob names of client ids.
//!
//! An id that is a valid name (1 to 64 bytes of `[a-z0-9_.-]`, not beginning with `x-`, not dots only) is
//! its own name. Every other id appears as `x-` and its UTF-8 bytes, where `[a-z0-9_.]` stand for themselves
//! and every other byte is `-` and two lower-case hex digits: `Tom` is `x--54om`. So different ids
//! never share a name, and names that SDKs lower-case still say which id is meant.

/// Before the name of an id that is not a name itself.
const ESCAPED: &str = "x-";

/// The longest name that can be registered, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The longest client id, in characters.
pub const ID_CHARS_MAX: usize = 64;

/// A text that is no client's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadName {
    /// Nothing.
    #[error("the name is empty")]
    Empty,
    /// More than 64 bytes, or an escape of more than 64 characters.
    #[error("the name is too long")]
    TooLong,
    /// A character other than `[a-z0-9_.-]`.
    #[error("the name has characters other than a to z, 0 to 9, _ . and -")]
    Characters,
    /// Nothing but dots: in addresses, `.` and `..` are steps that every client takes by itself.
    #[error("the name has nothing but dots")]
    Dots,
    /// An escape that is not written as this server writes it.
    #[error("the name is not a canonical escape")]
    Escape,
    /// A name that begins with `x-`, where only plain names can be.
    #[error("names that begin with x- are reserved")]
    Reserved,
}

/// The name under which Easemob clients see the client `id`, which is not empty.
#[must_use]
pub fn name_of(id: &str) -> String {
    if plain(id).is_ok() {
        return id.to_owned();
    }
    let mut name = String::with_capacity(ESCAPED.len() + 3 * id.len());
    name.push_str(ESCAPED);
    for byte in id.bytes() {
        if stands_for_itself(byte) {
            name.push(char::from(byte));
        } else {
            name.push('-');
            for nibble in [byte >> 4, byte & 0xf] {
                name.extend(char::from_digit(u32::from(nibble), 16));
            }
        }
    }
    name
}

/// The client id of `name`, the inverse of [`name_of`]. Upper-case letters are taken for lower-case
/// ones, as native SDKs do.
pub fn id_of(name: &str) -> Result<String, BadName> {
    let name = name.to_ascii_lowercase();
    let Some(escaped) = name.strip_prefix(ESCAPED) else {
        plain(&name)?;
        return Ok(name);
    };
    let id = String::from_utf8(unescaped(escaped)?).map_err(|_| BadName::Escape)?;
    if id.is_empty() {
        Err(BadName::Empty)
    } else if id.chars().nth(ID_CHARS_MAX).is_some() {
        Err(BadName::TooLong)
    } else if plain(&id).is_ok() {
        Err(BadName::Escape)
    } else {
        Ok(id)
    }
}

/// The name of a user to be registered, lower-cased: only names that stand for themselves.
pub fn registrable(name: &str) -> Result<String, BadName> {
    let name = name.to_ascii_lowercase();
    plain(&name)?;
    Ok(name)
}

/// Whether `name` is an id that is its own name.
fn plain(name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        Err(BadName::Empty)
    } else if name.len() > NAME_BYTES_MAX {
        Err(BadName::TooLong)
    } else if !name.bytes().all(|byte| byte == b'-' || stands_for_itself(byte)) {
        Err(BadName::Characters)
    } else if name.starts_with(ESCAPED) {
        Err(BadName::Reserved)
    } else if name.bytes().all(|byte| byte == b'.') {
        Err(BadName::Dots)
    } else {
        Ok(())
    }
}

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.')
}

/// The bytes behind an escape in lower case.
fn unescaped(escaped: &str) -> Result<Vec<u8>, BadName> {
    let mut bytes = escaped.bytes();
    let mut id = Vec::new();
    while let Some(byte) = bytes.next() {
        // Four bytes a character at most: no need to read on.
        if id.len() >= 4 * ID_CHARS_MAX {
            return Err(BadName::TooLong);
        }
        if byte != b'-' {
            if !stands_for_itself(byte) {
                return Err(BadName::Characters);
            }
            id.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = bytes.next().and_then(|byte| char::from(byte).to_digit(16));
            digit.and_then(|digit| u8::try_from(digit).ok()).ok_or(BadName::Escape)
        };
        let byte = digit()? << 4 | digit()?;
        if stands_for_itself(byte) {
            return Err(BadName::Escape);
        }
        id.push(byte);
    }
    Ok(id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_names() {
        let long = "a".repeat(64);
        for (id, name) in [
            ("alice", "alice"),
            ("a.b_c-d0", "a.b_c-d0"),
            ("-", "-"),
            ("x", "x"),
            (long.as_str(), long.as_str()),
            ("Tom", "x--54om"),
            ("x-foo", "x-x-2dfoo"),
            ("x-", "x-x-2d"),
            ("汤姆", "x--e6-b1-a4-e5-a7-86"),
            ("a@b", "x-a-40b"),
            ("A-b", "x--41-2db"),
            (".", "x-."),
            ("..", "x-.."),
            ("...", "x-..."),
            ("..a", "..a"),
        ] {
            assert_eq!(name_of(id), name);
            assert_eq!(id_of(name).as_deref(), Ok(id), "{name}");
        }
    }

    #[test]
    fn upper_case_names_are_those_of_lower_case() {
        assert_eq!(id_of("Alice").as_deref(), Ok("alice"));
        assert_eq!(id_of("X--E6-B1-A4").as_deref(), Ok("汤"));
        assert_eq!(registrable("Alice.B-1").as_deref(), Ok("alice.b-1"));
    }

    #[test]
    fn what_is_nobodys_name_is_refused() {
        for (name, why) in [
            ("", BadName::Empty),
            ("x-", BadName::Empty),
            ("a b", BadName::Characters),
            ("汤姆", BadName::Characters),
            ("x-汤", BadName::Characters),
            ("\u{212a}", BadName::Characters), // the Kelvin sign lower-cases to k, but not in ASCII
            (&"a".repeat(65), BadName::TooLong),
            ("..", BadName::Dots),
            ("x-tom", BadName::Escape),   // a plain name
            ("x--74om", BadName::Escape), // t stands for itself
            ("x--5", BadName::Escape),    // half an escape
            ("x--g0", BadName::Escape),   // no digits
            ("x--ff", BadName::Escape),   // not UTF-8
            ("x-a--", BadName::Escape),
            (&format!("x-{}", "-41".repeat(65)), BadName::TooLong),
            (&format!("x-{}", "a".repeat(100_000)), BadName::TooLong),
        ] {
            assert_eq!(id_of(name), Err(why), "{name}");
        }
        for (name, why) in [
            ("", BadName::Empty),
            ("x--54om", BadName::Reserved),
            ("X-ray", BadName::Reserved),
            ("tom@b", BadName::Characters),
            (".", BadName::Dots),
            ("..", BadName::Dots),
            (&".".repeat(64), BadName::Dots),
            (&"a".repeat(65), BadName::TooLong),
        ] {
            assert_eq!(registrable(name), Err(why), "{name}");
        }
    }

    #[test]
    fn an_id_too_long_for_a_name_has_an_escape() {
        let longest = "𝕏".repeat(64);
        assert_eq!(id_of(&name_of(&longest)).as_deref(), Ok(longest.as_str()));
    }

    proptest! {
        #[test]
        fn every_id_comes_back(id in "[a-zX\\-.@é𝕏]{1,64}|.{1,64}") {
            let name = name_of(&id);
            prop_assert!(name.bytes().all(|byte| byte == b'-' || stands_for_itself(byte)));
            prop_assert_eq!(id_of(&name), Ok(id));
        }

        #[test]
        fn every_name_that_is_read_is_the_one_that_is_written(name in "x-[0-9a-z\\-]{0,30}|[a-z\\-]{0,8}|.{0,20}") {
            if let Ok(id) = id_of(&name) {
                prop_assert_eq!(name_of(&id), name.to_ascii_lowercase());
            }
        }

        #[test]
        fn different_ids_have_different_names(ids in proptest::collection::vec("[xX\\-.a2d]{1,4}", 2..40)) {
            let mut names = HashMap::new();
            for id in ids {
                let before = names.insert(name_of(&id), id.clone());
                prop_assert!(before.is_none_or(|other| other == id));
            }
        }

        #[test]
        fn what_can_be_registered_is_its_own_name(name in "[a-zA-Z0-9_.\\-@]{0,70}") {
            if let Ok(registered) = registrable(&name) {
                prop_assert_eq!(&name_of(&registered), &registered);
                prop_assert_eq!(id_of(&name), Ok(registered));
            }
        }
    }
}
