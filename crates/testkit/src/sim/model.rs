//! The plain truth: lists in memory, everything by scanning.
//!
//! The model is told what was committed ([`Record`]) and works out by itself what must follow: places
//! without holes, times that don't go back, who is a member, what is unread for whom. Whatever a client
//! is answered, pushed or shown is compared with it. Every complaint is a broken promise.

use std::collections::{BTreeMap, BTreeSet};

use posthouse_core::conversation::{Conversation, Kind};
use posthouse_core::id::ConversationId;
use posthouse_core::listing::Removal;
use posthouse_core::message::Message;
use posthouse_core::time::Timestamp;

use super::watch::Record;

/// A broken promise, in words.
pub type Broken = String;

/// Everything that was committed, and what was hoped for.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// By id.
    pub(super) conversations: BTreeMap<ConversationId, Talk>,
    /// In the order of their making.
    pub(super) order: Vec<ConversationId>,
    /// What clients wanted to say, in that order.
    pub(super) intents: Vec<Intent>,
    /// How many records were taken in.
    pub(super) commits: u64,
    /// How many answers were those of an earlier try.
    pub(super) repeated: u64,
    /// How many recalls there were.
    pub(super) recalled: u64,
    /// The newest message by its first text.
    by_text: BTreeMap<String, u64>,
    by_id: BTreeMap<u64, (ConversationId, usize)>,
}

/// A conversation.
#[derive(Debug)]
pub(super) struct Talk {
    /// Its kind now.
    pub(super) kind: Kind,
    /// Who is in it.
    pub(super) members: BTreeMap<String, Seat>,
    /// What was said, in order.
    pub(super) said: Vec<Said>,
    /// So many of those are gone for everybody.
    pub(super) cleared: usize,
    seq: u64,
    patched_at: Timestamp,
}

/// A member's own view.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    /// When it came, in commits.
    pub(super) since: u64,
    /// How much had been said when it came.
    pub(super) said_before: usize,
    /// So many messages lie before its read mark.
    pub(super) read: usize,
    /// So many of those it has said to have read.
    pub(super) marked: usize,
    /// So many messages are gone for it alone.
    pub(super) cleared: usize,
    /// Single messages that are gone for it alone.
    pub(super) removed: BTreeSet<u64>,
}

/// A message.
#[derive(Debug)]
pub(super) struct Said {
    /// Its id.
    pub(super) id: u64,
    /// Its time.
    pub(super) at: Timestamp,
    /// Who said it.
    pub(super) sender: String,
    /// Every text it had, the present one last.
    pub(super) texts: Vec<String>,
    /// Whether it was taken back.
    pub(super) recalled: bool,
    /// When it was committed, in commits.
    pub(super) commit: u64,
    /// Who was a member then.
    pub(super) audience: BTreeSet<String>,
    /// Which intent it came from.
    pub(super) intent: usize,
}

/// Something that a client wants to say, until the end of time.
#[derive(Debug)]
pub(super) struct Intent {
    /// Who.
    pub(super) person: String,
    /// Where, if that is a conversation; otherwise to a person.
    pub(super) to: Option<ConversationId>,
    /// To whom, if that is a person.
    pub(super) peer: Option<String>,
    /// What; no two intents say the same.
    pub(super) text: String,
    /// The device and link of each try.
    pub(super) tries: Vec<(usize, u64)>,
    /// When it was first tried, in commits.
    pub(super) since: u64,
    /// What the server said of it.
    pub(super) answer: Option<Answer>,
}

/// What the server says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is kept, by this id and time.
    Kept(u64, i64),
    /// It is refused, and why.
    Refused(String),
}

impl Talk {
    /// Whether it is over at `now`.
    #[must_use]
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        matches!(self.kind, Kind::Temporary { until } if now >= until)
    }

    /// The places of what `person` may read.
    pub(super) fn visible<'a>(&'a self, person: &str) -> impl Iterator<Item = &'a Said> + use<'a> {
        let seat = self.members.get(person).cloned();
        let from = seat.as_ref().map_or(self.said.len(), |seat| seat.cleared.max(self.cleared));
        let removed = seat.map(|seat| seat.removed).unwrap_or_default();
        self.said[from..].iter().filter(move |said| !removed.contains(&said.id))
    }

    /// What is unread for `person`: after the read mark, not its own, not recalled, not deleted.
    #[must_use]
    pub(super) fn unread(&self, person: &str) -> u64 {
        let Some(seat) = self.members.get(person) else { return 0 };
        let read = self.said.get(..seat.read).and_then(<[Said]>::last).map(|said| said.id);
        let counts = |said: &&Said| !said.recalled && said.sender != person && Some(said.id) > read;
        self.visible(person).filter(counts).count() as u64
    }

    fn until(&self, until: Timestamp, id: Option<u64>) -> usize {
        let id = id.unwrap_or(u64::MAX);
        self.said.iter().take_while(|said| (said.at, said.id) <= (until, id)).count()
    }

    fn next_seq(&mut self, given: Option<u64>) -> Result<(), Broken> {
        self.seq += 1;
        match given {
            Some(given) if given != self.seq => {
                Err(format!("a hole in the order: place {given} was given where {} was next", self.seq))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Model {
    /// Takes in what was committed at `now`.
    pub(super) fn commit(&mut self, record: Record, now: Timestamp) -> Result<(), Broken> {
        self.commits += 1;
        match record {
            Record::Made(made) => self.made(&made),
            Record::Posted(appended) => {
                if let Some(made) = &appended.created {
                    self.made(made)?;
                }
                let members = appended.members.iter().map(|member| member.as_str().to_owned()).collect();
                self.posted(&appended.message, &members, now)
            }
            Record::Patched(patch) => {
                let talk = alive(&mut self.conversations, patch.conversation, now)?;
                talk.next_seq(Some(patch.seq.0))?;
                if patch.at <= talk.patched_at {
                    return Err(format!("the time of changes goes back: {patch:?}"));
                }
                talk.patched_at = patch.at;
                let found = talk.said.iter_mut().find(|said| said.id == patch.message.as_u64());
                let Some(said) = found else { return Err(format!("a change of nothing: {patch:?}")) };
                if said.recalled {
                    return Err(format!("a change of a message that was recalled: {patch:?}"));
                }
                said.recalled = patch.body.kind == posthouse_core::message::BodyKind::Recalled;
                if said.recalled {
                    self.recalled += 1;
                } else {
                    said.texts.push(patch.body.summary.as_deref().unwrap_or_default().to_owned());
                }
                Ok(())
            }
            Record::Members { conversation, joined, changed } => {
                let commits = self.commits;
                let talk = alive(&mut self.conversations, conversation, now)?;
                talk.next_seq(None)?;
                talk.kind = changed.kind;
                for client in &changed.changed {
                    let seat = Seat {
                        since: commits,
                        said_before: talk.said.len(),
                        read: talk.said.len(),
                        marked: 0,
                        cleared: 0,
                        removed: BTreeSet::new(),
                    };
                    let before = if joined {
                        talk.members.insert(client.as_str().to_owned(), seat)
                    } else {
                        talk.members.remove(client.as_str())
                    };
                    if before.is_some() == joined {
                        return Err(format!("{client} was in already, or out: {changed:?}"));
                    }
                }
                same_members(talk, changed.members.iter().map(|member| member.as_str()))
            }
            Record::Updated(conversation) => {
                alive(&mut self.conversations, conversation, now)?.next_seq(None)
            }
            Record::Read { reader, mark, unread } => {
                let talk = alive(&mut self.conversations, mark.conversation, now)?;
                let until = match mark.until {
                    None => talk.said.len(),
                    Some(until) => talk.until(until, mark.id.map(|id| id.as_u64())),
                };
                let Some(seat) = talk.members.get_mut(reader.as_str()) else {
                    return Err(format!("{reader} is no member and reads: {mark:?}"));
                };
                if until > seat.read {
                    (seat.read, seat.marked) = (until, until);
                }
                same("unread after a read mark", &unread, &talk.unread(reader.as_str()))
            }
            Record::Removed { conversation, client, removal } => {
                let talk = alive(&mut self.conversations, conversation, now)?;
                let visible: BTreeSet<u64> = talk.visible(client.as_str()).map(|said| said.id).collect();
                let until = match &removal {
                    Removal::Until(until) => talk.until(*until, None),
                    Removal::Messages(_) => 0,
                };
                let Some(seat) = talk.members.get_mut(client.as_str()) else {
                    return Err(format!("{client} is no member and removes"));
                };
                match removal {
                    Removal::Messages(ids) => {
                        let ids = ids.iter().map(|id| id.as_u64());
                        seat.removed.extend(ids.filter(|id| visible.contains(id)));
                    }
                    Removal::Until(_) => {
                        seat.cleared = seat.cleared.max(until);
                        seat.read = seat.read.max(until);
                    }
                }
                Ok(())
            }
            Record::Deleted { wish, deleted } => {
                let talk = alive(&mut self.conversations, wish.conversation, now)?;
                let end = talk.said.len();
                if deleted.for_everyone && wish.with_messages {
                    talk.cleared = end;
                }
                for (name, seat) in &mut talk.members {
                    if deleted.for_everyone || name == wish.by.as_str() {
                        seat.read = end;
                        seat.cleared = if wish.with_messages { end } else { seat.cleared };
                    }
                }
                Ok(())
            }
        }
    }

    fn made(&mut self, made: &Conversation) -> Result<(), Broken> {
        if self.conversations.contains_key(&made.id) {
            return Err(format!("a conversation was made twice: {made:?}"));
        }
        let since = self.commits;
        let seat = Seat { since, said_before: 0, read: 0, marked: 0, cleared: 0, removed: BTreeSet::new() };
        let members = made.members.iter().map(|member| (member.as_str().to_owned(), seat.clone()));
        let talk = Talk {
            kind: made.kind,
            members: members.collect(),
            said: Vec::new(),
            cleared: 0,
            seq: 0,
            patched_at: Timestamp(0),
        };
        self.conversations.insert(made.id, talk);
        self.order.push(made.id);
        Ok(())
    }

    fn posted(
        &mut self,
        message: &Message,
        members: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let text = message.body.summary.as_deref().unwrap_or_default().to_owned();
        let Some(intent) = self.intents.iter().position(|intent| intent.text == text) else {
            return Err(format!("nobody said this: {message:?}"));
        };
        if self.by_text.get(&text).is_some_and(|before| self.is_known(*before)) {
            return Err(format!("said once, kept twice: {message:?}"));
        }
        let (sender, id) = (message.sender.as_str().to_owned(), message.id.as_u64());
        let wanted = &self.intents[intent];
        let elsewhere = wanted.to.is_some_and(|to| to != message.conversation);
        if wanted.person != sender || elsewhere {
            return Err(format!("kept in another place or name than {wanted:?}: {message:?}"));
        }
        let commit = self.commits;
        let talk = alive(&mut self.conversations, message.conversation, now)?;
        talk.next_seq(Some(message.seq.0))?;
        same_members(talk, members.iter().map(String::as_str))?;
        if !members.contains(&sender) {
            return Err(format!("said by somebody who is not in: {message:?}"));
        }
        let newest = talk.said.last().map_or((Timestamp(0), 0), |said| (said.at, said.id));
        if id <= newest.1 || message.timestamp != now.max(newest.0) {
            return Err(format!("id or time out of order after {newest:?} at {now}: {message:?}"));
        }
        let at = message.timestamp;
        let audience = members.clone();
        talk.said.push(Said {
            id,
            at,
            sender,
            texts: vec![text.clone()],
            recalled: false,
            commit,
            audience,
            intent,
        });
        self.by_text.insert(text, id);
        if self.by_id.insert(id, (message.conversation, talk.said.len() - 1)).is_some() {
            return Err(format!("an id was given twice: {message:?}"));
        }
        Ok(())
    }

    /// Whether a message is recognised when it is sent again. What was deleted for everybody is forgotten
    /// for good, and so is that it was said before. A pair that has become a group is not the pair any
    /// more, so what is said to the person again is said in another conversation.
    fn is_known(&self, id: u64) -> bool {
        self.message(id).is_some_and(|(talk, place, said)| {
            let talk = &self.conversations[&talk];
            let is_elsewhere = self.intents[said.intent].peer.is_some() && talk.kind != Kind::Direct;
            place >= talk.cleared && !is_elsewhere
        })
    }

    /// A message by its id.
    #[must_use]
    pub(super) fn message(&self, id: u64) -> Option<(ConversationId, usize, &Said)> {
        let (conversation, at) = self.by_id.get(&id)?;
        Some((*conversation, *at, &self.conversations.get(conversation)?.said[*at]))
    }

    /// The server has answered `intent`.
    pub(super) fn answered(&mut self, intent: usize, answer: Answer, now: Timestamp) -> Result<(), Broken> {
        let wanted = &self.intents[intent];
        let kept = self.by_text.contains_key(&wanted.text);
        match &answer {
            Answer::Kept(id, at) => {
                let Some((_, _, said)) = self.message(*id) else {
                    return Err(format!("acknowledged, but not kept: {answer:?} of {wanted:?}"));
                };
                if said.intent != intent || said.at.0 != *at {
                    return Err(format!(
                        "acknowledged as another message: {answer:?} of {wanted:?}, which is {said:?}"
                    ));
                }
                if let Some(Answer::Kept(before, since)) = &wanted.answer
                    && (before, since) != (id, at)
                    && self.is_known(*before)
                {
                    return Err(format!("acknowledged differently: {answer:?} of {wanted:?}"));
                }
            }
            Answer::Refused(why) => {
                let talk = wanted.to.and_then(|to| self.conversations.get(&to));
                let fits = talk.is_none_or(|talk| {
                    !talk.is_over(now)
                        && talk.members.get(&wanted.person).is_some_and(|seat| seat.since <= wanted.since)
                });
                if kept && fits {
                    return Err(format!("refused, but kept: {why}: {wanted:?}"));
                }
                if fits && wanted.answer.is_none() {
                    return Err(format!("refused without a reason: {why}: {wanted:?}"));
                }
            }
        }
        let wanted = &mut self.intents[intent];
        if wanted.answer.as_ref() == Some(&answer) {
            self.repeated += u64::from(matches!(answer, Answer::Kept(..)));
        } else if matches!(answer, Answer::Kept(..)) || !matches!(wanted.answer, Some(Answer::Kept(..))) {
            wanted.answer = Some(answer);
        }
        Ok(())
    }
}

fn alive(
    conversations: &mut BTreeMap<ConversationId, Talk>,
    id: ConversationId,
    now: Timestamp,
) -> Result<&mut Talk, Broken> {
    match conversations.get_mut(&id) {
        Some(talk) if talk.is_over(now) => {
            Err(format!("something happened in {id:?}, which is over at {now}"))
        }
        Some(talk) => Ok(talk),
        None => Err(format!("something happened in {id:?}, which nobody made")),
    }
}

fn same_members<'a>(talk: &Talk, told: impl Iterator<Item = &'a str>) -> Result<(), Broken> {
    let told: BTreeSet<&str> = told.collect();
    let known: BTreeSet<&str> = talk.members.keys().map(String::as_str).collect();
    same("members", &told, &known)
}

/// Complains unless both are equal.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, told: &T, known: &T) -> Result<(), Broken> {
    if told == known { Ok(()) } else { Err(format!("{what}: told {told:?}, the model has {known:?}")) }
}
