//! A bounded queue between async callers and the engine's own threads.
//!
//! Callers never wait: a full queue refuses. The taking side waits with a condition variable, for
//! one item or for a crowd of them, which a channel can't express.
//!
//! A queue may be *stepped* ([`Pace::Stepped`]): its taker then rests until somebody says how many items
//! it may take, and that somebody waits until it rests again. So one of the two runs at any time, and a
//! simulation decides in which order things happen.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::open::Pace;

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
    /// Only there when the queue is stepped.
    steps: Option<Steps>,
}

/// How far the taker of a stepped queue may go.
#[derive(Default)]
struct Steps {
    /// Items that it may take.
    granted: usize,
    /// It waits, and will wait until something is granted.
    resting: bool,
    /// Nobody is to have what is left: whoever steps it decides what still happens.
    abandoned: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(bound: usize, pace: Pace) -> Self {
        let steps = match pace {
            Pace::Free => None,
            Pace::Stepped => Some(Steps::default()),
        };
        let state = State { items: VecDeque::new(), closed: false, nudges: 0, wake_at: 1, steps };
        Self { state: Mutex::new(state), ready: Condvar::new(), bound }
    }

    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Lets the taker of a stepped queue take up to `max` items, and waits until it is done with them.
    /// Returns how many it took; none of a queue that isn't stepped.
    pub(super) fn step(&self, max: usize) -> usize {
        let mut state = self.rested(self.lock());
        let wait = state.items.len();
        let Some(steps) = state.steps.as_mut().filter(|steps| max > 0 && wait > 0 && !steps.abandoned) else {
            return 0;
        };
        (steps.granted, steps.resting) = (max.min(wait), false);
        let taken = steps.granted;
        self.ready.notify_all();
        drop(self.rested(state));
        taken
    }

    /// Waits until the taker of a stepped queue rests, or will never take again.
    fn rested<'a>(&self, mut state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        while state.steps.as_ref().is_some_and(|steps| !steps.resting && !steps.abandoned) {
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
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

    /// Takes no more items. What waits already is still handed out, but not by a stepped queue: it is
    /// whoever steps it who decides what still happens.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(steps) = &mut state.steps {
            steps.abandoned = true;
        }
        drop(state);
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
            if state.must_rest() {
                state = self.rest(state);
                continue;
            }
            if state.nudges != *seen_nudges {
                *seen_nudges = state.nudges;
                return Woken::Nudge;
            }
            if let Some(item) = state.take_one() {
                return Woken::Item(item);
            }
            if state.closed {
                self.ready.notify_all();
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
        while state.must_rest() {
            state = self.rest(state);
        }
        if state.steps.is_some() {
            let taken = state.grant(max);
            if taken == 0 {
                self.ready.notify_all();
                return None;
            }
            return Some(state.items.drain(..taken).collect());
        }
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
        if state.steps.is_none() && state.items.len() >= state.wake_at {
            self.ready.notify_one();
        }
        state.items.len()
    }

    /// The taker of a stepped queue rests until something is granted, or the queue is closed.
    fn rest<'a>(&self, mut state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        if let Some(steps) = &mut state.steps {
            steps.resting = true;
        }
        self.ready.notify_all();
        self.ready.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic can't leave the state half-changed: nothing in here calls foreign code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// Whether the taker of a stepped queue has had what it was granted, and more may come.
    fn must_rest(&self) -> bool {
        let is_done = self.closed && self.items.is_empty();
        self.steps.as_ref().is_some_and(|steps| steps.granted == 0 && !steps.abandoned && !is_done)
    }

    /// How many of `max` items the taker of a stepped queue may take now; they count as taken.
    fn grant(&mut self, max: usize) -> usize {
        let Some(steps) = &mut self.steps else { return max.min(self.items.len()) };
        let taken = if steps.abandoned { 0 } else { steps.granted.min(max).min(self.items.len()) };
        steps.granted -= taken;
        if self.closed && taken == 0 {
            // It never comes back to rest.
            steps.abandoned = true;
        }
        taken
    }

    fn take_one(&mut self) -> Option<T> {
        if self.grant(1) == 0 { None } else { self.items.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_stepped_queue_hands_out_what_is_granted_and_waits_until_that_is_done() {
        let queue = Arc::new(Queue::new(8, Pace::Stepped));
        let done = Arc::new(Mutex::new(Vec::new()));
        let taker = std::thread::spawn({
            let (queue, done) = (Arc::clone(&queue), Arc::clone(&done));
            move || {
                while let Some(items) = queue.collect(8, 1, None, None) {
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(items);
                }
            }
        });
        let seen = || done.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(queue.step(5), 0, "nothing waits");
        for item in 1..=6 {
            assert!(queue.push(item).is_ok());
        }
        assert_eq!((queue.step(0), queue.len(), seen()), (0, 6, Vec::new()));
        assert_eq!((queue.step(2), queue.len(), seen()), (2, 4, vec![vec![1, 2]]));
        assert_eq!((queue.step(1), queue.len(), seen()), (1, 3, vec![vec![1, 2], vec![3]]));
        // The last one is done when it is asked for, and what nobody asked for is not.
        assert!(queue.push_last(7) && queue.push(8).is_err());
        assert_eq!((queue.step(1), queue.len(), seen().len()), (1, 3, 3));
        queue.close();
        assert!(taker.join().is_ok());
        assert_eq!((queue.step(9), seen()), (0, vec![vec![1, 2], vec![3], vec![4]]));
    }

    #[test]
    fn a_stepped_queue_ends_with_its_last_item() {
        let queue = Arc::new(Queue::new(8, Pace::Stepped));
        let taker = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || std::iter::from_fn(|| queue.collect(8, 1, None, None)).flatten().collect::<Vec<i32>>()
        });
        assert!(queue.push(1).is_ok() && queue.push_last(2));
        assert_eq!((queue.step(1), queue.step(1), queue.step(1)), (1, 1, 0));
        assert_eq!(taker.join().ok(), Some(vec![1, 2]));
    }

    #[test]
    fn a_stepped_taker_of_single_items_rests_between_them() {
        let queue = Arc::new(Queue::new(8, Pace::Stepped));
        let done = Arc::new(Mutex::new(Vec::new()));
        let taker = std::thread::spawn({
            let (queue, done) = (Arc::clone(&queue), Arc::clone(&done));
            move || {
                let mut nudges = 0;
                loop {
                    let word = match queue.next(&mut nudges) {
                        Woken::Item(item) => item,
                        Woken::Nudge => 0,
                        Woken::Closed => return,
                    };
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(word);
                }
            }
        });
        let seen = || done.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for item in 1..=3 {
            assert!(queue.push(item).is_ok());
        }
        assert_eq!((queue.step(1), seen()), (1, vec![1]));
        queue.nudge();
        assert_eq!(seen(), [1], "a nudge waits for the next step");
        assert_eq!((queue.step(1), seen()), (1, vec![1, 0, 2]));
        queue.close();
        assert!(taker.join().is_ok());
        assert_eq!(seen(), [1, 0, 2]);
    }
}
