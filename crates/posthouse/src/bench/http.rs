//! HTTP on connections that are kept: what a back end or an SDK with a connection pool does. Knows as much
//! of HTTP as our own server speaks, and parses nothing that it need not.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::connect::Dial;
use crate::peer::{self, Wire};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The server ends connections that were silent for ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(8);
/// The longest answer that is taken.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const READ_BYTES: usize = 16 << 10;

/// A connection that is made when needed and kept.
pub(super) struct Kept {
    dial: Dial,
    number: u32,
    stream: Option<(Box<dyn Wire>, Instant)>,
    buffer: Vec<u8>,
}

impl Kept {
    /// The `number`th connection by `dial`.
    pub(super) fn new(dial: Dial, number: u32) -> Self {
        Self { dial, number, stream: None, buffer: Vec::new() }
    }

    /// One request; status and body. `headers` end each with CR LF.
    pub(super) async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<(u16, &[u8]), peer::Error> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}").into_bytes();
        if !body.is_empty() {
            request.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        let what = || format!("the answer to {method} {path}");
        let (mut stream, _) = match self.stream.take().filter(|(_, used)| used.elapsed() < SILENCE_MAX) {
            Some(open) => open,
            None => (self.dial.stream(self.number).await?, Instant::now()),
        };
        let answer = timeout(PATIENCE, exchange(&mut stream, &request, &mut self.buffer)).await;
        let answer = answer.map_err(|_| peer::Error::TimedOut { what: what(), waited: PATIENCE })?;
        let (status, body) = answer.map_err(|source| peer::Error::Unreachable { address: what(), source })?;
        // Kept only when the answer was read to its end.
        self.stream = Some((stream, Instant::now()));
        Ok((status, &self.buffer[body..]))
    }
}

/// Sends a request and reads the answer into `buffer`; gives the status and where the body begins.
async fn exchange(
    stream: &mut Box<dyn Wire>,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> std::io::Result<(u16, usize)> {
    stream.write_all(request).await?;
    stream.flush().await?;
    buffer.clear();
    let mut head = None;
    loop {
        if head.is_none() {
            head = read_head(buffer)?;
        }
        if let Some(Head { status, body, length }) = head
            && buffer.len() >= body + length
        {
            buffer.truncate(body + length);
            return Ok((status, body));
        }
        if buffer.len() > ANSWER_BYTES_MAX {
            return Err(std::io::Error::other("the answer is too long"));
        }
        buffer.reserve(READ_BYTES);
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Head {
    status: u16,
    /// Where the body begins.
    body: usize,
    length: usize,
}

/// `None` as long as the head is not complete.
fn read_head(bytes: &[u8]) -> std::io::Result<Option<Head>> {
    const BLANK_LINE: &[u8] = b"\r\n\r\n";
    let strange = || std::io::Error::other("no HTTP answer that we understand");
    let Some(end) = bytes.windows(BLANK_LINE.len()).position(|window| window == BLANK_LINE) else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| strange())?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
    });
    let (Some(status), Some(length)) = (status, length) else { return Err(strange()) };
    Ok(Some(Head { status, body: end + BLANK_LINE.len(), length }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: x\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(read_head(&answer[..30]).unwrap(), None);
        assert_eq!(read_head(answer).unwrap(), Some(Head { status: 200, body: 55, length: 2 }));
        assert!(read_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(read_head(b"SSH-2.0 x\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn answers_in_pieces_are_put_together() {
        let (near, mut far) = tokio::io::duplex(64);
        let answering = async move {
            let mut request = [0; 64];
            let read = far.read(&mut request).await.unwrap();
            for piece in [&b"HTTP/1.1 201 Cre"[..], b"ated\r\ncontent-length: 4\r\n\r\nab", b"cd"] {
                far.write_all(piece).await.unwrap();
            }
            assert_eq!(&request[..read], b"GET / HTTP/1.1\r\n\r\n");
            far
        };
        let mut stream: Box<dyn Wire> = Box::new(near);
        let mut buffer = Vec::new();
        let asking = exchange(&mut stream, b"GET / HTTP/1.1\r\n\r\n", &mut buffer);
        let (answer, _far) = tokio::join!(asking, answering);
        let (status, body) = answer.unwrap();
        assert_eq!((status, &buffer[body..]), (201, &b"abcd"[..]));
    }
}
