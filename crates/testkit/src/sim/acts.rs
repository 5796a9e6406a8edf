//! How the acts of a plan are carried out.

use posthouse_core::conversation::Kind;
use posthouse_core::id::ConversationId;
use serde_json::json;

use super::Tally;
use super::device::Door;
use super::model::{Answer, Broken, Intent, Said};
use super::plan::{Act, Step, Wish};
use super::world::World;
use super::{easemob, leancloud};

/// More than fits into a connection's queue, its buffers and what it may have on the way.
const FLOOD: usize = 100;

impl World {
    /// Carries out an act and the steps after it.
    pub(super) async fn carry_out(&mut self, step: Step) -> Result<(), Broken> {
        match step.act {
            Act::Pass { ms } => self.pass(ms).await?,
            Act::Brink { over } => self.brink(over).await?,
            Act::Restart => self.restart().await?,
            act => self.act(act)?,
        }
        for _ in 0..step.steps {
            if !self.step()? {
                break;
            }
        }
        Ok(())
    }

    /// What there was so far.
    pub(super) fn tally(&self) -> Tally {
        Tally {
            steps: self.steps,
            commits: self.model.commits,
            messages: self.model.intents.len() as u64,
            repeated: self.model.repeated,
            refused: self
                .model
                .intents
                .iter()
                .filter(|intent| matches!(intent.answer, Some(Answer::Refused(_))))
                .count() as u64,
            recalled: self.model.recalled,
            thrown_out: self.devices.iter().map(|device| device.thrown_out).sum(),
            frames: self.devices.iter().map(|device| device.frames).sum(),
            restarts: self.restarts,
            trace: self.trace,
        }
    }

    fn act(&mut self, act: Act) -> Result<(), Broken> {
        if let Some(who) = act.by() {
            let device = self.device(who);
            // Who wants to do something and can't, connects; it is another time's act that is done then.
            if !self.devices[device].is_connected() {
                self.connect(device);
                return Ok(());
            }
        }
        match act {
            Act::Connect { who } => {
                let device = self.device(who);
                if !self.devices[device].is_connected() {
                    self.connect(device);
                }
            }
            Act::Cut { who } => {
                let device = self.device(who);
                self.devices[device].drop_link();
            }
            Act::Stall { who } => {
                let device = self.device(who);
                self.devices[device].stalled = true;
            }
            Act::Resume { who } => {
                let device = self.device(who);
                self.devices[device].stalled = false;
            }
            Act::Send { who, talk, stray } => self.send(who, talk, stray),
            Act::Burst { who, talk, count } => {
                for _ in 0..count {
                    self.send(who, talk, false);
                }
            }
            Act::Flood { who, talk } => self.flood(who, talk)?,
            Act::Direct { who, peer } => {
                let device = self.device(who);
                let (me, door) = (self.devices[device].person.clone(), self.devices[device].door);
                let people: Vec<String> =
                    self.tokens.keys().filter(|person| **person != me).cloned().collect();
                if door == Door::Easemob && self.devices[device].is_online() && !people.is_empty() {
                    let peer = people[usize::from(peer) % people.len()].clone();
                    self.say(device, None, Some(peer));
                }
            }
            Act::Again { who, intent } => self.say_again(who, intent),
            Act::Read { who, talk, back } => self.read(who, talk, back),
            Act::Recall { who, talk, which } => self.patch(who, talk, which, false),
            Act::Edit { who, talk, which } => self.patch(who, talk, which, true),
            Act::Create { who, with, wish } => self.create(who, with, wish)?,
            Act::Add { who, talk, person } => self.member(who, talk, person, true),
            Act::Remove { who, talk, person } => self.member(who, talk, person, false),
            Act::History { who, talk, stray } => self.glance(who, talk, stray)?,
            Act::Forget { who, talk, which, until } => self.forget(who, talk, which, until)?,
            Act::Delete { who, talk, with_messages } => self.delete(who, talk, with_messages)?,
            Act::Back { ms } => self.back(ms),
            Act::Crash => self.crash()?,
            Act::CrashUntold => self.crash_untold()?,
            Act::Settle => self.settle(false)?,
            Act::SettleAll => self.settle(true)?,
            Act::Pass { .. } | Act::Brink { .. } | Act::Restart => {}
        }
        Ok(())
    }

    /// Moves time to where the next temporary conversation ends.
    async fn brink(&mut self, over: bool) -> Result<(), Broken> {
        let now = self.now();
        let ends = self.model.conversations.values().filter_map(|talk| match talk.kind {
            Kind::Temporary { until } if until > now => Some(until.ms_since(now)),
            Kind::Temporary { .. } | Kind::Direct | Kind::Group | Kind::Room => None,
        });
        let Some(left) = ends.min() else { return Ok(()) };
        let ms = if over { left } else { left - 1 };
        self.pass(u32::try_from(ms).unwrap_or(u32::MAX)).await
    }

    fn back(&mut self, ms: u32) {
        let now = self.now();
        let overs = self.model.conversations.values().filter_map(|talk| match talk.kind {
            Kind::Temporary { until } if until <= now => Some(now.ms_since(until)),
            Kind::Temporary { .. } | Kind::Direct | Kind::Group | Kind::Room => None,
        });
        let ms = i64::from(ms).min(overs.min().unwrap_or(i64::MAX));
        self.clock.advance_ms(-ms);
    }

    fn device(&self, who: u8) -> usize {
        usize::from(who) % self.devices.len()
    }

    /// The device, if it is online, and a conversation that its person is in and its door shows.
    fn seat(&self, who: u8, talk: u8, stray: bool) -> Option<(usize, ConversationId)> {
        let device = self.device(who);
        let (me, door) = (&self.devices[device].person, self.devices[device].door);
        if !self.devices[device].is_online() {
            return None;
        }
        let fits = |id: &&ConversationId| {
            let known = &self.model.conversations[id];
            let is_shown = door == Door::LeanCloud || matches!(known.kind, Kind::Direct | Kind::Group);
            is_shown && (stray || known.members.contains_key(me) && !known.is_over(self.now()))
        };
        let talks: Vec<ConversationId> = self.model.order.iter().filter(fits).copied().collect();
        let talk = *talks.get(usize::from(talk) % talks.len().max(1))?;
        Some((device, talk))
    }

    fn send(&mut self, who: u8, talk: u8, stray: bool) {
        if let Some((device, talk)) = self.seat(who, talk, stray) {
            self.send_to(device, talk);
        }
    }

    fn send_to(&mut self, device: usize, talk: ConversationId) {
        let known = &self.model.conversations[&talk];
        let me = self.devices[device].person.clone();
        match (self.devices[device].door, known.kind) {
            (Door::LeanCloud, _) | (Door::Easemob, Kind::Group) => self.say(device, Some(talk), None),
            (Door::Easemob, Kind::Direct) => {
                let peer = known.members.keys().find(|member| **member != me).cloned();
                if peer.is_some() {
                    self.say(device, None, peer);
                }
            }
            (Door::Easemob, Kind::Room | Kind::Temporary { .. }) => {}
        }
    }

    fn flood(&mut self, who: u8, talk: u8) -> Result<(), Broken> {
        let Some((device, talk)) = self.seat(who, talk, false) else { return Ok(()) };
        let members = &self.model.conversations[&talk].members;
        let slow = self.devices.iter().find(|other| {
            // An Easemob device is told once of whatever comes, until it has pulled.
            other.index != device
                && other.door == Door::LeanCloud
                && other.is_online()
                && members.contains_key(&other.person)
        });
        let Some(slow) = slow.map(|slow| slow.index) else { return Ok(()) };
        self.devices[slow].stalled = true;
        for _ in 0..FLOOD {
            self.send_to(device, talk);
        }
        self.rest_until(|_| false)
    }

    /// A device wants to say something new.
    fn say(&mut self, device: usize, to: Option<ConversationId>, peer: Option<String>) {
        let person = self.devices[device].person.clone();
        let number = self.model.intents.len();
        self.model.intents.push(Intent {
            text: format!("{person} {number}"),
            person,
            to,
            peer,
            tries: Vec::new(),
            since: self.model.commits,
            answer: None,
        });
        self.devices[device].say(&mut self.model, number);
    }

    fn say_again(&mut self, who: u8, intent: u8) {
        let device = self.device(who);
        if !self.devices[device].is_online() {
            return;
        }
        let (me, door) = (&self.devices[device].person, self.devices[device].door);
        // At the Easemob door, a token is the device's own.
        let mine = |intent: &&Intent| {
            intent.person == *me
                && (door == Door::LeanCloud || intent.tries.iter().all(|(tried, _)| *tried == device))
        };
        let intents = self.model.intents.iter().enumerate().filter(|(_, intent)| mine(intent));
        let intents: Vec<usize> = intents.map(|(number, _)| number).collect();
        if let Some(intent) = intents.get(usize::from(intent) % intents.len().max(1)) {
            self.devices[device].say(&mut self.model, *intent);
        }
    }

    fn read(&mut self, who: u8, talk: u8, back: u8) {
        let Some((device, talk)) = self.seat(who, talk, false) else { return };
        let said = &self.model.conversations[&talk].said;
        let Some(last) = said.len().checked_sub(1 + usize::from(back)).and_then(|at| said.get(at)) else {
            return;
        };
        let (id, at) = (last.id, last.at.0);
        match self.devices[device].door {
            Door::LeanCloud => leancloud::read(&mut self.devices[device], talk, id, at),
            Door::Easemob => {
                if let Some(to) = easemob::address(&self.devices[device], &self.model, talk) {
                    easemob::read(&mut self.devices[device], to);
                }
            }
        }
    }

    /// Edits or recalls a message of the device's person.
    fn patch(&mut self, who: u8, talk: u8, which: u8, edit: bool) {
        let Some((device, talk)) = self.seat(who, talk, false) else { return };
        let me = &self.devices[device].person;
        let mine: Vec<&Said> =
            self.model.conversations[&talk].said.iter().filter(|said| said.sender == *me).collect();
        let Some(said) = mine.get(usize::from(which) % mine.len().max(1)) else { return };
        let (id, at) = (said.id, said.at.0);
        let text = edit.then(|| format!("{} and more {}", said.texts[0], self.steps));
        match self.devices[device].door {
            Door::LeanCloud => leancloud::patch(&mut self.devices[device], talk, id, at, text.as_deref()),
            Door::Easemob => {
                let Some(to) = easemob::address(&self.devices[device], &self.model, talk) else { return };
                match text {
                    Some(text) => easemob::edit(&mut self.devices[device], to, id, &text),
                    None => easemob::recall(&mut self.devices[device], to, id),
                }
            }
        }
    }

    fn create(&mut self, who: u8, with: u8, wish: Wish) -> Result<(), Broken> {
        let device = self.device(who);
        if !self.devices[device].is_online() {
            return Ok(());
        }
        let me = self.devices[device].person.clone();
        let people = self.tokens.keys().enumerate();
        let chosen = people.filter(|(number, person)| **person == me || with >> (number % 8) & 1 == 1);
        let members: Vec<String> = chosen.map(|(_, person)| person.clone()).collect();
        match self.devices[device].door {
            Door::LeanCloud => {
                let (unique, ttl) = match wish {
                    Wish::Group => (false, None),
                    Wish::Unique => (true, None),
                    Wish::Temporary(seconds) => (true, Some(i32::from(seconds))),
                };
                leancloud::create(&mut self.devices[device], members, unique, ttl);
            }
            Door::Easemob => {
                // This door only knows people with an account.
                let known = |member: &&String| **member != me && !self.tokens[*member].is_empty();
                let others: Vec<&String> = members.iter().filter(known).collect();
                let group =
                    json!({"groupname": "g", "desc": "d", "public": true, "owner": me, "members": others});
                self.begin_rest(device, "POST", "/chatgroups", Some(&group))?;
            }
        }
        Ok(())
    }

    fn begin_rest(
        &mut self,
        device: usize,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(), Broken> {
        let token = self.devices[device].token.clone();
        self.begin_call(method, path, Some(&token), body).map(drop)
    }

    fn member(&mut self, who: u8, talk: u8, person: u8, add: bool) {
        let Some((device, talk)) = self.seat(who, talk, false) else { return };
        let people: Vec<&String> = self.tokens.keys().collect();
        let person = people[usize::from(person) % people.len()].clone();
        if self.devices[device].door == Door::LeanCloud {
            leancloud::member(&mut self.devices[device], talk, &person, add);
        }
    }

    /// Asks for a page of history; what comes is looked at when everything settles, unless it comes to
    /// somebody who has never been in.
    fn glance(&mut self, who: u8, talk: u8, stray: bool) -> Result<(), Broken> {
        let Some((device, talk)) = self.seat(who, talk, stray) else { return Ok(()) };
        if self.devices[device].door == Door::Easemob {
            return Ok(());
        }
        let serial = leancloud::logs(&mut self.devices[device], talk, 20, false, None);
        let me = self.devices[device].person.clone();
        let known = &self.model.conversations[&talk];
        let since = known.members.get(&me).map(|seat| seat.since);
        self.rest_until(|world| {
            world.devices[device].answers.contains_key(&serial) || !world.devices[device].is_online()
        })?;
        let Some(answer) = self.devices[device].answers.remove(&serial) else { return Ok(()) };
        let known = &self.model.conversations[&talk];
        let stayed = since == known.members.get(&me).map(|seat| seat.since);
        let may = since.is_some() && !known.is_over(self.now());
        match posthouse::peer::refusal(&answer) {
            Some(refused) if stayed && may => Err(format!("{me} may not read {talk:?}: {refused}")),
            None if stayed && !may => Err(format!("{me} may read {talk:?}, which is none of its business")),
            Some(_) | None => Ok(()),
        }
    }

    fn forget(&mut self, who: u8, talk: u8, which: u8, until: bool) -> Result<(), Broken> {
        let Some((device, talk)) = self.seat(who, talk, false) else { return Ok(()) };
        let said = &self.model.conversations[&talk].said;
        let Some(said) = said.get(usize::from(which) % said.len().max(1)) else { return Ok(()) };
        let (id, at) = (said.id, said.at.0);
        let Some(place) = self.place(device, talk) else { return Ok(()) };
        let (me, resource) = (self.devices[device].person.clone(), self.devices[device].name.clone());
        let (kind, address) = match place {
            (false, peer) => ("chat", format!("userId={peer}")),
            (true, group) => ("group", format!("groupId={group}")),
        };
        let path = if until {
            format!("/sdk/message/roaming/{kind}/user/{me}/time?{address}&delTime={at}&resource={resource}")
        } else {
            format!("/sdk/message/roaming/{kind}/user/{me}?{address}&msgIdList={id}&resource={resource}")
        };
        self.begin_rest(device, "DELETE", &path, None)
    }

    /// Whether a conversation is a group at the Easemob door, and its name there. `None` for other doors.
    fn place(&self, device: usize, talk: ConversationId) -> Option<(bool, String)> {
        if self.devices[device].door != Door::Easemob {
            return None;
        }
        let to = easemob::address(&self.devices[device], &self.model, talk)?;
        Some((self.model.conversations[&talk].kind == Kind::Group, to.name?))
    }

    fn delete(&mut self, who: u8, talk: u8, with_messages: bool) -> Result<(), Broken> {
        let Some((device, talk)) = self.seat(who, talk, false) else { return Ok(()) };
        let Some((is_group, channel)) = self.place(device, talk) else { return Ok(()) };
        let kind = if is_group { "groupchat" } else { "chat" };
        let path = format!(
            "/users/{}/user_channel?resource={}",
            self.devices[device].person, self.devices[device].name
        );
        let wish = json!({"channel": channel, "type": kind, "delete_roam": with_messages});
        self.begin_rest(device, "DELETE", &path, Some(&wish))
    }
}
