//! Emptying the process before it stops: every connection is told, has a grace
//! time to leave by itself, and is then closed; the owner waits until the last
//! one is gone.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The owner's handle: begins a drain and waits for its end.
pub struct Drain {
    signal: DrainSignal,
}

/// What listeners and connections hold: they learn of the drain through it and
/// are counted by it. Cheap to clone.
#[derive(Clone)]
pub struct DrainSignal {
    shared: Arc<Shared>,
}

/// Counts one open socket or connection task for as long as it lives.
pub struct Ticket {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` while the server runs; then the instant the grace time is over.
    until: watch::Sender<Option<Instant>>,
    /// How often `until` was set: read before anybody looks there, which takes a lock that all
    /// connections share.
    settings: AtomicUsize,
    open: watch::Sender<usize>,
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        let shared = Arc::new(Shared {
            until: watch::Sender::new(None),
            settings: AtomicUsize::new(0),
            open: watch::Sender::new(0),
        });
        Self { signal: DrainSignal { shared } }
    }

    /// A handle for a listener or a gateway.
    #[must_use]
    pub fn signal(&self) -> DrainSignal {
        self.signal.clone()
    }

    /// Tells every connection to leave and closes those that have not after
    /// `grace`. New connections are refused from now on. A second call can
    /// only shorten the grace.
    pub fn begin(&self, grace: Duration) {
        let wanted = Instant::now() + grace;
        self.signal.shared.until.send_if_modified(|until| {
            let sooner = until.is_none_or(|current| wanted < current);
            if sooner {
                *until = Some(wanted);
                self.signal.shared.settings.fetch_add(1, Ordering::Release);
            }
            sooner
        });
    }

    /// Waits until every tracked connection has ended, at most `timeout`.
    /// Returns whether they all have.
    pub async fn finished(&self, timeout: Duration) -> bool {
        let mut open = self.signal.shared.open.subscribe();
        let empty = open.wait_for(|open| *open == 0);
        tokio::time::timeout(timeout, empty).await.is_ok()
    }

    /// How many sockets and connection tasks are open.
    #[must_use]
    pub fn open(&self) -> usize {
        *self.signal.shared.open.borrow()
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl DrainSignal {
    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.until.borrow().is_some()
    }

    /// Counts something that the drain must wait for.
    #[must_use]
    pub fn track(&self) -> Ticket {
        self.shared.open.send_modify(|open| *open += 1);
        Ticket { shared: Arc::clone(&self.shared) }
    }

    /// Resolves when the drain begins; at once if it has.
    pub async fn begun(&self) {
        let mut until = self.shared.until.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        if until.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when the grace time is over.
    pub(crate) async fn grace_over(&self) {
        let mut watcher = self.watch();
        let mut until = watcher.changed().await;
        loop {
            tokio::select! {
                sooner = watcher.changed() => until = sooner,
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    /// A cursor over the begin and later changes of its deadline.
    pub(crate) fn watch(&self) -> DrainWatch {
        let mut receiver = self.shared.until.subscribe();
        receiver.mark_changed();
        DrainWatch { signal: self.clone(), seen: None, wait: Box::pin(changed(receiver)) }
    }
}

/// See [`DrainSignal::watch`].
pub(crate) struct DrainWatch {
    /// One wait for as long as nothing changes. To make one for each turn of a connection's loop would
    /// take a lock that all connections share, twice.
    wait: Pin<Box<dyn Future<Output = (Instant, Until)> + Send>>,
    /// How often the end was set, and who is to be woken, when the wait was looked at last.
    seen: Option<(usize, Waker)>,
    /// Keeps the sender alive, so that the wait cannot fail.
    signal: DrainSignal,
}

type Until = watch::Receiver<Option<Instant>>;

async fn changed(mut until: Until) -> (Instant, Until) {
    loop {
        if until.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let seen = *until.borrow_and_update();
        if let Some(at) = seen {
            return (at, until);
        }
    }
}

impl DrainWatch {
    /// The end of the grace time, each time it is set. Safe to cancel.
    pub(crate) async fn changed(&mut self) -> Instant {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// As [`Self::changed`], for a loop that polls by hand.
    pub(crate) fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let settings = self.signal.shared.settings.load(Ordering::Acquire);
        if self.seen.as_ref().is_some_and(|(seen, woken)| *seen == settings && woken.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.seen = None;
        let polled = self.wait.as_mut().poll(cx);
        if polled.is_pending() {
            self.seen = Some((settings, cx.waker().clone()));
        }
        let (at, until) = ready!(polled);
        self.wait = Box::pin(changed(until));
        Poll::Ready(at)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.open.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn finished_waits_for_the_last_ticket() {
        let drain = Drain::new();
        let signal = drain.signal();
        let tickets = [signal.track(), signal.track()];
        assert_eq!(drain.open(), 2);
        assert!(!drain.finished(Duration::from_secs(5)).await);
        drop(tickets);
        assert!(drain.finished(Duration::ZERO).await);
        assert_eq!(drain.open(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_signal_comes_before_or_after_the_watch() {
        let drain = Drain::new();
        let signal = drain.signal();
        let mut early = signal.watch();
        assert!(early.changed().now_or_never().is_none());
        assert!(!signal.is_draining());
        assert!(signal.begun().now_or_never().is_none());

        drain.begin(Duration::from_secs(7));
        let until = Instant::now() + Duration::from_secs(7);
        assert!(signal.is_draining());
        signal.begun().await;
        assert_eq!(early.changed().await, until);
        assert!(early.changed().now_or_never().is_none());
        assert_eq!(signal.watch().changed().await, until);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_begin_only_shortens() {
        let drain = Drain::new();
        let signal = drain.signal();
        let start = Instant::now();
        drain.begin(Duration::from_secs(10));
        drain.begin(Duration::from_secs(30));
        let mut watch = signal.watch();
        assert_eq!(watch.changed().await, start + Duration::from_secs(10));
        drain.begin(Duration::from_secs(2));
        assert_eq!(watch.changed().await, start + Duration::from_secs(2));
        signal.grace_over().await;
        assert_eq!(Instant::now(), start + Duration::from_secs(2));
    }
}
