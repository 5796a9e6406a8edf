//! A plain model of order, unread numbers and history: lists in memory, everything by scanning.

use posthouse_core::message::Bound;

use super::*;

const NAMES: [&str; 3] = ["tom", "jerry", "spike"];

/// One conversation of the model.
struct Plain {
    id: ConversationId,
    fixed: bool,
    messages: Vec<Message>,
    /// For each of [`NAMES`], how many messages lie before the read mark; `None` for who is out.
    marks: [Option<usize>; 3],
}

impl Plain {
    fn unread(&self, who: usize) -> impl Iterator<Item = &Message> {
        let mark = self.marks[who].unwrap_or(self.messages.len());
        self.messages[mark..]
            .iter()
            .filter(move |message| message.sender.as_str() != NAMES[who] && !message.is_recalled())
    }
}

/// Does `operations` on the engine and on the model, and compares all they can be asked: after some of them
/// only, because an engine may put work off until it is asked.
pub async fn agrees<E: Engine>(engine: E, operations: &[[u8; 4]]) {
    let mut scene = Scene::new(engine).await;
    let mut plains = Vec::new();
    for number in 0..3 {
        let (id, fixed) = match number {
            0 => (scene.group(&NAMES).await, false),
            1 => (scene.group(&NAMES).await, false),
            _ => (scene.temporary(86_400_000, &NAMES).await, true),
        };
        plains.push(Plain { id, fixed, messages: Vec::new(), marks: [Some(0); 3] });
    }
    for operation in operations {
        step(&mut scene, &mut plains, *operation).await;
        if operation[0] >= 192 {
            for who in 0..3 {
                compare_unread(&scene, &plains, who).await;
            }
        }
    }
    for who in 0..3 {
        compare_unread(&scene, &plains, who).await;
    }
    for (number, plain) in plains.iter().enumerate() {
        for operation in operations.iter().take(40) {
            compare_history(&scene, plain, number, *operation).await;
        }
    }
    scene.audit().await;
}

async fn step<E: Engine>(scene: &mut Scene<E>, plains: &mut [Plain], [what, a, b, c]: [u8; 4]) {
    let (who, other) = (usize::from(a) % 3, usize::from(a / 3) % 3);
    let plain = &mut plains[usize::from(b) % 3];
    let name = NAMES[who];
    match what % 10 {
        0..=3 => {
            let mentions = match c % 4 {
                0 => calls_all(),
                1 => calls(&[NAMES[other]]),
                _ => Mentions::default(),
            };
            let new = NewMessage { mentions, receipt: c % 8 > 3, ..message(plain.id, name, "x") };
            let sent = scene.append(new).await;
            assert_eq!(sent.is_ok(), plain.marks[who].is_some());
            plain.messages.extend(sent.map(|sent| sent.message));
        }
        4 | 5 if !plain.messages.is_empty() => {
            let which = usize::from(c) % plain.messages.len();
            let old = plain.messages[which].clone();
            let (body, mentions) =
                if what % 10 == 4 { (recalled(), Mentions::default()) } else { (text("y"), calls_all()) };
            let may = plain.marks[who].is_some() && old.sender.as_str() == name && !old.is_recalled();
            let patched = scene.patch(name, &old, body, mentions).await;
            assert_eq!(patched.is_ok(), may);
            if let Ok(Patched { patch, .. }) = patched {
                let message = &mut plain.messages[which];
                (message.body, message.mentions, message.patched_at) =
                    (patch.body, patch.mentions, Some(patch.at));
            }
        }
        6 | 7 if plain.marks[who].is_some() => {
            let until = plain.messages.get(usize::from(c) % (plain.messages.len() + 1)).cloned();
            let covered = match &until {
                Some(until) => {
                    plain.messages.iter().filter(|message| message.position() <= until.position()).count()
                }
                None => plain.messages.len(),
            };
            let mark = plain.marks[who].unwrap().max(covered);
            plain.marks[who] = Some(mark);
            let marked = scene.read(plain.id, name, until.as_ref()).await;
            assert_eq!(marked.unread.count, plain.unread(who).count() as u64);
            let newest = plain.unread(who).last().or_else(|| plain.messages.last());
            assert_eq!(
                marked.unread.last_message.map(|message| message.id),
                newest.map(|message| message.id)
            );
        }
        8 if !plain.fixed => {
            if plain.marks[who].is_some() {
                scene.remove(plain.id, name, &[name]).await.unwrap();
                plain.marks[who] = None;
            } else {
                scene.add(plain.id, name, &[name]).await.unwrap();
                plain.marks[who] = Some(plain.messages.len());
            }
        }
        9 if c < 8 => scene.reopen().await,
        9 if c < 16 => scene.crash().await,
        _ => scene.clock.advance_ms(i64::from(c) - 60),
    }
}

async fn compare_unread<E: Engine>(scene: &Scene<E>, plains: &[Plain], who: usize) {
    let mut wanted: Vec<_> = plains
        .iter()
        .filter(|plain| plain.unread(who).next().is_some())
        .map(|plain| {
            let mentioned = plain.unread(who).any(|message| message.mentions.call(&client(NAMES[who])));
            let newest = plain.messages.last().map(Message::position);
            (
                newest,
                plain.id,
                plain.unread(who).count() as u64,
                mentioned,
                plain.unread(who).last().map(|m| m.id),
            )
        })
        .collect();
    wanted.sort_by(|a, b| b.cmp(a));
    let listed = scene.unread(NAMES[who]).await.into_iter().map(|unread| {
        (unread.conversation, unread.count, unread.mentioned, unread.last_message.map(|message| message.id))
    });
    let wanted: Vec<_> =
        wanted.into_iter().map(|(_, id, count, called, last)| (id, count, called, last)).collect();
    assert_eq!(listed.collect::<Vec<_>>(), wanted, "{}", NAMES[who]);
}

async fn compare_history<E: Engine>(scene: &Scene<E>, plain: &Plain, number: usize, [a, b, c, d]: [u8; 4]) {
    let Some(reader) = plain.marks.iter().position(Option::is_some) else { return };
    let bound = |which: u8, shape: u8| {
        let message = plain.messages.get(usize::from(which) % (plain.messages.len() + 1))?;
        let id = (shape & 1 == 0).then_some(message.id);
        Some(Bound { timestamp: message.timestamp, id, included: shape & 2 == 0 })
    };
    let direction = if a & 1 == 0 { Direction::Backward } else { Direction::Forward };
    let limit = usize::from(d) % 12;
    let (start, end) = (bound(b, a >> 1), bound(c, a >> 3));
    let query = HistoryQuery { direction, start, end, ..HistoryQuery::newest(plain.id, limit) };
    let (low, high) = if direction == Direction::Forward { (start, end) } else { (end, start) };
    let within = |message: &&Message| {
        let order = |bound: Bound| {
            let by_id = bound.id.map_or(std::cmp::Ordering::Equal, |id| message.id.cmp(&id));
            (message.timestamp.cmp(&bound.timestamp).then(by_id), bound.included)
        };
        low.is_none_or(|low| {
            matches!(order(low), (std::cmp::Ordering::Greater, _) | (std::cmp::Ordering::Equal, true))
        }) && high.is_none_or(|high| {
            matches!(order(high), (std::cmp::Ordering::Less, _) | (std::cmp::Ordering::Equal, true))
        })
    };
    let mut wanted: Vec<_> = plain.messages.iter().filter(within).collect();
    match direction {
        Direction::Forward => wanted.truncate(limit),
        Direction::Backward => drop(wanted.drain(..wanted.len().saturating_sub(limit))),
    }
    let read =
        scene.store().read_history(&scene.app, &client(NAMES[reader]), query.clone()).await.unwrap().messages;
    let ids = |message: &Message| (message.id, message.timestamp, message.body.clone(), message.patched_at);
    let wanted: Vec<_> = wanted.into_iter().map(ids).collect();
    assert_eq!(read.iter().map(ids).collect::<Vec<_>>(), wanted, "conversation {number}, {query:?}");
}
