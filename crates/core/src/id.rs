//! The names of things. Every id is its own type, parsed once at the border.
//!
//! Text ids are exact bytes: `Tom` and `tom` are two clients. A conversation's id is a 63-bit
//! number; each gateway prints it in its own alphabet, so no wire's spelling lives here.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::expiry::Bucket;
use crate::time::Timestamp;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, max $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The most characters (Unicode scalar values) an id of this kind may have.
            pub const CHARS_MAX: usize = $max;

            /// Accepts 1 to [`Self::CHARS_MAX`] characters, none of them NUL.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let chars = text.chars().take(Self::CHARS_MAX + 1).count();
                if chars == 0 {
                    return Err(InvalidId::Empty);
                }
                if chars > Self::CHARS_MAX {
                    return Err(InvalidId::TooLong { max: Self::CHARS_MAX });
                }
                if text.contains('\0') {
                    return Err(InvalidId::Nul);
                }
                Ok(Self(text.into()))
            }

            /// The id as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

text_id!(
    /// A tenant. Internal; never the id that a customer's app carries.
    AppId, max 64
);
text_id!(
    /// A user identity inside one app, chosen by the customer. LeanCloud allows 64 characters.
    ClientId, max 64
);
text_id!(
    /// One installation of an app, named by the SDK. Long, because SDKs put push tokens here.
    DeviceId, max 512
);
text_id!(
    /// A slot for one device of a client: two explicit logins with one tag exclude each other.
    Tag, max 64
);
text_id!(
    /// Made by the sender's SDK, the same for each retry of one message.
    ClientToken, max 128
);

/// Why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing was given.
    #[error("it is empty")]
    Empty,
    /// Longer than the kind of id allows.
    #[error("it is longer than {max} characters")]
    TooLong {
        /// The limit, in characters.
        max: usize,
    },
    /// A NUL, which no SDK sends and C libraries cut at.
    #[error("it contains a NUL character")]
    Nul,
}

/// A conversation: a random 63-bit number, never 0.
///
/// Bit 62 tells a temporary conversation, whose next 22 bits name the expiry bucket it lives in, so
/// that the store finds its file without a directory. See [`crate::expiry`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConversationId(NonZeroU64);

const TEMPORARY_BIT: u64 = 1 << 62;
const BUCKET_SHIFT: u32 = 40;
const LOW_40: u64 = (1 << BUCKET_SHIFT) - 1;

impl ConversationId {
    /// A lasting conversation from 64 random bits.
    #[must_use]
    pub fn lasting(random: u64) -> Self {
        let bits = random & (TEMPORARY_BIT - 1);
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// A temporary conversation of `bucket` from 64 random bits.
    #[must_use]
    pub fn temporary(bucket: Bucket, random: u64) -> Self {
        let bits = TEMPORARY_BIT | (u64::from(bucket.bits()) << BUCKET_SHIFT) | (random & LOW_40);
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// The id to try when this one is taken already: the next of the same bucket. A bucket has 40
    /// random bits, so among a million conversations one new id in a million is taken.
    #[must_use]
    pub fn when_taken(self) -> Self {
        let low = if self.is_temporary() { LOW_40 } else { TEMPORARY_BIT - 1 };
        let bits = (self.as_u64() & !low) | (self.as_u64().wrapping_add(1) & low);
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// The id of a stored or received number; `None` for 0 and for numbers of 64 bits.
    #[must_use]
    pub fn from_u64(bits: u64) -> Option<Self> {
        if bits >> 63 != 0 {
            return None;
        }
        NonZeroU64::new(bits).map(Self)
    }

    /// The number, below 2^63.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }

    /// Whether this id names a temporary conversation, alive or not.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        self.0.get() & TEMPORARY_BIT != 0
    }

    /// The expiry bucket a temporary conversation lives in.
    #[must_use]
    pub fn bucket(self) -> Option<Bucket> {
        let bits = u32::try_from((self.0.get() >> BUCKET_SHIFT) & ((1 << 22) - 1)).ok()?;
        self.is_temporary().then(|| Bucket::from_bits(bits))
    }
}

/// A message: a 63-bit number that grows with time, see [`crate::idgen`]. Within a conversation,
/// ids strictly increase in the order in which messages were accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MessageId(NonZeroU64);

impl MessageId {
    /// `None` for 0 and for numbers of 64 bits.
    #[must_use]
    pub fn from_u64(bits: u64) -> Option<Self> {
        if bits >> 63 != 0 {
            return None;
        }
        NonZeroU64::new(bits).map(Self)
    }

    /// The number, below 2^63.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }

    /// About when it was given: ids may be ahead of the clock by little, see [`crate::idgen`].
    #[must_use]
    pub fn time(self) -> Timestamp {
        Timestamp(i64::try_from(self.0.get() >> crate::idgen::TIME_SHIFT).unwrap_or(i64::MAX))
    }
}

/// A place in a conversation's timeline. The first entry has 1; 0 is "before everything".
/// Gapless: messages, edits, recalls and member changes each take one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Seq(pub u64);

/// One live login. Unique within a process's life, never stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(pub u64);

impl SessionId {
    /// Who calls without a session, as over REST. No session has it.
    pub const NONE: Self = Self(0);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn text_ids_keep_their_bytes_and_refuse_bad_lengths() {
        assert_eq!(ClientId::parse("Tom").unwrap().as_str(), "Tom");
        assert_ne!(ClientId::parse("Tom").unwrap(), ClientId::parse("tom").unwrap());
        assert_eq!(ClientId::parse(""), Err(InvalidId::Empty));
        assert!(ClientId::parse(&"猫".repeat(64)).is_ok());
        assert_eq!(ClientId::parse(&"猫".repeat(65)), Err(InvalidId::TooLong { max: 64 }));
        assert_eq!(ClientId::parse("a\0b"), Err(InvalidId::Nul));
    }

    #[test]
    fn a_temporary_id_names_its_bucket() {
        let bucket = Bucket::for_expiry(Timestamp(0), Timestamp(5_000));
        let id = ConversationId::temporary(bucket, u64::MAX);
        assert!(id.is_temporary());
        assert_eq!(id.bucket(), Some(bucket));
        assert_eq!(ConversationId::from_u64(id.as_u64()), Some(id));
        assert_eq!(ConversationId::lasting(u64::MAX).bucket(), None);
    }

    #[test]
    fn a_taken_id_leads_to_another_of_the_same_kind_and_bucket() {
        let bucket = Bucket::for_expiry(Timestamp(0), Timestamp(5_000));
        let id = ConversationId::temporary(bucket, u64::MAX);
        assert_eq!((id.when_taken().bucket(), id.when_taken() == id), (Some(bucket), false));
        let last = ConversationId::lasting(u64::MAX);
        assert!(!last.when_taken().is_temporary());
    }
}
