//! The compressed stream that the Web SDK offers (client 2.1): every message is
//! `varint(plain length) ‖ CRC-32 of the plain bytes, big endian ‖ LZ4 block`, and matches of a block
//! may reach back into the messages before it in the same direction, up to 64 KiB.

use bytes::Bytes;
use lz4_flex::block::{compress, compress_with_dict, decompress_into_with_dict};

use super::raw::{put_varint, take_varint};

/// How far back matches reach.
const HISTORY_BYTES: usize = 64 * 1024;

/// What the Web SDK sets as the longest plain message; the server's own limit is lower.
pub const PLAIN_BYTES_MAX: usize = 268_435_455;

/// An LZ4 block holds at most this many plain bytes for each of its own.
const RATIO_MAX: usize = 255;

/// The encoder looks at four bytes at a time; a shorter history is of no use to it.
const MATCH_BYTES_MIN: usize = 4;

/// A message that can't be unpacked. The stream is out of step then: the connection must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Corrupt {
    /// Too short for a length and a checksum.
    #[error("the compressed message has no length and checksum")]
    Header,
    /// The plain message would be longer than allowed.
    #[error("the plain message has {0} bytes, which is more than allowed")]
    TooLong(u64),
    /// The block is not LZ4, reaches back too far, or does not hold what the length says.
    #[error("the block is not LZ4 of the length given")]
    Block,
    /// The plain bytes have another checksum.
    #[error("the plain message has another checksum")]
    Checksum,
}

/// Unpacks the messages of one direction of one connection, in their order.
#[derive(Debug)]
pub struct Decoder {
    plain_max: usize,
    history: History,
}

impl Decoder {
    /// For plain messages of at most `plain_max` bytes.
    #[must_use]
    pub fn new(plain_max: usize) -> Self {
        Self { plain_max: plain_max.min(PLAIN_BYTES_MAX), history: History::default() }
    }

    /// The plain bytes of `message`. What is too long is refused before memory is taken for it.
    pub fn decode(&mut self, message: &[u8]) -> Result<Bytes, Corrupt> {
        let mut block = message;
        let length = take_varint(&mut block).ok_or(Corrupt::Header)?;
        let length = match usize::try_from(length) {
            Ok(plain) if plain <= self.plain_max => plain,
            Ok(_) | Err(_) => return Err(Corrupt::TooLong(length)),
        };
        let (checksum, block) = block.split_first_chunk().ok_or(Corrupt::Header)?;
        // Literals take one byte more per 255, and a block at most a few beyond them.
        let is_possible = length <= block.len().saturating_mul(RATIO_MAX)
            && block.len() <= length + length / RATIO_MAX + 16;
        if !is_possible {
            return Err(Corrupt::Block);
        }
        let mut plain = vec![0; length];
        let written =
            decompress_into_with_dict(block, &mut plain, &self.history.0).map_err(|_| Corrupt::Block)?;
        if written != length {
            return Err(Corrupt::Block);
        }
        if crc32fast::hash(&plain) != u32::from_be_bytes(*checksum) {
            return Err(Corrupt::Checksum);
        }
        self.history.push(&plain);
        Ok(plain.into())
    }
}

/// Packs the messages of one direction of one connection, in their order.
#[derive(Debug, Default)]
pub struct Encoder {
    history: History,
}

impl Encoder {
    /// `plain` as one message of the stream.
    pub fn encode(&mut self, plain: &[u8]) -> Bytes {
        let mut message = Vec::new();
        put_varint(&mut message, plain.len() as u64);
        message.extend_from_slice(&crc32fast::hash(plain).to_be_bytes());
        message.extend_from_slice(&if self.history.0.len() < MATCH_BYTES_MIN {
            compress(plain)
        } else {
            compress_with_dict(plain, &self.history.0)
        });
        self.history.push(plain);
        message.into()
    }
}

/// The last plain bytes of a direction.
#[derive(Debug, Default)]
struct History(Vec<u8>);

impl History {
    fn push(&mut self, plain: &[u8]) {
        let new = &plain[plain.len().saturating_sub(HISTORY_BYTES)..];
        let surplus = (self.0.len() + new.len()).saturating_sub(HISTORY_BYTES);
        self.0.drain(..surplus);
        self.0.extend_from_slice(new);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    /// A message from its parts.
    fn message(length: u64, checksum: u32, block: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        put_varint(&mut message, length);
        message.extend_from_slice(&checksum.to_be_bytes());
        message.extend_from_slice(block);
        message
    }

    #[test]
    fn a_block_written_by_hand_is_read() {
        // Token: one literal and a match of four or more; "a"; offset 1; then five literals.
        let block = [0x13, b'a', 0x01, 0x00, 0x50, b'b', b'c', b'd', b'e', b'f'];
        let plain = b"aaaaaaaabcdef";
        let mut decoder = Decoder::new(MAX);
        assert_eq!(decoder.decode(&message(13, crc32fast::hash(plain), &block)).unwrap(), plain.as_slice());
        // 13 bytes back: the whole message before; nothing but a match and five literals.
        let block = [0x04, 0x0d, 0x00, 0x50, b'b', b'c', b'd', b'e', b'f'];
        assert_eq!(decoder.decode(&message(13, crc32fast::hash(plain), &block)).unwrap(), plain.as_slice());
        // 27 bytes back: before the beginning.
        let block = [0x04, 0x1b, 0x00, 0x50, b'b', b'c', b'd', b'e', b'f'];
        assert_eq!(decoder.decode(&message(13, crc32fast::hash(plain), &block)), Err(Corrupt::Block));
    }

    #[test]
    fn the_checksum_is_big_endian_and_of_the_plain_bytes() {
        // The check value of CRC-32: 0xcbf43926 for the nine digits.
        let message = Encoder::default().encode(b"123456789");
        assert_eq!(&message[..5], &[9, 0xcb, 0xf4, 0x39, 0x26]);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_unpacked() {
        let mut decoder = Decoder::new(100);
        assert_eq!(decoder.decode(&message(101, 0, &[0; 50])), Err(Corrupt::TooLong(101)));
        assert_eq!(decoder.decode(&message(u64::MAX, 0, &[])), Err(Corrupt::TooLong(u64::MAX)));
        assert_eq!(Decoder::new(usize::MAX).decode(&message(200_000_000, 0, &[0; 9])), Err(Corrupt::Block));
    }

    #[test]
    fn damage_is_named() {
        let mut decoder = Decoder::new(MAX);
        assert_eq!(decoder.decode(b""), Err(Corrupt::Header));
        assert_eq!(decoder.decode(&[5, 1, 2, 3]), Err(Corrupt::Header));
        let good = Encoder::default().encode(b"hello");
        let mut bad = good.to_vec();
        bad[1] ^= 1;
        assert_eq!(decoder.decode(&bad), Err(Corrupt::Checksum));
        bad.clear();
        bad.extend_from_slice(&good);
        bad[0] = 6;
        assert_eq!(decoder.decode(&bad), Err(Corrupt::Block));
        assert_eq!(decoder.decode(&good).unwrap(), b"hello".as_slice());
    }

    #[test]
    fn history_is_used_and_bounded() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(MAX));
        let plain: Vec<u8> =
            (0..70_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        for part in [&plain[..1_000], &plain[500..1_500], &plain[..200_000], &plain[150_000..]] {
            assert_eq!(decoder.decode(&encoder.encode(part)).unwrap(), part);
        }
        assert_eq!(decoder.history.0.len(), HISTORY_BYTES);
        let again = encoder.encode(&plain[270_000..]);
        assert!(again.len() < 200, "{} bytes for what was just sent", again.len());
        assert_eq!(decoder.decode(&again).unwrap(), &plain[270_000..]);
    }

    proptest! {
        #[test]
        fn streams_come_back(messages in proptest::collection::vec("[ab]{0,40}|.{0,40}", 0..12)) {
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(MAX));
            for plain in &messages {
                let unpacked = decoder.decode(&encoder.encode(plain.as_bytes())).unwrap();
                prop_assert_eq!(&unpacked, plain.as_bytes());
            }
        }

        #[test]
        fn any_bytes_are_safe(
            before in ".{0,40}", length in 0_u64..600, block in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            let mut decoder = Decoder::new(512);
            decoder.decode(&Encoder::default().encode(before.as_bytes())).unwrap();
            if let Ok(plain) = decoder.decode(&block) {
                prop_assert!(plain.len() <= 512);
            }
            prop_assert!(decoder.decode(&message(length, 0, &block)).is_err() || length == 0);
        }
    }
}
