//! The bounded queue between whoever has something to say to a connection and
//! the task that owns it. Pushing never blocks; the bound's behaviour is to
//! give the connection up as slow, because a sender never waits for a receiver.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::sync::mpsc;

/// A queue of at most `bound` pushes (at least one), which is full as well once its pushes keep
/// `bytes_max` bytes. Of pushes at the same moment, each finds it as it was before.
#[must_use]
pub fn send_queue<T>(bound: usize, bytes_max: usize) -> (Pusher<T>, Queue<T>) {
    let (sender, receiver) = mpsc::channel(bound.max(1));
    let overflow = Arc::new(Overflow {
        happened: AtomicBool::new(false),
        wake: AtomicWaker::new(),
        bytes: AtomicUsize::new(0),
        bytes_max: bytes_max.max(1),
    });
    let pusher = Pusher { sender, overflow: Arc::clone(&overflow) };
    let queue = Queue { receiver, overflow };
    (pusher, queue)
}

/// The sending side; cheap to clone and to share between threads.
pub struct Pusher<T> {
    sender: mpsc::Sender<Weighed<T>>,
    overflow: Arc<Overflow>,
}

/// The push was not accepted: the queue is full, was full once, or its
/// connection has ended. Either way the connection is gone or going, so there
/// is nothing to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed or too slow")]
pub struct Refused;

/// The receiving side, owned by the connection's task.
pub struct Queue<T> {
    receiver: mpsc::Receiver<Weighed<T>>,
    overflow: Arc<Overflow>,
}

/// A push and the bytes that it keeps.
struct Weighed<T> {
    item: T,
    bytes: usize,
}

/// The bound was hit: said once, never taken back.
pub(crate) struct Overflow {
    happened: AtomicBool,
    wake: AtomicWaker,
    /// What waiting pushes keep.
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Overflow {
    fn happen(&self) {
        self.happened.store(true, Ordering::Release);
        self.wake.wake();
    }

    /// Resolves when a push found the queue full. Only one task may wait at a
    /// time. Safe to cancel.
    pub(crate) async fn happened(&self) {
        poll_fn(|cx| self.poll_happened(cx)).await;
    }

    /// As [`Self::happened`], for a loop that polls by hand.
    pub(crate) fn poll_happened(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.wake.register(cx.waker());
        if self.happened.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T> Pusher<T> {
    /// Puts `item`, which keeps about `bytes` bytes, into the queue without ever
    /// waiting. A full queue marks the connection as slow, which ends it with
    /// [`crate::End::Slow`] even while it is blocked in a write.
    ///
    /// # Errors
    /// [`Refused`] when the connection is slow or has ended.
    pub fn try_push(&self, item: T, bytes: usize) -> Result<(), Refused> {
        let overflow = &self.overflow;
        if overflow.happened.load(Ordering::Acquire) {
            return Err(Refused);
        }
        // Before the push, so that whoever takes it takes off what was put on.
        if overflow.bytes.fetch_add(bytes, Ordering::Relaxed) >= overflow.bytes_max {
            overflow.happen();
            return Err(Refused);
        }
        match self.sender.try_send(Weighed { item, bytes }) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                overflow.happen();
                Err(Refused)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Refused),
        }
    }

    /// Whether pushes are refused for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.overflow.happened.load(Ordering::Acquire)
    }

    /// How many pushes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// Whether no push waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Pusher<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), overflow: Arc::clone(&self.overflow) }
    }
}

impl<T> Queue<T> {
    /// The next push; `None` once the queue is empty and every [`Pusher`] is
    /// gone. Safe to cancel.
    pub async fn recv(&mut self) -> Option<T> {
        let weighed = self.receiver.recv().await?;
        Some(self.taken(weighed))
    }

    /// As [`Self::recv`], for a loop that polls by hand.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.receiver.poll_recv(cx).map(|weighed| Some(self.taken(weighed?)))
    }

    /// The next push if one waits.
    pub fn try_recv(&mut self) -> Option<T> {
        let weighed = self.receiver.try_recv().ok()?;
        Some(self.taken(weighed))
    }

    fn taken(&self, Weighed { item, bytes }: Weighed<T>) -> T {
        self.overflow.bytes.fetch_sub(bytes, Ordering::Relaxed);
        item
    }

    /// Resolves when a push found the queue full. Safe to cancel.
    pub async fn overflowed(&self) {
        self.overflow.happened().await;
    }

    /// The overflow alone, to wait for beside [`Self::recv`].
    pub(crate) fn overflow(&self) -> Arc<Overflow> {
        Arc::clone(&self.overflow)
    }

    /// How many pushes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether no push waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const BYTES: usize = 1_000;

    #[test]
    fn order_is_kept_and_depth_is_seen() {
        let (pusher, mut queue) = send_queue(4, BYTES);
        for item in 0..3 {
            pusher.try_push(item, 1).unwrap();
        }
        assert_eq!((pusher.len(), queue.len()), (3, 3));
        assert_eq!(queue.try_recv(), Some(0));
        assert_eq!(queue.recv().now_or_never(), Some(Some(1)));
        assert_eq!(pusher.len(), 1);
        assert!(!pusher.is_empty() && !queue.is_empty());
    }

    #[test]
    fn a_full_queue_refuses_for_good_and_wakes_its_owner() {
        let (pusher, mut queue) = send_queue(1, BYTES);
        pusher.try_push(1, 1).unwrap();
        assert!(queue.overflowed().now_or_never().is_none());
        assert_eq!(pusher.try_push(2, 1), Err(Refused));
        assert!(queue.overflowed().now_or_never().is_some());
        assert!(queue.overflowed().now_or_never().is_some(), "asked twice, answered twice");
        assert_eq!(queue.try_recv(), Some(1));
        assert_eq!(pusher.try_push(3, 1), Err(Refused), "room again, but the connection is lost");
        assert!(pusher.is_closed());
    }

    #[test]
    fn a_queue_is_full_when_it_keeps_too_many_bytes() {
        let (pusher, mut queue) = send_queue(100, 1_000);
        for _ in 0..50 {
            // What was taken no longer counts.
            pusher.try_push('a', 900).unwrap();
            assert_eq!(queue.try_recv(), Some('a'));
        }
        // One that is larger than the bound passes, or it never could.
        pusher.try_push('b', 5_000).unwrap();
        assert_eq!(pusher.try_push('c', 1), Err(Refused));
        assert!(queue.overflowed().now_or_never().is_some());
        assert_eq!(queue.try_recv(), Some('b'));
        assert_eq!(pusher.try_push('d', 1), Err(Refused), "room again, but the connection is lost");
    }

    #[test]
    fn a_dropped_queue_refuses() {
        let (pusher, queue) = send_queue(1, BYTES);
        assert!(!pusher.is_closed());
        drop(queue);
        assert_eq!(pusher.try_push(1, 1), Err(Refused));
        assert!(pusher.is_closed());
    }

    #[test]
    fn a_bound_of_zero_still_carries_one() {
        let (pusher, mut queue) = send_queue(0, BYTES);
        pusher.try_push('a', 1).unwrap();
        assert_eq!(queue.try_recv(), Some('a'));
        drop(pusher);
        assert_eq!(queue.recv().now_or_never(), Some(None));
    }
}
