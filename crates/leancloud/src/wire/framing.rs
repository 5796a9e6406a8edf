//! One WebSocket message is one command: protobuf in a binary message, or standard base64 of it in
//! a text message (subprotocols `lc.protobuf2.*` and `lc.proto2base64.*`).

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use posthouse_transport::Frame;
use prost::Message as _;
use prost::encoding::WireType;

use super::proto::GenericCommand;

/// Writes padding as every SDK expects it; takes base64 without it, which costs nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How commands are written on a connection. Inbound, both kinds are understood on either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Protobuf in binary messages.
    Binary,
    /// Base64 of protobuf in text messages.
    Base64,
}

/// A message that holds no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// A text message that is not base64.
    #[error("the text message is not base64")]
    Base64,
    /// Bytes that are not the protobuf of a command.
    #[error("the message is not a protobuf command")]
    Protobuf,
}

impl Framing {
    /// The frame that carries `command`.
    #[must_use]
    pub fn encode(self, command: &GenericCommand) -> Frame {
        let bytes = command.encode_to_vec();
        match self {
            Self::Binary => Frame::Binary(bytes.into()),
            Self::Base64 => Frame::text(BASE64.encode(bytes)),
        }
    }

    /// The frame that carries the command whose bytes, without a peer id, are `print`, to `peer`. It is
    /// what [`Self::encode`] makes of the whole command, without another look at its parts.
    #[must_use]
    pub fn address(self, print: &[u8], peer: &str) -> Frame {
        let (before, after) = print.split_at(before_peer_id(print));
        let mut bytes = Vec::with_capacity(print.len() + 1 + LENGTH_BYTES_MAX + peer.len());
        bytes.extend_from_slice(before);
        prost::encoding::encode_key(PEER_ID, WireType::LengthDelimited, &mut bytes);
        prost::encoding::encode_varint(peer.len() as u64, &mut bytes);
        bytes.extend_from_slice(peer.as_bytes());
        bytes.extend_from_slice(after);
        match self {
            Self::Binary => Frame::Binary(bytes.into()),
            Self::Base64 => Frame::text(BASE64.encode(bytes)),
        }
    }
}

/// The number of `peerId` in a command.
const PEER_ID: u32 = 4;
/// The bytes of the length of a peer id, which has 64 characters of at most four bytes.
const LENGTH_BYTES_MAX: usize = 2;

/// How many bytes of a push's print stand before its peer id: `cmd` and `op`, both numbers.
fn before_peer_id(print: &[u8]) -> usize {
    let mut rest = print;
    loop {
        let before = print.len() - rest.len();
        match prost::encoding::decode_key(&mut rest) {
            Ok((1..PEER_ID, WireType::Varint)) if prost::encoding::decode_varint(&mut rest).is_ok() => {}
            _ => return before,
        }
    }
}

/// The bytes of `command`.
#[must_use]
pub fn print(command: &GenericCommand) -> Bytes {
    command.encode_to_vec().into()
}

/// The command in `frame`.
pub fn decode(frame: &Frame) -> Result<GenericCommand, Unreadable> {
    let bytes = match frame {
        Frame::Binary(bytes) => bytes.clone(),
        Frame::Text(text) => Bytes::from(BASE64.decode(text.trim_ascii()).map_err(|_| Unreadable::Base64)?),
    };
    GenericCommand::decode(bytes).map_err(|_| Unreadable::Protobuf)
}

/// Binary content as the base64 text that history and conversation rows carry.
#[must_use]
pub fn base64_text(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::super::proto::{CommandType, DirectCommand, OpType, SessionCommand};
    use super::*;

    fn open() -> GenericCommand {
        GenericCommand {
            cmd: Some(CommandType::Session.into()),
            op: Some(OpType::Open.into()),
            app_id: Some("APP".to_owned()),
            peer_id: Some("tom".to_owned()),
            i: Some(-65_535),
            session_message: Some(SessionCommand {
                ua: Some("js/5.0.0-rc.8".to_owned()),
                r: Some(false),
                config_bitmap: Some(187),
                ..SessionCommand::default()
            }),
            ..GenericCommand::default()
        }
    }

    #[test]
    fn a_session_command_is_written_although_its_number_is_zero() {
        let Frame::Binary(bytes) = Framing::Binary.encode(&open()) else { panic!() };
        // Field 1, varint, value 0: JS and Java can't read a frame without it.
        assert_eq!(&bytes[..2], &[0x08, 0x00]);
    }

    proptest! {
        #[test]
        fn a_print_with_an_address_is_the_whole_command(
            cmd in 0..20_i32,
            op in proptest::option::of(1..300_i32),
            peer in "\\PC{1,64}",
            text in ".{0,300}",
        ) {
            let push = GenericCommand {
                cmd: Some(cmd),
                op,
                service: Some(2),
                direct_message: Some(DirectCommand { msg: Some(text.into()), ..DirectCommand::default() }),
                ..GenericCommand::default()
            };
            let printed = print(&push);
            let whole = GenericCommand { peer_id: Some(peer.clone()), ..push };
            for framing in [Framing::Binary, Framing::Base64] {
                prop_assert_eq!(framing.address(&printed, &peer), framing.encode(&whole));
            }
        }
    }

    #[test]
    fn both_framings_carry_the_same_command() {
        for framing in [Framing::Binary, Framing::Base64] {
            assert_eq!(decode(&framing.encode(&open())).unwrap(), open());
        }
        assert!(matches!(Framing::Base64.encode(&open()), Frame::Text(_)));
    }

    #[test]
    fn base64_without_padding_and_with_a_line_end_is_read() {
        let Frame::Text(text) = Framing::Base64.encode(&open()) else { panic!() };
        let mut bare = text.to_vec();
        bare.retain(|byte| *byte != b'=');
        bare.push(b'\n');
        assert_eq!(decode(&Frame::Text(bare.into())).unwrap(), open());
        assert_eq!(decode(&Frame::text("…")), Err(Unreadable::Base64));
    }

    #[test]
    fn fields_we_do_not_know_are_skipped() {
        let Frame::Binary(bytes) = Framing::Binary.encode(&open()) else { panic!() };
        let mut longer = bytes.to_vec();
        // Field 100, length-delimited, one byte: Java's LoginCommand.
        longer.extend_from_slice(&[0xa2, 0x06, 0x01, 0x00]);
        assert_eq!(decode(&Frame::Binary(longer.into())).unwrap(), open());
    }

    #[test]
    fn content_need_not_be_utf8_for_the_frame_to_be_read() {
        let command = GenericCommand {
            cmd: Some(CommandType::Direct.into()),
            direct_message: Some(DirectCommand {
                msg: Some(Bytes::from_static(b"\xed\xa0\xbd")),
                ..DirectCommand::default()
            }),
            ..GenericCommand::default()
        };
        assert_eq!(decode(&Framing::Binary.encode(&command)).unwrap(), command);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(command) = decode(&Frame::Binary(bytes.clone().into())) {
                let again = decode(&Framing::Binary.encode(&command)).unwrap();
                prop_assert_eq!(again, command);
            }
            prop_assert!(decode(&Frame::text(String::from_utf8_lossy(&bytes).into_owned())).is_err()
                || bytes.iter().all(u8::is_ascii));
        }

        #[test]
        fn damaged_commands_never_panic(at in 0usize..64, byte in any::<u8>()) {
            let Frame::Binary(bytes) = Framing::Binary.encode(&open()) else { panic!() };
            let mut damaged = bytes.to_vec();
            let at = at % damaged.len();
            damaged[at] = byte;
            let _read: Result<GenericCommand, Unreadable> = decode(&Frame::Binary(damaged.into()));
        }
    }
}
