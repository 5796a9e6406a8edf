//! Two ends of a connection in memory, with a bound for what is on the way, that can be cut.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes on the way in one direction; who doesn't read soon keeps the other from writing.
const WAY_BYTES_MAX: usize = 1024;

/// One end.
pub(super) struct Pipe {
    ways: Arc<Mutex<[Way; 2]>>,
    /// Which way this end writes to.
    side: usize,
}

/// Cuts a connection from outside.
#[derive(Clone)]
pub(super) struct Scissors(Arc<Mutex<[Way; 2]>>);

#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Way {
    fn close(&mut self) {
        self.closed = true;
        self.wake();
    }

    fn wake(&mut self) {
        for waker in self.reader.take().into_iter().chain(self.writer.take()) {
            waker.wake();
        }
    }
}

/// Both ends of a connection, and what cuts it.
#[must_use]
pub(super) fn pipe() -> (Pipe, Pipe, Scissors) {
    let ways = Arc::new(Mutex::new([Way::default(), Way::default()]));
    (Pipe { ways: ways.clone(), side: 0 }, Pipe { ways: ways.clone(), side: 1 }, Scissors(ways))
}

impl Scissors {
    /// Ends the connection; what is on the way is lost.
    pub(super) fn cut(&self) {
        for way in locked(&self.0).iter_mut() {
            way.bytes.clear();
            way.close();
        }
    }
}

fn locked(ways: &Mutex<[Way; 2]>) -> MutexGuard<'_, [Way; 2]> {
    ways.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let way = &mut locked(&self.ways)[1 - self.side];
        if way.bytes.is_empty() && !way.closed {
            way.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = way.bytes.len().min(buf.remaining());
        for byte in way.bytes.drain(..taken) {
            buf.put_slice(&[byte]);
        }
        way.wake();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let way = &mut locked(&self.ways)[self.side];
        if way.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WAY_BYTES_MAX - way.bytes.len();
        if room == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = room.min(buf.len());
        way.bytes.extend(&buf[..taken]);
        way.wake();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        locked(&self.ways)[self.side].close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for way in locked(&self.ways).iter_mut() {
            way.close();
        }
    }
}
