//! A bounded queue between async callers and the engine's own threads.
//!
//! Callers never wait: a full queue refuses. The taking side waits with a condition variable, for
//! one item or for a crowd of them, which a channel can't express.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Why an item was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// As many wait as are allowed to.
    Full,
    /// Nobody takes items any more.
    Closed,
}

/// What a waiting thread woke up for.
pub(super) enum Woken<T> {
    /// An item.
    Item(T),
    /// Somebody called [`Queue::nudge`] since this thread last looked.
    Nudge,
    /// No item will ever come.
    Closed,
}

/// The queue.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    bound: usize,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
    nudges: u64,
    /// A push below this length wakes nobody: the taker waits for a crowd or for its time.
    wake_at: usize,
}

impl<T> Queue<T> {
    pub(super) fn new(bound: usize) -> Self {
        let state = State { items: VecDeque::new(), closed: false, nudges: 0, wake_at: 1 };
        Self { state: Mutex::new(state), ready: Condvar::new(), bound }
    }

    /// Adds an item; returns how many wait now.
    pub(super) fn push(&self, item: T) -> Result<usize, Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.items.len() >= self.bound {
            return Err(Refused::Full);
        }
        Ok(self.push_locked(&mut state, item))
    }

    /// Adds the last item, beyond the bound if need be. `false` if the queue was closed before.
    pub(super) fn push_last(&self, item: T) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        self.push_locked(&mut state, item);
        state.closed = true;
        self.ready.notify_all();
        true
    }

    /// Takes no more items. What waits already is still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// Wakes every thread in [`Self::next`] once.
    pub(super) fn nudge(&self) {
        self.lock().nudges += 1;
        self.ready.notify_all();
    }

    /// Waits for an item. `seen_nudges` is the thread's own memory of nudges.
    pub(super) fn next(&self, seen_nudges: &mut u64) -> Woken<T> {
        let mut state = self.lock();
        loop {
            if state.nudges != *seen_nudges {
                *seen_nudges = state.nudges;
                return Woken::Nudge;
            }
            if let Some(item) = state.items.pop_front() {
                return Woken::Item(item);
            }
            if state.closed {
                return Woken::Closed;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for one item, then takes up to `max`. If fewer than `crowd` are there, waits for more
    /// until `not_before`. Without an item until `latest`, none is returned. `None` once the queue is
    /// closed and empty.
    pub(super) fn collect(
        &self,
        max: usize,
        crowd: usize,
        not_before: Option<Instant>,
        latest: Option<Instant>,
    ) -> Option<Vec<T>> {
        let mut state = self.lock();
        while state.items.is_empty() {
            if state.closed {
                return None;
            }
            state = match latest.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Some(Vec::new()),
                Some(left) => self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        while let Some(left) = not_before.map(|at| at.saturating_duration_since(Instant::now())) {
            if left == Duration::ZERO || state.items.len() >= crowd || state.closed {
                break;
            }
            state.wake_at = crowd;
            let (locked, _) = self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = locked;
        }
        state.wake_at = 1;
        let taken = state.items.len().min(max);
        Some(state.items.drain(..taken).collect())
    }

    fn push_locked(&self, state: &mut State<T>, item: T) -> usize {
        state.items.push_back(item);
        if state.items.len() >= state.wake_at {
            self.ready.notify_one();
        }
        state.items.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        // A panic can't leave the state half-changed: nothing in here calls foreign code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
