//! Everybody returns, everything settles, and all that clients can ask is compared with the model.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthouse::peer::easemob::{GROUPS, PEOPLE};
use posthouse::peer::{refusal, text_of};
use posthouse_core::conversation::Kind;
use posthouse_core::id::ConversationId;
use posthouse_easemob::wire::proto::Meta;
use posthouse_leancloud::wire::id;
use prost::Message as _;
use serde_json::{Value, json};

use super::device::{Device, Door, number};
use super::leancloud::{self, Reply};
use super::model::{Broken, Model, Said, Talk, same};
use super::world::{LEANCLOUD_ID, World};

/// How often devices may have to come back before everything is said: one may lose its connection to a
/// long silence, or be too slow, while others return.
const RETURNS_MAX: usize = 20;

/// A line of history, as both doors have it.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    id: u64,
    at: i64,
    sender: String,
    /// `None` for a message that was recalled.
    text: Option<String>,
}

impl Line {
    fn of(said: &Said) -> Self {
        Self {
            id: said.id,
            at: said.at.0,
            sender: said.sender.clone(),
            text: (!said.recalled).then(|| said.texts.last().cloned().unwrap_or_default()),
        }
    }
}

impl World {
    /// Settles, and compares a part of everything, or all of it.
    pub(super) fn settle(&mut self, all: bool) -> Result<(), Broken> {
        self.gather()?;
        self.sweep(true)?;
        self.rest_until(|_| false)?;
        self.every_intent_is_answered()?;
        for device in 0..self.devices.len() {
            self.has_everything(device)?;
        }
        let people: Vec<(String, Door)> = self.people();
        for (person, door) in &people {
            match door {
                Door::LeanCloud => self.unread_at_login(person)?,
                Door::Easemob => self.unread_in_list(person)?,
            }
        }
        let talks = self.model.order.clone();
        for talk in talks {
            for (person, door) in &people {
                if !all && !self.dice.once_in(6) {
                    continue;
                }
                match door {
                    Door::LeanCloud => {
                        self.history_at_leancloud(person, talk)?;
                        self.marks_of_others(person, talk)?;
                    }
                    Door::Easemob => self.history_at_easemob(person, talk)?,
                }
            }
        }
        if all { self.audit() } else { Ok(()) }
    }

    fn people(&self) -> Vec<(String, Door)> {
        let doors: BTreeMap<&String, Door> =
            self.devices.iter().map(|device| (&device.person, device.door)).collect();
        doors.into_iter().map(|(person, door)| (person.clone(), door)).collect()
    }

    /// Lets every device return and read until nothing is left to say.
    fn gather(&mut self) -> Result<(), Broken> {
        for _ in 0..RETURNS_MAX {
            for index in 0..self.devices.len() {
                self.devices[index].stalled = false;
                self.devices[index].flag.raise();
                if !self.devices[index].is_connected() {
                    self.connect(index);
                }
            }
            self.rest_until(|_| false)?;
            if self.devices.iter().all(Device::is_online) {
                return Ok(());
            }
        }
        let missing: Vec<_> = self.devices.iter().filter(|device| !device.is_online()).collect();
        let names: Vec<_> =
            missing.iter().map(|device| format!("{}/{}", device.person, device.name)).collect();
        Err(format!("these never get back in: {names:?}"))
    }

    fn every_intent_is_answered(&self) -> Result<(), Broken> {
        match self.model.intents.iter().find(|intent| intent.answer.is_none()) {
            Some(intent) => Err(format!("never answered: {intent:?}")),
            None => Ok(()),
        }
    }

    /// Whether a device has got what it must have by now.
    fn has_everything(&self, device: usize) -> Result<(), Broken> {
        let device = &self.devices[device];
        let (person, model) = (&device.person, &self.model);
        let whom = format!("{person}/{}", device.name);
        for talk in model.conversations.values() {
            for said in &talk.said {
                match device.door {
                    Door::LeanCloud => {
                        let is_pushed = device.online_since.is_some_and(|since| said.commit > since)
                            && said.audience.contains(person)
                            && !said_here(model, device, said);
                        if is_pushed && !device.link_heard.contains(&said.id) {
                            return Err(format!("{whom} was not told of {said:?}"));
                        }
                    }
                    Door::Easemob => {
                        if device.must_hear(model, talk, said) {
                            return Err(format!("{whom} never got {said:?}"));
                        }
                        let knows = device.heard.contains(&said.id) && said.sender != *person;
                        if said.recalled
                            && knows
                            && sees(talk, person, said)
                            && !device.recalls.contains(&said.id)
                        {
                            return Err(format!("{whom} never heard of the recall of {said:?}"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A login on a fresh device is told what is unread.
    fn unread_at_login(&mut self, person: &str) -> Result<(), Broken> {
        let index = self.devices.len();
        self.devices.push(Device::new(index, person, "probe", Door::LeanCloud, LEANCLOUD_ID, ""));
        self.connect(index);
        self.rest_until(|_| false)?;
        let told = std::mem::take(&mut self.devices[index].unread);
        leancloud::logout(&mut self.devices[index]);
        self.rest_until(|_| false)?;
        self.devices[index].drop_link();
        self.devices.truncate(index);
        self.rest_until(|_| false)?;
        for (talk, known) in &self.model.conversations {
            let is_in = known.members.contains_key(person) && !known.is_over(self.now());
            let expected = if is_in { known.unread(person) } else { 0 };
            let told = told.get(&leancloud::cid(*talk)).copied().unwrap_or_default();
            let what = format!("unread for {person} in {talk:?}");
            same(&what, &u64::try_from(told).unwrap_or(u64::MAX), &expected)?;
        }
        Ok(())
    }

    /// The list of conversations tells it too.
    fn unread_in_list(&mut self, person: &str) -> Result<(), Broken> {
        let token = self.tokens.get(person).cloned();
        let mut told = BTreeMap::new();
        for page in 1.. {
            let path = format!("/users/{person}/user_channels/page?pageNum={page}&pageSize=20");
            let (status, answer) = self.call("GET", &path, token.as_deref(), None)?;
            let lines = answer["data"]["channel_infos"].as_array().cloned();
            let Some(lines) = lines else { return Err(format!("no list: {status} {answer}")) };
            for line in &lines {
                let channel = line["channel_id"].as_str().unwrap_or_default();
                let channel = channel.split_once('_').map_or(channel, |(_, rest)| rest);
                let unread = number(&line["unread_num"]).unwrap_or_default();
                if told.insert(channel.to_owned(), unread).is_some() {
                    return Err(format!("{person} has {channel} in its list twice"));
                }
            }
            if lines.len() < 20 {
                break;
            }
        }
        for (talk, known) in &self.model.conversations {
            let Some(channel) = channel(known, *talk, person) else { continue };
            let what = format!("unread for {person} with {channel}");
            same(&what, &told.get(&channel).copied().unwrap_or_default(), &known.unread(person))?;
        }
        Ok(())
    }

    /// Pages through history in both directions.
    fn history_at_leancloud(&mut self, person: &str, talk: ConversationId) -> Result<(), Broken> {
        let Some(index) = self.devices.iter().position(|device| device.person == person) else {
            return Ok(());
        };
        for forward in [false, true] {
            let size = 1 + self.dice.below(9);
            let mut lines: Vec<Line> = Vec::new();
            loop {
                let edge = if forward { lines.last() } else { lines.first() };
                let from = edge.map(|line| (line.id, line.at));
                let limit = i32::try_from(size).unwrap_or(1);
                let serial = leancloud::logs(&mut self.devices[index], talk, limit, forward, from);
                let answer = self.answer(index, serial)?;
                let known = &self.model.conversations[&talk];
                let may = known.members.contains_key(person) && !known.is_over(self.now());
                if let Some(refused) = refusal(&answer) {
                    return if may {
                        Err(format!("{person} may not read {talk:?}: {refused}"))
                    } else {
                        Ok(())
                    };
                }
                let page = page_of(&answer);
                if !may {
                    return Err(format!(
                        "{person} may read {talk:?}, which is none of its business: {page:?}"
                    ));
                }
                let is_last = page.is_empty();
                if forward {
                    lines.extend(page);
                } else {
                    lines.splice(0..0, page);
                }
                if is_last {
                    break;
                }
                if lines.len() > known.said.len() {
                    return Err(format!("history of {talk:?} goes round in circles: {lines:?}"));
                }
            }
            let expected: Vec<Line> = self.model.conversations[&talk].visible(person).map(Line::of).collect();
            same(&format!("history of {talk:?} for {person}"), &lines, &expected)?;
        }
        Ok(())
    }

    /// Asks how far the others have read: as far as they said at least, and never less than before.
    fn marks_of_others(&mut self, person: &str, talk: ConversationId) -> Result<(), Broken> {
        let known = &self.model.conversations[&talk];
        if !known.members.contains_key(person) || known.is_over(self.now()) {
            return Ok(());
        }
        let Some(index) = self.devices.iter().position(|device| device.person == person) else {
            return Ok(());
        };
        let serial = leancloud::max_read(&mut self.devices[index], talk);
        let answer = self.answer(index, serial)?;
        let known = &self.model.conversations[&talk];
        let told = answer.conv_message.unwrap_or_default().max_read_tuples;
        same("members with marks", &told.len(), &(known.members.len() - 1))?;
        for tuple in told {
            let (who, at) = (tuple.pid.unwrap_or_default(), tuple.max_read_timestamp.unwrap_or_default());
            let Some(seat) = known.members.get(&who) else {
                return Err(format!("{who} has a mark in {talk:?}"));
            };
            let read = known.said[..seat.marked].last().map_or(0, |said| said.at.0);
            let before = self.marks.insert((talk, who.clone(), seat.since), at).unwrap_or_default();
            if at < read.max(before) {
                return Err(format!(
                    "the mark of {who} in {talk:?} is at {at}, and was at {before} and {read}"
                ));
            }
        }
        Ok(())
    }

    /// The answer to something that a device has asked.
    pub(super) fn answer(&mut self, device: usize, serial: u64) -> Result<Reply, Broken> {
        self.rest_until(|world| {
            world.devices[device].answers.contains_key(&serial) || !world.devices[device].is_online()
        })?;
        let answer = self.devices[device].answers.remove(&serial);
        answer.ok_or_else(|| format!("{} was never answered {serial}", self.devices[device].person))
    }

    /// The same over REST.
    fn history_at_easemob(&mut self, person: &str, talk: ConversationId) -> Result<(), Broken> {
        let known = &self.model.conversations[&talk];
        let queue = match (known.kind, channel(known, talk, person)) {
            (_, Some(channel)) => channel,
            (Kind::Group, None) => format!("{}@{GROUPS}", talk.as_u64()),
            (Kind::Direct | Kind::Room | Kind::Temporary { .. }, None) => return Ok(()),
        };
        let token = self.tokens.get(person).cloned();
        for forward in [false, true] {
            let size = 1 + self.dice.below(9);
            let mut lines: Vec<Line> = Vec::new();
            let mut start = "-1".to_owned();
            loop {
                let asked = json!({
                    "queue": queue, "start": start.parse::<i64>().unwrap_or(-1), "end": -1,
                    "pull_number": size, "is_positive": forward, "msgType": "",
                    "startTime": null, "endTime": null, "userId": null,
                });
                let path = format!("/users/{person}/messageroaming");
                let (status, answer) = self.call("POST", &path, token.as_deref(), Some(&asked))?;
                let known = &self.model.conversations[&talk];
                let may = known.members.contains_key(person);
                let Some(page) = easemob_page(&answer) else {
                    return if may {
                        Err(format!("{person} may not read {queue}: {status} {answer}"))
                    } else {
                        Ok(())
                    };
                };
                if !may && !page.is_empty() {
                    return Err(format!(
                        "{person} may read {queue}, which is none of its business: {page:?}"
                    ));
                }
                lines.extend(page);
                if lines.len() > known.said.len() {
                    return Err(format!("history of {queue} goes round in circles: {lines:?}"));
                }
                let data = &answer["data"];
                if data["is_last"].as_bool().unwrap_or(true) {
                    break;
                }
                start = data["next_key"].as_str().unwrap_or_default().to_owned();
            }
            if !forward {
                lines.reverse();
            }
            let known = &self.model.conversations[&talk];
            let Some(seat) = known.members.get(person) else { return Ok(()) };
            let before = &known.said[..if known.kind == Kind::Group { seat.said_before } else { 0 }];
            let hidden = |said: &&Said| said.recalled || before.iter().any(|before| before.id == said.id);
            let expected: Vec<Line> =
                known.visible(person).filter(|said| !hidden(said)).map(Line::of).collect();
            same(&format!("history of {queue} for {person}"), &lines, &expected)?;
        }
        Ok(())
    }
}

/// Whether the device said it itself, on this connection; then it isn't told.
fn said_here(model: &Model, device: &Device, said: &Said) -> bool {
    model.intents[said.intent].tries.contains(&(device.index, device.links))
}

/// Whether a member who was there at the time still sees it.
fn sees(talk: &Talk, person: &str, said: &Said) -> bool {
    talk.members.get(person).is_some_and(|seat| seat.since < said.commit)
        && talk.visible(person).any(|visible| visible.id == said.id)
}

/// How the list of an Easemob user calls a conversation that it is in.
fn channel(talk: &Talk, id: ConversationId, person: &str) -> Option<String> {
    talk.members.get(person)?;
    match talk.kind {
        Kind::Group => Some(format!("{}@{GROUPS}", id.as_u64())),
        Kind::Direct => {
            let other = talk.members.keys().find(|member| *member != person)?;
            Some(format!("{other}@{PEOPLE}"))
        }
        Kind::Room | Kind::Temporary { .. } => None,
    }
}

fn page_of(answer: &Reply) -> Vec<Line> {
    let logs = answer.logs_message.clone().unwrap_or_default().logs;
    let line = |item: posthouse_leancloud::wire::proto::LogItem| Line {
        id: item.msg_id.as_deref().and_then(id::parse_message).unwrap_or_default(),
        at: item.timestamp.unwrap_or_default(),
        sender: item.from.unwrap_or_default(),
        text: text_of(&item.data.unwrap_or_default()).filter(|text| !text.is_empty()),
    };
    logs.into_iter().map(line).collect()
}

fn easemob_page(answer: &Value) -> Option<Vec<Line>> {
    let lines = answer["data"]["msgs"].as_array()?.iter().map(|line| {
        let bytes = STANDARD.decode(line["msg"].as_str()?).ok()?;
        let meta = Meta::decode(bytes.as_slice()).ok()?;
        let body = posthouse::peer::easemob::body_of(&meta).ok()?;
        Some(Line {
            id: meta.id?,
            at: i64::try_from(meta.timestamp?).ok()?,
            sender: body.from?.name?,
            text: Some(posthouse::peer::easemob::text_of(&meta)),
        })
    });
    lines.collect()
}
