//! History: `logs` by every parameter, checked against a model that fits on one screen.

use posthouse::peer::{Outgoing, Peer, Sent, text_content, text_of};
use posthouse_core::time::Chance as _;
use posthouse_leancloud::wire::proto::logs_command::QueryDirection;
use posthouse_leancloud::wire::proto::{DirectCommand, GenericCommand, LogItem, LogsCommand};
use posthouse_testkit::server::TestServer;
use posthouse_testkit::time::SeededChance;

use super::sessions::{login, tom_and_jerry};

/// A place in history as the wire names it.
type Place = (i64, String);

fn ids(items: &[LogItem]) -> Vec<String> {
    items.iter().map(|item| item.msg_id.clone().unwrap()).collect()
}

fn of(cid: &str) -> LogsCommand {
    LogsCommand { cid: Some(cid.to_owned()), ..LogsCommand::default() }
}

fn forward(cid: &str) -> LogsCommand {
    LogsCommand { direction: Some(QueryDirection::New.into()), ..of(cid) }
}

/// Sends messages so many milliseconds apart.
async fn talk(server: &TestServer, tom: &mut Peer, cid: &str, gaps: &[i64]) -> Vec<Sent> {
    let mut sent = Vec::new();
    for (n, gap) in gaps.iter().enumerate() {
        server.clock.advance_ms(*gap);
        sent.push(tom.send_text("tom", cid, &n.to_string(), Outgoing::default()).await.unwrap());
    }
    sent
}

/// The rules of the wire, said plainly: which of `all` (in order) a query means.
fn model(all: &[Place], query: &LogsCommand) -> Vec<String> {
    let newer = query.direction == Some(QueryDirection::New.into());
    // Whether a place lies on the far side of a bound, as seen when going up.
    let above = |place: &Place, t: i64, mid: &Option<String>, included: Option<bool>| {
        let order = match mid {
            Some(mid) => place.cmp(&(t, mid.clone())),
            None => place.0.cmp(&t),
        };
        order.is_gt() || order.is_eq() && included == Some(true)
    };
    let below = |place: &Place, t: i64, mid: &Option<String>, included: Option<bool>| {
        let order = match mid {
            Some(mid) => place.cmp(&(t, mid.clone())),
            None => place.0.cmp(&t),
        };
        order.is_lt() || order.is_eq() && included == Some(true)
    };
    let mut meant: Vec<&Place> = all
        .iter()
        .filter(|place| {
            query.t.is_none_or(|t| {
                if newer {
                    above(place, t, &query.mid, query.t_included)
                } else {
                    below(place, t, &query.mid, query.t_included)
                }
            }) && query.tt.is_none_or(|t| {
                if newer {
                    below(place, t, &query.tmid, query.tt_included)
                } else {
                    above(place, t, &query.tmid, query.tt_included)
                }
            })
        })
        .collect();
    let limit = usize::try_from(query.l.unwrap_or(20)).unwrap();
    if newer {
        meant.truncate(limit);
    } else {
        meant.drain(..meant.len().saturating_sub(limit));
    }
    meant.into_iter().map(|place| place.1.clone()).collect()
}

#[tokio::test]
async fn every_combination_of_parameters_means_what_the_rules_say() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let sent = talk(&server, &mut tom, &cid, &[0, 0, 0, 5, 0, 1, 7, 0, 0, 0, 2, 1]).await;
    let all: Vec<Place> = sent.iter().map(|sent| (sent.at, sent.id.clone())).collect();
    let first = all[0].0;
    let last = all[all.len() - 1].0;
    let chance = SeededChance::new(20_261_122);
    let below = |n: u64| i64::try_from(chance.bits() % n).unwrap();
    let bound = || -> (Option<i64>, Option<String>, Option<bool>) {
        let included = [None, Some(false), Some(true)][usize::try_from(below(3)).unwrap()];
        match below(4) {
            0 => (None, None, included),
            1 => (Some(first - 2 + below((last - first + 5).unsigned_abs())), None, included),
            _ => {
                let (at, id) = all[usize::try_from(below(12)).unwrap()].clone();
                (Some(at), Some(id), included)
            }
        }
    };
    for n in 0..600 {
        let ((t, mid, t_included), (tt, tmid, tt_included)) = (bound(), bound());
        let query = LogsCommand {
            l: [None, Some(1), Some(3), Some(100)][usize::try_from(below(4)).unwrap()],
            direction: [None, Some(QueryDirection::Old.into()), Some(QueryDirection::New.into())]
                [usize::try_from(below(3)).unwrap()],
            t,
            mid,
            t_included,
            tt,
            tmid,
            tt_included,
            ..of(&cid)
        };
        let got = ids(&tom.logs("tom", query.clone()).await.unwrap());
        assert_eq!(got, model(&all, &query), "query {n}: {query:?}\nof {all:?}");
    }
}

#[tokio::test]
async fn both_directions_answer_from_old_to_new() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = talk(&server, &mut tom, &cid, &[10; 6]).await;
    let newest = jerry.logs("jerry", LogsCommand { l: Some(3), ..of(&cid) }).await.unwrap();
    assert_eq!(ids(&newest), [&*sent[3].id, &*sent[4].id, &*sent[5].id]);
    let oldest = jerry.logs("jerry", LogsCommand { l: Some(3), ..forward(&cid) }).await.unwrap();
    assert_eq!(ids(&oldest), [&*sent[0].id, &*sent[1].id, &*sent[2].id]);
}

#[tokio::test]
async fn ends_without_a_message_are_whole_milliseconds() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let sent = talk(&server, &mut tom, &cid, &[10, 0, 10, 0, 10, 0]).await;
    let middle = Some(sent[2].at);
    let texts = async |tom: &mut Peer, query: LogsCommand| -> String {
        let items = tom.logs("tom", query).await.unwrap();
        items.iter().map(|item| text_of(item.data.as_ref().unwrap()).unwrap()).collect()
    };
    for (query, expected) in [
        (LogsCommand { t: middle, ..of(&cid) }, "01"),
        (LogsCommand { t: middle, t_included: Some(true), ..of(&cid) }, "0123"),
        (LogsCommand { t: middle, ..forward(&cid) }, "45"),
        (LogsCommand { t: middle, t_included: Some(true), ..forward(&cid) }, "2345"),
        (LogsCommand { tt: middle, ..of(&cid) }, "45"),
        (LogsCommand { tt: middle, tt_included: Some(true), ..of(&cid) }, "2345"),
        (LogsCommand { tt: middle, ..forward(&cid) }, "01"),
        (LogsCommand { tt: middle, tt_included: Some(true), ..forward(&cid) }, "0123"),
    ] {
        assert_eq!(texts(&mut tom, query.clone()).await, expected, "{query:?}");
    }
}

#[tokio::test]
async fn an_id_without_a_time_says_nothing() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let sent = talk(&server, &mut tom, &cid, &[10; 4]).await;
    let all = tom.history("tom", &cid, 10).await.unwrap();
    for query in [of(&cid), forward(&cid)] {
        let query = LogsCommand { mid: Some(sent[1].id.clone()), tmid: Some(sent[2].id.clone()), ..query };
        assert_eq!(tom.logs("tom", query).await.unwrap(), all);
    }
}

#[tokio::test]
async fn pages_join_without_gap_or_repetition_when_the_clock_stands() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let sent = talk(&server, &mut tom, &cid, &[0; 23]).await;
    let expected: Vec<String> = sent.into_iter().map(|sent| sent.id).collect();

    let mut back: Vec<String> = Vec::new();
    let mut start: Option<LogItem> = None;
    loop {
        let query = LogsCommand {
            l: Some(5),
            t: start.as_ref().and_then(|item| item.timestamp),
            mid: start.as_ref().and_then(|item| item.msg_id.clone()),
            ..of(&cid)
        };
        let page = tom.logs("tom", query).await.unwrap();
        let Some(oldest) = page.first() else { break };
        start = Some(oldest.clone());
        back.splice(0..0, ids(&page));
    }
    assert_eq!(back, expected);

    let mut forth: Vec<String> = Vec::new();
    let mut start: Option<LogItem> = None;
    loop {
        let query = LogsCommand {
            l: Some(5),
            t: start.as_ref().and_then(|item| item.timestamp),
            mid: start.as_ref().and_then(|item| item.msg_id.clone()),
            ..forward(&cid)
        };
        let page = tom.logs("tom", query).await.unwrap();
        let Some(newest) = page.last() else { break };
        start = Some(newest.clone());
        forth.extend(ids(&page));
    }
    assert_eq!(forth, expected);
}

#[tokio::test]
async fn limits_are_20_by_default_nothing_for_0_and_1000_at_most() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let cid = tom.create_conversation("tom", &[], false, "{}").await.unwrap().cid;
    let mut sent = Vec::new();
    for n in 0..1_005 {
        let direct = DirectCommand {
            cid: Some(cid.clone()),
            msg: Some(text_content(&n.to_string()).into()),
            ..DirectCommand::default()
        };
        let command = GenericCommand {
            direct_message: Some(direct),
            ..posthouse::peer::spoken("tom", posthouse_leancloud::wire::proto::CommandType::Direct, None)
        };
        sent.push(tom.post(command).await.unwrap());
    }
    let mut all = Vec::new();
    for serial in sent {
        let ack = tom.expect("an ack", |answer| answer.i == Some(serial)).await.unwrap();
        all.push(ack.ack_message.unwrap().uid.unwrap());
    }
    for (limit, count) in [
        (None, 20),
        (Some(0), 0),
        (Some(1), 1),
        (Some(100), 100),
        (Some(1_000), 1_000),
        (Some(1_001), 1_000),
        (Some(i32::MAX), 1_000),
    ] {
        // JavaScript calls it `l`, all others `limit`.
        for query in [LogsCommand { l: limit, ..of(&cid) }, LogsCommand { limit, ..of(&cid) }] {
            let got = ids(&tom.logs("tom", query).await.unwrap());
            assert_eq!(got, all[all.len() - count..], "{limit:?}");
        }
        let query = LogsCommand { limit, ..forward(&cid) };
        assert_eq!(ids(&tom.logs("tom", query).await.unwrap()), all[..count], "{limit:?}");
    }
    assert_eq!(tom.logs("tom", LogsCommand { l: Some(-1), ..of(&cid) }).await.unwrap(), []);
}

#[tokio::test]
async fn impossible_times_do_no_harm() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let sent = talk(&server, &mut tom, &cid, &[1; 3]).await;
    let all: Vec<String> = sent.into_iter().map(|sent| sent.id).collect();
    for included in [None, Some(true)] {
        let late = LogsCommand { t: Some(i64::MAX), t_included: included, ..of(&cid) };
        assert_eq!(ids(&tom.logs("tom", late).await.unwrap()), all);
        let late = LogsCommand { t: Some(i64::MAX), t_included: included, ..forward(&cid) };
        assert_eq!(ids(&tom.logs("tom", late).await.unwrap()), [""; 0]);
        for early in [1, 0, -1, i64::MIN] {
            let early = LogsCommand { t: Some(early), t_included: included, ..forward(&cid) };
            assert_eq!(ids(&tom.logs("tom", early).await.unwrap()), all);
        }
    }
    for mid in ["", "nonsense", "ffffffffffffffff", "0000000000000000", "汉"] {
        let query = LogsCommand { t: Some(server.now().0 + 1), mid: Some(mid.to_owned()), ..of(&cid) };
        assert_eq!(ids(&tom.logs("tom", query).await.unwrap()), all, "{mid}");
    }
}

#[tokio::test]
async fn a_type_is_filtered_before_the_limit_counts() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut of_type: Vec<(i32, String)> = Vec::new();
    for round in 0..3 {
        for (kind, content) in [
            (-1, r#"{"_lctype":-1,"_lctext":"hi"}"#),
            (-2, r#"{"_lctype":-2,"_lcfile":{"url":"x"}}"#),
            (-3, r#"{"_lctype":-3}"#),
            (-4, r#"{"_lctype":-4}"#),
            (-5, r#"{"_lctype":-5,"_lcloc":{"latitude":1,"longitude":2}}"#),
            (-6, r#"{"_lctype":-6}"#),
            (1, r#"{"_lctype":1,"mine":true}"#),
            (42, r#"{ "_lctype" : 42 }"#),
            (-101, r#"{"_lctype":-101}"#),
            (0, "no type"),
        ] {
            server.clock.advance_ms(round);
            let sent = tom.send_content("tom", &cid, content, Outgoing::default()).await.unwrap();
            of_type.push((kind, sent.id));
        }
    }
    for kind in [-1, -2, -3, -4, -5, -6, 1, 42, -101, 7] {
        let expected: Vec<_> =
            of_type.iter().filter(|(of, _)| *of == kind).map(|(_, id)| id.clone()).collect();
        let query = LogsCommand { lctype: Some(kind), ..of(&cid) };
        assert_eq!(ids(&jerry.logs("jerry", query.clone()).await.unwrap()), expected, "{kind}");
        let two = LogsCommand { l: Some(2), ..query };
        let newest = &expected[expected.len().saturating_sub(2)..];
        assert_eq!(ids(&jerry.logs("jerry", two).await.unwrap()), newest, "{kind}");
        let first = LogsCommand { l: Some(1), lctype: Some(kind), ..forward(&cid) };
        assert_eq!(ids(&jerry.logs("jerry", first).await.unwrap()), expected[..expected.len().min(1)]);
    }
    let everything = LogsCommand { l: Some(100), lctype: Some(0), ..of(&cid) };
    assert_eq!(jerry.logs("jerry", everything).await.unwrap().len(), of_type.len(), "0 is no type");
}

#[tokio::test]
async fn recalled_messages_are_a_type_of_their_own() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let sent = talk(&server, &mut tom, &cid, &[1; 3]).await;
    tom.recall("tom", &cid, &sent[1]).await.unwrap();
    let by_type = |kind| LogsCommand { lctype: Some(kind), ..of(&cid) };
    let texts = tom.logs("tom", by_type(-1)).await.unwrap();
    assert_eq!(ids(&texts), [&*sent[0].id, &*sent[2].id]);
    let recalled = tom.logs("tom", by_type(-127)).await.unwrap();
    assert_eq!(ids(&recalled), [&*sent[1].id]);
}

#[tokio::test]
async fn a_row_has_every_field() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    let rows = jerry.history("jerry", &cid, 10).await.unwrap();
    let mut row = rows[0].clone();
    assert_ne!(row.bin.take(), Some(true));
    assert_ne!(row.mention_all.take(), Some(true));
    assert_eq!(
        row,
        LogItem {
            from: Some("tom".to_owned()),
            data: Some(text_content("hi").into()),
            timestamp: Some(sent.at),
            msg_id: Some(sent.id),
            conv_type: Some(1),
            ..LogItem::default()
        }
    );
}

#[tokio::test]
async fn who_joins_later_sees_what_was_said_before() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    talk(&server, &mut tom, &cid, &[1; 3]).await;
    let mut mary = login(&server, "mary").await;
    assert_eq!(mary.history("mary", &cid, 10).await.unwrap_err().code(), Some(4312));
    tom.add("tom", &cid, &["mary"]).await.unwrap();
    assert_eq!(mary.history("mary", &cid, 10).await.unwrap().len(), 3);
    mary.remove("mary", &cid, &["mary"]).await.unwrap();
    assert_eq!(mary.history("mary", &cid, 10).await.unwrap_err().code(), Some(4312));
}

#[tokio::test]
async fn history_of_nothing_is_refused_and_of_the_untold_empty() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap(), []);
    assert_eq!(tom.history("tom", "5f0e1a2b3c4d5e6f70819203", 10).await.unwrap_err().code(), Some(4303));
    let temporary = format!("_tmp:{}", "0".repeat(32));
    assert_eq!(tom.history("tom", &temporary, 10).await.unwrap_err().code(), Some(4323));
}
