//! WebSocket frames of a client, of the kind that our doors speak: whole messages, no extension.

/// A message.
pub(crate) const BINARY: u8 = 2;
/// The end of the connection.
pub(crate) const CLOSE: u8 = 8;
/// Asks for a pong.
pub(crate) const PING: u8 = 9;
/// Answers a ping.
pub(crate) const PONG: u8 = 10;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Longer frames are taken for nonsense.
const FRAME_BYTES_MAX: u64 = 16 << 20;

/// A frame from the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
}

/// Appends a frame as clients write it, masked.
pub(crate) fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: u32) {
    out.push(FINAL | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => out.push(MASKED | short),
        (_, Ok(middle)) => {
            out.push(MASKED | 126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    let begin = out.len() + size_of::<u32>();
    out.extend_from_slice(&mask.to_be_bytes());
    out.extend_from_slice(payload);
    // Eight at a time: a byte at a time was a third of what a message costs us outside the kernel.
    let twice = u64::from(mask) << 32 | u64::from(mask);
    let (eights, rest) = out[begin..].as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_be_bytes(*eight) ^ twice).to_be_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(twice.to_be_bytes()) {
        *byte ^= key;
    }
}

/// The first frame of `bytes` and how long it is; `None` while it is not whole.
pub(crate) fn take(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, &'static str> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & FINAL == 0 || first & 0x70 != 0 {
        return Err("a frame in parts or with an extension");
    }
    if second & MASKED != 0 {
        return Err("a masked frame from the server");
    }
    let (length, rest) = match second {
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        short => (u64::from(*short), rest),
    };
    if length > FRAME_BYTES_MAX {
        return Err("a frame longer than any answer");
    }
    let length = usize::try_from(length).map_err(|_| "a frame longer than any answer")?;
    let head = bytes.len() - rest.len();
    Ok(rest.get(..length).map(|payload| (Frame { opcode: first & 0x0F, payload }, head + length)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// What a server reads: the opcode and the unmasked payload.
    fn unmasked(frame: &[u8]) -> (u8, Vec<u8>) {
        let (head, length) = match frame[1] & 0x7F {
            126 => (4, usize::from(u16::from_be_bytes([frame[2], frame[3]]))),
            127 => (10, usize::try_from(u64::from_be_bytes(frame[2..10].try_into().unwrap())).unwrap()),
            short => (2, usize::from(short)),
        };
        assert_eq!((frame[0] & FINAL, frame[1] & MASKED, frame.len()), (FINAL, MASKED, head + 4 + length));
        let mask = &frame[head..head + 4];
        let payload = frame[head + 4..].iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key);
        (frame[0] & 0x0F, payload.collect())
    }

    #[test]
    fn a_server_reads_what_is_put() {
        for length in [0, 1, 5, 125, 126, 127, 65_535, 65_536] {
            let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
            let mut out = Vec::new();
            put(&mut out, BINARY, &payload, 0x1234_5678);
            assert_eq!(unmasked(&out), (BINARY, payload), "{length}");
        }
    }

    /// As a server writes it.
    fn served(length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, BINARY, &vec![7; length], 0);
        out[1] &= !MASKED;
        let head = out.len() - length - 4;
        out.drain(head..head + 4);
        out
    }

    #[test]
    fn frames_are_taken_when_they_are_whole() {
        for length in [0, 125, 126, 65_536] {
            let mut bytes = served(length);
            for end in [0, 1, 2, bytes.len() - 1] {
                assert_eq!(take(&bytes[..end.min(bytes.len() - 1)]), Ok(None), "{length}");
            }
            let whole = bytes.len();
            bytes.extend_from_slice(b"next");
            let (frame, taken) = take(&bytes).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.payload.len(), taken), (BINARY, length, whole));
        }
    }

    #[test]
    fn what_our_doors_never_send_is_refused() {
        assert!(take(&[0x02, 0]).is_err());
        assert!(take(&[0xC2, 0]).is_err());
        assert!(take(&[0x82, 0x80]).is_err());
        assert!(take(&[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255]).is_err());
    }
}
