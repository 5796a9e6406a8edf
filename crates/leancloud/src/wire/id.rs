//! Ids as the wire writes them.
//!
//! SDKs tell a temporary conversation by the prefix `_tmp:`, and expect 24 hex digits (an object
//! id) otherwise. The domain's ids are 64-bit numbers, so the digits left over carry a check: an id
//! that somebody made up or mistyped is refused without a look at the store.

/// Before the digits of a temporary conversation's id.
pub const TEMPORARY_PREFIX: &str = "_tmp:";

/// Keeps a temporary conversation's check different from that of a lasting one.
const TEMPORARY_SALT: u64 = 0x706f_7374_686f_7573;

/// What a conversation's id says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConversationText {
    /// The number of a lasting conversation.
    Lasting(u64),
    /// The number of a temporary conversation.
    Temporary(u64),
}

/// A text that this server never gave out as the id of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoConversation {
    /// It looks like a lasting conversation's, or like nothing.
    Lasting,
    /// It has the prefix of temporary ones.
    Temporary,
}

/// 24 lower-case hex digits: 8 of check, 16 of the number.
#[must_use]
pub fn lasting_text(bits: u64) -> String {
    format!("{:08x}{bits:016x}", check(bits) >> 32)
}

/// `_tmp:` and 32 lower-case hex digits: 16 of check, 16 of the number.
#[must_use]
pub fn temporary_text(bits: u64) -> String {
    format!("{TEMPORARY_PREFIX}{:016x}{bits:016x}", check(bits ^ TEMPORARY_SALT))
}

/// The inverse of [`lasting_text`] and [`temporary_text`].
pub fn parse_conversation(text: &str) -> Result<ConversationText, NoConversation> {
    if let Some(digits) = text.strip_prefix(TEMPORARY_PREFIX) {
        let bits = number(digits, 32).ok_or(NoConversation::Temporary)?;
        return if temporary_text(bits) == text {
            Ok(ConversationText::Temporary(bits))
        } else {
            Err(NoConversation::Temporary)
        };
    }
    let bits = number(text, 24).ok_or(NoConversation::Lasting)?;
    if lasting_text(bits) == text {
        Ok(ConversationText::Lasting(bits))
    } else {
        Err(NoConversation::Lasting)
    }
}

/// 16 lower-case hex digits. The fixed width makes the order of texts that of numbers: Swift orders
/// messages of equal time by the text (IMConversation.swift).
#[must_use]
pub fn message_text(bits: u64) -> String {
    format!("{bits:016x}")
}

/// The inverse of [`message_text`].
#[must_use]
pub fn parse_message(text: &str) -> Option<u64> {
    number(text, 16)
}

/// The number in the last 16 digits of a text of `width` lower-case hex digits.
fn number(text: &str, width: usize) -> Option<u64> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != width || !text.bytes().all(is_hex) {
        return None;
    }
    u64::from_str_radix(&text[width - 16..], 16).ok()
}

/// The finaliser of SplitMix64: a bijection that changes half of the bits for each bit changed.
fn check(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_stay_as_apps_have_stored_them() {
        assert_eq!(lasting_text(7), "63cbe1e40000000000000007");
        assert_eq!(lasting_text(7).len(), 24);
        assert_eq!(temporary_text(1 << 62).len(), 5 + 32);
        assert_eq!(message_text(0xabc), "0000000000000abc");
    }

    #[test]
    fn made_up_ids_are_refused_by_kind() {
        for text in ["", "x", "5f0e1a2b3c4d5e6f70819203", "ffffffffffffffffffffffff", "é".repeat(12).as_str()]
        {
            assert_eq!(parse_conversation(text), Err(NoConversation::Lasting), "{text}");
        }
        for text in ["_tmp:", "_tmp:24bb", "_tmp:00000000000000000000000000000001"] {
            assert_eq!(parse_conversation(text), Err(NoConversation::Temporary), "{text}");
        }
        assert_eq!(parse_conversation(&lasting_text(7).to_uppercase()), Err(NoConversation::Lasting));
        assert_eq!(parse_message("ABCDEF0123456789"), None);
        assert_eq!(parse_message("+bcdef0123456789"), None);
    }

    proptest! {
        #[test]
        fn ids_come_back(bits in any::<u64>()) {
            prop_assert_eq!(parse_conversation(&lasting_text(bits)), Ok(ConversationText::Lasting(bits)));
            prop_assert_eq!(parse_conversation(&temporary_text(bits)), Ok(ConversationText::Temporary(bits)));
            prop_assert_eq!(parse_message(&message_text(bits)), Some(bits));
        }

        #[test]
        fn one_wrong_digit_is_noticed(bits in any::<u64>(), at in 0usize..24, digit in 0u32..16) {
            let mut text: Vec<char> = lasting_text(bits).chars().collect();
            let before = text[at];
            text[at] = char::from_digit(digit, 16).unwrap_or('0');
            prop_assume!(text[at] != before);
            let text: String = text.into_iter().collect();
            prop_assert_eq!(parse_conversation(&text), Err(NoConversation::Lasting));
        }

        #[test]
        fn order_of_message_texts_is_order_of_numbers(a in any::<u64>(), b in any::<u64>()) {
            prop_assert_eq!(message_text(a).cmp(&message_text(b)), a.cmp(&b));
        }

        #[test]
        fn any_text_is_safe(text in "(_tmp:)?.{0,40}") {
            let _id: Result<_, _> = parse_conversation(&text);
            let _message: Option<u64> = parse_message(&text);
        }
    }
}
