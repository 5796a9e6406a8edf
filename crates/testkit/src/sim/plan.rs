//! What happens in a run: a list of acts, drawn from a seed, that can be printed and thinned out.
//!
//! Acts name devices, conversations and messages by numbers that are taken modulo what there is, so that
//! a plan stays a plan whatever is taken out of it.

use std::fmt;

use posthouse_core::time::Chance as _;

use crate::time::SeededChance;

/// Numbers that repeat with their seed.
pub struct Dice(SeededChance);

impl Dice {
    /// Dice from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let dice = SeededChance::new(seed);
        // Seeds that lie beside each other begin with unlike numbers.
        Self(SeededChance::new(dice.bits()))
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.0.bits() % bound).unwrap_or_default()
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or_default()
    }
}

/// What kind of conversation is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Any number of the same members may exist.
    Group,
    /// One for the same members.
    Unique,
    /// It ends after so many seconds.
    Temporary(u16),
}

/// One thing that happens. `who` is a device, `talk` a conversation of its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// The device connects and logs in.
    Connect { who: u8 },
    /// Its connection is cut; frames on the way are lost.
    Cut { who: u8 },
    /// It stops reading what comes.
    Stall { who: u8 },
    /// It says more than another device, which stops reading, can have waiting; everything else settles.
    Flood { who: u8, talk: u8 },
    /// It reads again.
    Resume { who: u8 },
    /// It says something; `stray` may be where it has no business.
    Send { who: u8, talk: u8, stray: bool },
    /// It says several things without waiting for answers.
    Burst { who: u8, talk: u8, count: u8 },
    /// It says something to a person (Easemob).
    Direct { who: u8, peer: u8 },
    /// It says again what its client said before, from whichever of its devices.
    Again { who: u8, intent: u8 },
    /// It has read everything but the last few.
    Read { who: u8, talk: u8, back: u8 },
    /// It takes back one of its client's messages.
    Recall { who: u8, talk: u8, which: u8 },
    /// It changes one of them.
    Edit { who: u8, talk: u8, which: u8 },
    /// It makes a conversation.
    Create { who: u8, with: u8, wish: Wish },
    /// It adds a person, or itself.
    Add { who: u8, talk: u8, person: u8 },
    /// It removes a person.
    Remove { who: u8, talk: u8, person: u8 },
    /// It asks for history, perhaps where it has no business.
    History { who: u8, talk: u8, stray: bool },
    /// It removes messages for its client alone (Easemob).
    Forget { who: u8, talk: u8, which: u8, until: bool },
    /// It deletes a conversation for everybody (Easemob).
    Delete { who: u8, talk: u8, with_messages: bool },
    /// Time passes.
    Pass { ms: u32 },
    /// Time passes until the next temporary conversation ends, or a millisecond before that.
    Brink { over: bool },
    /// The machine's clock is set back, but not before the end of a temporary conversation that is over.
    Back { ms: u32 },
    /// The server dies and comes back.
    Crash,
    /// The server dies after a commit, before it tells anybody of it, and comes back.
    CrashUntold,
    /// The server is stopped in order and comes back.
    Restart,
    /// Everybody returns, everything settles, a part of everything is compared.
    Settle,
    /// The same with all of it.
    SettleAll,
}

impl Act {
    /// The device that does something over its connection, if one does.
    pub(super) fn by(self) -> Option<u8> {
        match self {
            Self::Send { who, .. }
            | Self::Burst { who, .. }
            | Self::Flood { who, .. }
            | Self::Direct { who, .. }
            | Self::Again { who, .. }
            | Self::Read { who, .. }
            | Self::Recall { who, .. }
            | Self::Edit { who, .. }
            | Self::Create { who, .. }
            | Self::Add { who, .. }
            | Self::Remove { who, .. }
            | Self::History { who, .. }
            | Self::Forget { who, .. }
            | Self::Delete { who, .. } => Some(who),
            Self::Connect { .. }
            | Self::Cut { .. }
            | Self::Stall { .. }
            | Self::Resume { .. }
            | Self::Pass { .. }
            | Self::Brink { .. }
            | Self::Back { .. }
            | Self::Crash
            | Self::CrashUntold
            | Self::Restart
            | Self::Settle
            | Self::SettleAll => None,
        }
    }
}

/// An act, and how many steps the world makes after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// What happens.
    pub act: Act,
    /// How far the world then goes.
    pub steps: u8,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, then {} steps", self.act, self.steps)
    }
}

/// A plan of `length` acts.
#[must_use]
pub fn draw(seed: u64, length: usize) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let mut plan = vec![
        Step { act: Act::Connect { who: 0 }, steps: 60 },
        Step { act: Act::Create { who: 0, with: 255, wish: Wish::Group }, steps: 60 },
    ];
    while plan.len() < length {
        let act = act(&mut dice);
        let steps = match dice.below(4) {
            0 => 0,
            1 => dice.below(8),
            2 => dice.below(40),
            _ => dice.below(120),
        };
        plan.push(Step { act, steps: u8::try_from(steps).unwrap_or(u8::MAX) });
    }
    plan.push(Step { act: Act::SettleAll, steps: 0 });
    plan
}

fn act(dice: &mut Dice) -> Act {
    let (who, talk) = (dice.byte(), dice.byte());
    match dice.below(100) {
        0..10 => Act::Connect { who },
        10..14 => Act::Cut { who },
        14 => Act::Stall { who },
        15..17 => Act::Resume { who },
        17..37 => Act::Send { who, talk, stray: dice.once_in(12) },
        37..40 => Act::Burst { who, talk, count: u8::try_from(2 + dice.below(30)).unwrap_or(2) },
        40..47 => Act::Direct { who, peer: dice.byte() },
        47..51 => Act::Again { who, intent: dice.byte() },
        51..60 => Act::Read { who, talk, back: u8::try_from(dice.below(4)).unwrap_or_default() },
        60..63 => Act::Recall { who, talk, which: dice.byte() },
        63..66 => Act::Edit { who, talk, which: dice.byte() },
        66..71 => {
            let wish = match dice.below(5) {
                0 | 1 => Wish::Group,
                2 => Wish::Unique,
                _ => Wish::Temporary([5, 60, 900][dice.below(3)]),
            };
            Act::Create { who, with: dice.byte(), wish }
        }
        71..74 => Act::Add { who, talk, person: dice.byte() },
        74..77 => Act::Remove { who, talk, person: dice.byte() },
        77..82 => Act::History { who, talk, stray: dice.once_in(3) },
        82..86 => Act::Forget { who, talk, which: dice.byte(), until: dice.once_in(2) },
        86 => Act::Delete { who, talk, with_messages: dice.once_in(2) },
        87..91 => Act::Pass { ms: [1, 7, 300, 2_100, 61_000, 400_000][dice.below(6)] },
        91 => Act::Back { ms: [1, 400, 90_000][dice.below(3)] },
        92 | 93 => Act::Brink { over: dice.once_in(2) },
        94 | 95 => Act::Crash,
        96 => Act::CrashUntold,
        97 => Act::Restart,
        98 => Act::Settle,
        _ => Act::Flood { who, talk },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_plan_and_another_seed_another() {
        assert_eq!(draw(7, 100), draw(7, 100));
        assert_ne!(draw(7, 100), draw(8, 100));
        assert_eq!(draw(7, 100).last().map(|step| step.act), Some(Act::SettleAll));
    }
}
