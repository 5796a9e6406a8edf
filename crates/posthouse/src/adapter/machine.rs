//! The machine's clock and its source of randomness; the only place that touches them.

use std::time::{SystemTime, UNIX_EPOCH};

use posthouse_core::time::{Chance, Clock, Timestamp};

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is given")]
    fn now(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    #[expect(clippy::disallowed_methods, reason = "this is the source that everybody else is given")]
    fn bits(&self) -> u64 {
        getrandom::u64().expect("the operating system has no randomness; nothing secret can be made")
    }
}

impl SystemChance {
    /// 32 random bytes, for keys.
    #[must_use]
    pub fn key(self) -> [u8; 32] {
        let mut key = [0; 32];
        for chunk in key.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes());
        }
        key
    }

    /// A random text of letters and digits; each character carries 5.9 bits.
    #[must_use]
    pub fn text(self, length: usize) -> String {
        const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut text = String::with_capacity(length);
        while text.len() < length {
            // 62 * 4 = 248: bytes above are drawn again, so that no letter is likelier.
            for byte in self.bits().to_le_bytes().into_iter().filter(|byte| *byte < 248) {
                text.push(char::from(LETTERS[usize::from(byte % 62)]));
            }
        }
        text.truncate(length);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_texts_have_their_length_and_differ() {
        let (a, b) = (SystemChance.text(24), SystemChance.text(24));
        assert_eq!(a.len(), 24);
        assert_ne!(a, b);
        assert!(a.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
