//! The bounded queue between whoever has something to say to a connection and
//! the task that owns it. Pushing never blocks; the bound's behaviour is to
//! give the connection up as slow, because a sender never waits for a receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, mpsc};

/// A queue of at most `bound` pushes (at least one).
#[must_use]
pub fn send_queue<T>(bound: usize) -> (Pusher<T>, Queue<T>) {
    let (sender, receiver) = mpsc::channel(bound.max(1));
    let overflow = Arc::new(Overflow { happened: AtomicBool::new(false), wake: Notify::new() });
    let pusher = Pusher { sender, overflow: Arc::clone(&overflow) };
    let queue = Queue { receiver, overflow };
    (pusher, queue)
}

/// The sending side; cheap to clone and to share between threads.
pub struct Pusher<T> {
    sender: mpsc::Sender<T>,
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
    receiver: mpsc::Receiver<T>,
    overflow: Arc<Overflow>,
}

/// The bound was hit: said once, never taken back.
pub(crate) struct Overflow {
    happened: AtomicBool,
    wake: Notify,
}

impl Overflow {
    /// Resolves when a push found the queue full. Only one task may wait at a
    /// time. Safe to cancel.
    pub(crate) async fn happened(&self) {
        while !self.happened.load(Ordering::Acquire) {
            self.wake.notified().await;
        }
    }
}

impl<T> Pusher<T> {
    /// Puts `item` into the queue without ever waiting. A full queue marks the
    /// connection as slow, which ends it with [`crate::End::Slow`] even while
    /// it is blocked in a write.
    ///
    /// # Errors
    /// [`Refused`] when the connection is slow or has ended.
    pub fn try_push(&self, item: T) -> Result<(), Refused> {
        if self.overflow.happened.load(Ordering::Acquire) {
            return Err(Refused);
        }
        match self.sender.try_send(item) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.overflow.happened.store(true, Ordering::Release);
                self.overflow.wake.notify_one();
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
        self.receiver.recv().await
    }

    /// The next push if one waits.
    pub fn try_recv(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
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

    #[test]
    fn order_is_kept_and_depth_is_seen() {
        let (pusher, mut queue) = send_queue(4);
        for item in 0..3 {
            pusher.try_push(item).unwrap();
        }
        assert_eq!((pusher.len(), queue.len()), (3, 3));
        assert_eq!(queue.try_recv(), Some(0));
        assert_eq!(queue.recv().now_or_never(), Some(Some(1)));
        assert_eq!(pusher.len(), 1);
        assert!(!pusher.is_empty() && !queue.is_empty());
    }

    #[test]
    fn a_full_queue_refuses_for_good_and_wakes_its_owner() {
        let (pusher, mut queue) = send_queue(1);
        pusher.try_push(1).unwrap();
        assert!(queue.overflowed().now_or_never().is_none());
        assert_eq!(pusher.try_push(2), Err(Refused));
        assert!(queue.overflowed().now_or_never().is_some());
        assert!(queue.overflowed().now_or_never().is_some(), "asked twice, answered twice");
        assert_eq!(queue.try_recv(), Some(1));
        assert_eq!(pusher.try_push(3), Err(Refused), "room again, but the connection is lost");
        assert!(pusher.is_closed());
    }

    #[test]
    fn a_dropped_queue_refuses() {
        let (pusher, queue) = send_queue(1);
        assert!(!pusher.is_closed());
        drop(queue);
        assert_eq!(pusher.try_push(1), Err(Refused));
        assert!(pusher.is_closed());
    }

    #[test]
    fn a_bound_of_zero_still_carries_one() {
        let (pusher, mut queue) = send_queue(0);
        pusher.try_push('a').unwrap();
        assert_eq!(queue.try_recv(), Some('a'));
        drop(pusher);
        assert_eq!(queue.recv().now_or_never(), Some(None));
    }
}
