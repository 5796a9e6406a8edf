//! Queues, keys, notices and the places of devices (client 4). Each rule of 4.2 was proved by breaking
//! it; here each is a test.

use std::collections::{BTreeMap, HashSet};

use posthouse::peer::PATIENCE;
use posthouse::peer::easemob::{Device, GROUPS, PEOPLE, frame, metas_of, text_of};
use posthouse_core::time::Chance as _;
use posthouse_easemob::wire::proto::m_sync::Command;
use posthouse_easemob::wire::proto::meta::{NameSpace, RouteType};
use posthouse_easemob::wire::proto::{CommSyncDl, CommSyncUl, CommUnreadDl, Jid, Meta, StatisticsBody};
use posthouse_testkit::server::TestServer;
use posthouse_testkit::time::SeededChance;
use prost::Message as _;
use serde_json::json;
use tokio::time::timeout;

use crate::stage::{
    DAY_MS, PHONE, WEB, alice_and_bob, app_key, arrive, back_end, group, ids, inbox, leave, login, login_on,
    name, news, send_by_rest, status, texts, token, user,
};

/// Says so many texts, `first`, `first + 1` and so on.
async fn say_numbers(from: &mut Device, to: &str, first: usize, count: usize) {
    let to = from.person(to);
    for n in first..first + count {
        from.say(&to, &n.to_string()).await.unwrap();
    }
}

fn numbers(first: usize, count: usize) -> Vec<String> {
    (first..first + count).map(|n| n.to_string()).collect()
}

/// The rules for every answer to a pull.
fn check(answer: &CommSyncDl, queue: &Jid) {
    assert_eq!(status(answer.status.clone()).0, 0);
    let named = answer.queue.as_ref().expect("rule 1: every answer names its queue");
    assert_eq!((name(Some(named)), &named.domain), (name(Some(queue)), &queue.domain));
    assert_eq!(answer.meta_id.unwrap_or(0), 0, "rule 9: a delivery is no ack");
    assert!(answer.timestamp.unwrap() > 0);
    if answer.metas.is_empty() {
        assert_eq!((answer.is_last, answer.next_key.unwrap_or(0)), (Some(true), 0), "rule 2");
    } else {
        assert_ne!(answer.is_last, Some(true), "rule 2: a client would pull for ever");
        assert_ne!(answer.next_key.unwrap_or(0), 0, "rule 2");
    }
}

/// Pulls until nothing is left, obeying every rule; the texts and the keys.
async fn drain(device: &mut Device, queue: &Jid) -> (Vec<Meta>, Vec<u64>) {
    let (mut metas, mut keys) = (Vec::new(), Vec::new());
    let mut key = 0;
    loop {
        let answer = device.pull(queue, key).await.unwrap();
        check(&answer, queue);
        if answer.metas.is_empty() {
            return (metas, keys);
        }
        metas.extend(metas_of(&answer).unwrap());
        key = answer.next_key.unwrap();
        keys.push(key);
    }
}

#[tokio::test]
async fn a_device_that_speaks_before_it_asks_is_told_what_waits() {
    let server = TestServer::start().await;
    let (mut alice, bob) = alice_and_bob(&server).await;
    leave(&server, bob).await;
    alice.say(&alice.person("bob"), "while you were away").await.unwrap();
    let mut bob = arrive(&server, "bob", WEB).await;
    bob.say(&bob.person("alice"), "I am back").await.unwrap();
    assert_eq!(texts(&bob.sync().await.unwrap()), ["while you were away"]);
}

#[tokio::test]
async fn a_message_goes_through_notice_pull_key_and_end() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "hello 世界").await.unwrap();
    let queue = bob.notice().await.unwrap();
    assert_eq!(queue, bob.person("alice"));
    let batch = bob.pull(&queue, 0).await.unwrap();
    check(&batch, &queue);
    let metas = metas_of(&batch).unwrap();
    assert_eq!((ids(&metas), texts(&metas)), (vec![sent.id], vec!["hello 世界".to_owned()]));
    assert_eq!(metas[0].timestamp, Some(sent.at));
    let end = bob.pull(&queue, batch.next_key.unwrap()).await.unwrap();
    check(&end, &queue);
    assert!(end.metas.is_empty());
    bob.settle().await.unwrap();
    assert_eq!(bob.kept_notices(), 0);
}

#[tokio::test]
async fn the_list_of_queues_names_what_waits() {
    let server = TestServer::start().await;
    let mut bob = login(&server, "bob").await;
    let group = group(&server, "bob", &["alice"]).await;
    say_numbers(&mut bob, "alice", 0, 3).await;
    let in_group = bob.group(&group);
    bob.say(&in_group, "all").await.unwrap();
    let mut alice = arrive(&server, "alice", WEB).await;
    let reply = alice.unread().await.unwrap();
    assert_eq!(status(reply.status).0, 0);
    assert!(reply.timestamp.is_some());
    let listed: BTreeMap<(String, String), u32> = reply
        .unread
        .iter()
        .map(|one| {
            let queue = one.queue.clone().unwrap();
            ((name(Some(&queue)).to_owned(), queue.domain.unwrap()), one.n.unwrap())
        })
        .collect();
    assert_eq!(listed[&("bob".to_owned(), PEOPLE.to_owned())], 3);
    assert!(listed[&(group.clone(), GROUPS.to_owned())] >= 1);
    // That she is in the group stands in the queue without a name.
    assert!(listed[&(String::new(), PEOPLE.to_owned())] >= 1);
    assert_eq!(listed.len(), 3);
    // Asked again it says the same: heartbeats are the safety net for pulls that went wrong.
    let again = alice.unread().await.unwrap();
    assert_eq!(again.unread.len(), 3);
    for queue in again.unread {
        drain(&mut alice, &queue.queue.unwrap()).await;
    }
    assert_eq!(alice.unread().await.unwrap().unread, []);
}

#[tokio::test]
async fn keys_are_never_repeated() {
    let mut server = TestServer::start().await;
    let mut seen = HashSet::new();
    let mut before = Vec::new();
    for round in 0..3 {
        let mut bob = login(&server, "bob").await;
        let mut carol = login(&server, "carol").await;
        for _ in 0..2 {
            say_numbers(&mut bob, "alice", 0, 1).await;
            say_numbers(&mut carol, "alice", 0, 1).await;
            let mut alice = arrive(&server, "alice", WEB).await;
            for peer in ["bob", "carol"] {
                // Never acknowledged: the same messages come again and again.
                let batch = alice.pull(&alice.person(peer), 0).await.unwrap();
                check(&batch, &alice.person(peer));
                assert!(seen.insert(batch.next_key.unwrap()), "a key came twice");
                if peer == "bob" {
                    let got = ids(&metas_of(&batch).unwrap());
                    assert!(got.starts_with(&before), "{got:?} {before:?}");
                    before = got;
                }
            }
            leave(&server, alice).await;
        }
        assert_eq!(before.len(), 2 * (round + 1));
        drop((bob, carol));
        server = server.restart().await;
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    say_numbers(&mut bob, "alice", 0, 3).await;
    let queue = alice.notice().await.unwrap();
    let first = alice.pull(&queue, 0).await.unwrap();
    leave(&server, alice).await;

    let mut alice = arrive(&server, "alice", WEB).await;
    let listed = alice.unread().await.unwrap().unread;
    assert!(listed.iter().any(|one| one.queue.as_ref() == Some(&queue) && one.n == Some(3)), "{listed:?}");
    let (metas, keys) = drain(&mut alice, &queue).await;
    assert_eq!(texts(&metas), numbers(0, 3));
    assert_eq!(ids(&metas), ids(&metas_of(&first).unwrap()), "the same messages");
    assert_ne!(keys[0], first.next_key.unwrap());
    leave(&server, alice).await;

    let is_listed = |listed: CommUnreadDl| listed.unread.iter().any(|one| one.queue.as_ref() == Some(&queue));
    for _ in 0..2 {
        let mut alice = arrive(&server, "alice", WEB).await;
        assert!(!is_listed(alice.unread().await.unwrap()));
        assert_eq!(drain(&mut alice, &queue).await.0, []);
        leave(&server, alice).await;
    }
    drop(bob);
    let server = server.restart().await;
    let mut alice = arrive(&server, "alice", WEB).await;
    assert!(!is_listed(alice.unread().await.unwrap()));
    assert_eq!(drain(&mut alice, &queue).await.0, []);
}

#[tokio::test]
async fn only_the_right_key_acknowledges() {
    let server = TestServer::start().await;
    let (alice, mut bob) = alice_and_bob(&server).await;
    let mut carol = login(&server, "carol").await;
    leave(&server, alice).await;
    say_numbers(&mut bob, "alice", 0, 1).await;
    say_numbers(&mut carol, "alice", 0, 1).await;

    let mut alice = arrive(&server, "alice", WEB).await;
    let (of_bob, of_carol) = (alice.person("bob"), alice.person("carol"));
    let bobs = alice.pull(&of_bob, 0).await.unwrap();
    let carols = alice.pull(&of_carol, 0).await.unwrap();
    for wrong in [carols.next_key.unwrap(), bobs.next_key.unwrap() + 1_000_000, 1, u64::MAX] {
        check(&alice.pull(&of_bob, wrong).await.unwrap(), &of_bob);
    }
    // "No key", said aloud, as SDKs do after a push that had none.
    let zero = CommSyncUl { queue: Some(of_bob.clone()), key: Some(0), ..CommSyncUl::default() };
    alice.send(&frame(Command::Sync, Some(zero.encode_to_vec()))).await.unwrap();
    let answer = CommSyncDl::decode(alice.answer(Command::Sync, "an answer").await.unwrap()).unwrap();
    check(&answer, &of_bob);
    assert!(answer.metas.is_empty());
    leave(&server, alice).await;

    let mut alice = arrive(&server, "alice", WEB).await;
    // A key of the connection before, and of another device, are as good as none.
    assert_eq!(metas_of(&alice.pull(&of_bob, bobs.next_key.unwrap()).await.unwrap()).unwrap().len(), 1);
    let mut phone = arrive(&server, "alice", PHONE).await;
    let phones = phone.pull(&of_bob, 0).await.unwrap();
    alice.pull(&of_bob, phones.next_key.unwrap()).await.unwrap();
    leave(&server, alice).await;
    let mut alice = arrive(&server, "alice", WEB).await;
    assert_eq!(texts(&drain(&mut alice, &of_bob).await.0), ["0"]);
    assert_eq!(texts(&drain(&mut alice, &of_carol).await.0), ["0"]);
}

#[tokio::test]
async fn pulls_that_overlap_get_everything_once() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    say_numbers(&mut bob, "alice", 0, 5).await;
    let queue = alice.notice().await.unwrap();
    let pull = CommSyncUl { queue: Some(queue.clone()), ..CommSyncUl::default() };
    let pull = frame(Command::Sync, Some(pull.encode_to_vec()));
    for _ in 0..3 {
        alice.send(&pull).await.unwrap();
    }
    let (mut got, mut keys) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let answer = CommSyncDl::decode(alice.answer(Command::Sync, "an answer").await.unwrap()).unwrap();
        check(&answer, &queue);
        got.extend(metas_of(&answer).unwrap());
        keys.extend(answer.next_key.filter(|key| *key != 0));
    }
    assert_eq!(texts(&got), numbers(0, 5));
    // The one key still acknowledges, though emptier answers came after it.
    say_numbers(&mut bob, "alice", 5, 1).await;
    let more = alice.pull(&queue, *keys.last().unwrap()).await.unwrap();
    assert_eq!(texts(&metas_of(&more).unwrap()), ["5"]);
    leave(&server, alice).await;
    let mut alice = arrive(&server, "alice", WEB).await;
    assert_eq!(texts(&drain(&mut alice, &queue).await.0), ["5"]);
}

#[tokio::test]
async fn every_pull_is_answered_and_foreign_queues_are_empty() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut mallory = login(&server, "mallory").await;
    let theirs = group(&server, "bob", &["alice"]).await;
    let in_group = bob.group(&theirs);
    bob.say(&in_group, "secret").await.unwrap();
    say_numbers(&mut bob, "alice", 0, 1).await;
    let own = app_key(&server).to_owned();
    let jid = |app: &str, name: &str, domain: &str| Jid {
        app_key: Some(app.to_owned()),
        name: Some(name.to_owned()),
        domain: Some(domain.to_owned()),
        client_resource: None,
    };
    for queue in [
        jid(&own, &theirs, GROUPS),
        jid(&own, "alice", PEOPLE),
        jid(&own, "bob", PEOPLE),
        jid(&own, "mallory", PEOPLE),
        jid(&own, "nobody", PEOPLE),
        jid(&own, "no name!", PEOPLE),
        jid(&own, "1", GROUPS),
        jid(&own, "999999999999999", GROUPS),
        jid(&own, "-1", GROUPS),
        jid(&own, &theirs, PEOPLE),
        jid(&own, &theirs, "example.com"),
        jid("acme#other", &theirs, GROUPS),
        jid("acme#other", "bob", PEOPLE),
        Jid { client_resource: Some("x".to_owned()), ..jid(&own, &theirs, GROUPS) },
        Jid { name: Some(theirs.clone()), ..Jid::default() },
    ] {
        let end = mallory.pull(&queue, 0).await.unwrap();
        check(&end, &queue);
        assert!(end.metas.is_empty(), "{queue:?}");
        let end = mallory.pull(&queue, 1).await.unwrap();
        assert!(end.metas.is_empty(), "{queue:?}");
    }
    // Who may read them still gets all of it.
    assert!(texts(&news(&mut alice).await).contains(&"secret".to_owned()));
}

#[tokio::test]
async fn there_is_one_notice_for_a_queue_until_it_is_empty() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    say_numbers(&mut bob, "alice", 0, 5).await;
    alice.settle().await.unwrap();
    let notices = alice.take_notices();
    assert_eq!(notices, [alice.person("bob")]);
    assert_eq!(texts(&drain(&mut alice, &notices[0]).await.0), numbers(0, 5));
    alice.settle().await.unwrap();
    assert_eq!(alice.take_notices(), []);
    say_numbers(&mut bob, "alice", 5, 1).await;
    alice.settle().await.unwrap();
    let notices = alice.take_notices();
    assert_eq!(notices, [alice.person("bob")]);
    // What comes while a queue is being emptied is either in a batch or told anew.
    let batch = alice.pull(&notices[0], 0).await.unwrap();
    say_numbers(&mut bob, "alice", 6, 1).await;
    let rest = alice.pull(&notices[0], batch.next_key.unwrap()).await.unwrap();
    assert_eq!(texts(&metas_of(&rest).unwrap()), ["6"]);
    let end = alice.pull(&notices[0], rest.next_key.unwrap()).await.unwrap();
    assert!(end.metas.is_empty());
    alice.settle().await.unwrap();
    assert_eq!(alice.take_notices(), []);
}

#[tokio::test]
async fn the_queue_of_oneself_names_no_device() {
    let server = TestServer::start().await;
    let mut web = login(&server, "alice").await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let myself = phone.person("alice");
    phone.say(&myself, "note to self").await.unwrap();
    let queue = web.notice().await.unwrap();
    assert_eq!(name(Some(&queue)), "alice");
    // SDKs overlook a notice with their own name and their own device (rule 7).
    assert_eq!(queue.client_resource.as_deref().unwrap_or(""), "");
    assert_eq!(texts(&drain(&mut web, &queue).await.0), ["note to self"]);
    phone.settle().await.unwrap();
    for queue in phone.take_notices() {
        assert_eq!(texts(&drain(&mut phone, &queue).await.0), [""; 0]);
    }
}

#[tokio::test]
async fn the_queue_of_notes_has_a_domain_and_nothing_else() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    group(&server, "bob", &["alice"]).await;
    let queue = alice.notice().await.unwrap();
    assert_eq!(queue, inbox());
    let (metas, _) = drain(&mut alice, &queue).await;
    assert_eq!(metas.len(), 1);
    assert_eq!(metas[0].ns, Some(NameSpace::Muc.into()));
}

#[tokio::test]
async fn a_direct_push_says_that_it_is_the_last() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut meta = alice.text_meta(&alice.person("bob"), "now or never");
    meta.routetype = Some(RouteType::RouteOnline.into());
    alice.post_ok(meta).await.unwrap();
    let push = bob.push().await.unwrap();
    assert_eq!((push.meta_id.unwrap_or(0), push.is_last), (0, Some(true)));
    assert_eq!(name(push.queue.as_ref()), "alice");
    assert_eq!(texts(&metas_of(&push).unwrap()), ["now or never"]);
}

#[tokio::test]
async fn statistics_need_no_answer_and_do_no_harm() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let body = StatisticsBody { operation: Some(0), ..StatisticsBody::default() };
    let meta = Meta {
        id: Some(1_795_302_128_786),
        ns: Some(NameSpace::Statistic.into()),
        payload: Some(body.encode_to_vec().into()),
        ..Meta::default()
    };
    let sync = CommSyncUl { meta: Some(meta.encode_to_vec().into()), ..CommSyncUl::default() };
    for _ in 0..3 {
        alice.send(&frame(Command::Sync, Some(sync.encode_to_vec()))).await.unwrap();
    }
    let to = alice.person("bob");
    alice.say(&to, "hi").await.unwrap();
    assert_eq!(texts(&bob.next().await.unwrap()), ["hi"]);
}

// ---- devices ----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_new_device_gets_what_is_at_most_so_many_days_old() {
    let mut server = TestServer::start().await;
    let mut alice = login_on(&server, "alice", "old_1").await;
    let mut bob = login(&server, "bob").await;
    for n in 0..4 {
        say_numbers(&mut bob, "alice", n, 1).await;
        server.clock.advance_ms(3 * DAY_MS);
    }
    // The messages are 12, 9, 6 and 3 days old.
    let mut phone = arrive(&server, "alice", PHONE).await;
    assert_eq!(texts(&phone.sync().await.unwrap()), numbers(2, 2));
    leave(&server, phone).await;
    server.set(&[("new_device_days", "0")]).await;
    let mut tablet = arrive(&server, "alice", "tablet_1").await;
    assert_eq!(texts(&tablet.sync().await.unwrap()), [""; 0]);
    server.set(&[("new_device_days", "365")]).await;
    let mut desk = arrive(&server, "alice", "desk_1").await;
    assert_eq!(texts(&desk.sync().await.unwrap()), numbers(0, 4));
    // Whoever was seen before keeps its place, whatever the days are now.
    let mut phone = arrive(&server, "alice", PHONE).await;
    assert_eq!(texts(&phone.sync().await.unwrap()), [""; 0]);
    server.clock.advance_ms(1);
    say_numbers(&mut bob, "alice", 4, 1).await;
    assert_eq!(texts(&tablet.next().await.unwrap()), ["4"]);
    assert_eq!(texts(&news(&mut alice).await), numbers(0, 5), "it was there all the time");
}

#[tokio::test]
async fn a_returning_device_gets_everything_however_old_in_order_and_once() {
    let server = TestServer::start().await;
    let alice = login(&server, "alice").await;
    leave(&server, alice).await;
    let mut bob = login(&server, "bob").await;
    for n in 0..10 {
        say_numbers(&mut bob, "alice", n, 1).await;
        server.clock.advance_ms(5 * DAY_MS);
    }
    server.pass_ms(DAY_MS).await;
    let mut alice = arrive(&server, "alice", WEB).await;
    assert_eq!(texts(&alice.sync().await.unwrap()), numbers(0, 10));
    assert_eq!(texts(&alice.sync().await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn each_device_has_its_own_place() {
    let server = TestServer::start().await;
    let mut web = login(&server, "alice").await;
    let phone = login_on(&server, "alice", PHONE).await;
    leave(&server, phone).await;
    let mut bob = login(&server, "bob").await;
    say_numbers(&mut bob, "alice", 0, 2).await;
    assert_eq!(texts(&web.next().await.unwrap()), numbers(0, 2));
    let mut phone = arrive(&server, "alice", PHONE).await;
    assert_eq!(texts(&phone.sync().await.unwrap()), numbers(0, 2));
    // Another user's device of the same name has nothing to do with it.
    let mut carol = arrive(&server, "carol", PHONE).await;
    assert_eq!(carol.sync().await.unwrap(), []);
}

#[tokio::test]
async fn more_than_five_hundred_queues_are_all_emptied() {
    const QUEUES: usize = 620;
    let server = TestServer::start().await;
    let alice = login(&server, "alice").await;
    leave(&server, alice).await;
    let back_end = back_end(&server).await;
    for n in 0..QUEUES {
        send_by_rest(&back_end, &format!("u{n}"), "alice", &n.to_string()).await;
    }
    let mut alice = arrive(&server, "alice", WEB).await;
    let mut got: Vec<usize> = Vec::new();
    let read =
        |metas: Vec<Meta>| metas.iter().map(|meta| text_of(meta).parse().unwrap()).collect::<Vec<usize>>();
    let all = async {
        got.extend(read(alice.sync().await.unwrap()));
        while got.len() < QUEUES {
            let more = news(&mut alice).await;
            let more = if more.is_empty() { alice.sync().await.unwrap() } else { more };
            got.extend(read(more));
        }
    };
    timeout(PATIENCE * 3, all).await.expect("every queue is told of");
    got.sort_unstable();
    assert_eq!(got, (0..QUEUES).collect::<Vec<_>>());
    assert_eq!(news(&mut alice).await, []);
    assert_eq!(alice.unread().await.unwrap().unread, []);
    assert_eq!(news(&mut alice).await, []);
}

#[tokio::test]
async fn a_large_backlog_comes_in_batches_each_once_and_in_order() {
    const MESSAGES: usize = 1_100;
    let server = TestServer::start().await;
    let alice = login(&server, "alice").await;
    leave(&server, alice).await;
    let mut bob = login(&server, "bob").await;
    say_numbers(&mut bob, "alice", 0, MESSAGES).await;
    let mut alice = arrive(&server, "alice", WEB).await;
    let queue = alice.person("bob");
    let (metas, keys) = drain(&mut alice, &queue).await;
    assert_eq!(texts(&metas), numbers(0, MESSAGES));
    assert!(keys.len() >= 2, "not all at once");
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
    let ids = ids(&metas);
    assert!(ids.is_sorted_by(|a, b| a < b));
}

#[tokio::test]
async fn a_batch_in_the_middle_is_where_the_next_connection_begins() {
    const MESSAGES: usize = 450;
    let server = TestServer::start().await;
    let alice = login(&server, "alice").await;
    leave(&server, alice).await;
    let mut bob = login(&server, "bob").await;
    say_numbers(&mut bob, "alice", 0, MESSAGES).await;
    let queue = bob.person("bob");
    let mut got = Vec::new();
    let mut rounds = 0;
    // Each time the connection breaks with one batch acknowledged and the next one on its way.
    while got.len() < MESSAGES {
        rounds += 1;
        assert!(rounds < 100, "no progress");
        let mut alice = arrive(&server, "alice", WEB).await;
        let first = alice.pull(&queue, 0).await.unwrap();
        check(&first, &queue);
        got.extend(texts(&metas_of(&first).unwrap()));
        check(&alice.pull(&queue, first.next_key.unwrap()).await.unwrap(), &queue);
        leave(&server, alice).await;
    }
    assert_eq!(got, numbers(0, MESSAGES));
}

#[tokio::test]
async fn own_messages_are_not_sent_back_even_to_the_next_connection() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let (a, b) = (bob.person("alice"), alice.person("bob"));
    alice.say(&b, "1").await.unwrap();
    bob.say(&a, "2").await.unwrap();
    alice.say(&b, "3").await.unwrap();
    leave(&server, alice).await;
    let mut alice = arrive(&server, "alice", WEB).await;
    assert_eq!(texts(&alice.sync().await.unwrap()), ["2"]);
    leave(&server, alice).await;
    let mut alice = arrive(&server, "alice", WEB).await;
    assert_eq!(alice.sync().await.unwrap(), []);
    // A device seen for the first time gets both sides.
    let mut phone = arrive(&server, "alice", PHONE).await;
    assert_eq!(texts(&phone.sync().await.unwrap()), ["1", "2", "3"]);
}

#[tokio::test]
async fn messages_between_two_logins_are_all_told() {
    let server = TestServer::start().await;
    let mut bob = login(&server, "bob").await;
    token(&server, "alice").await;
    say_numbers(&mut bob, "alice", 0, 1).await;
    let mut alice = arrive(&server, "alice", WEB).await;
    // After the login and before the list was asked for.
    say_numbers(&mut bob, "alice", 1, 1).await;
    let mut got = texts(&alice.sync().await.unwrap());
    got.extend(texts(&news(&mut alice).await));
    assert_eq!(got, numbers(0, 2));
}

#[tokio::test]
async fn history_over_the_socket_is_refused_in_words_and_does_not_hang() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let roam = CommSyncUl {
        queue: Some(alice.person("bob")),
        is_roam: Some(true),
        key: Some(0),
        ..CommSyncUl::default()
    };
    alice.send(&frame(Command::Sync, Some(roam.encode_to_vec()))).await.unwrap();
    let answer = CommSyncDl::decode(alice.answer(Command::Sync, "an answer").await.unwrap()).unwrap();
    let (code, reason) = status(answer.status);
    assert!(code != 0 && code != 7 && !reason.is_empty());
    assert_eq!((answer.is_last, name(answer.queue.as_ref())), (Some(true), "bob"));
}

#[tokio::test]
async fn a_list_in_pieces_has_the_status_that_sdks_read() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    alice.send(&frame(Command::Unread, Some(Vec::new()))).await.unwrap();
    let reply = CommUnreadDl::decode(alice.answer(Command::Unread, "the list").await.unwrap()).unwrap();
    assert_eq!(reply.status.unwrap().error_code, Some(0));
    assert_eq!(reply.timestamp.unwrap(), server.now().0.unsigned_abs());
}

#[tokio::test]
async fn what_was_recalled_or_removed_meanwhile_is_not_sent() {
    let server = TestServer::start().await;
    let (alice, mut bob) = alice_and_bob(&server).await;
    leave(&server, alice).await;
    let to = bob.person("alice");
    let mut sent = Vec::new();
    for text in ["a", "b", "c"] {
        sent.push(bob.say(&to, text).await.unwrap());
    }
    let path = format!("/sdk/message/roaming/chat/user/alice?userId=bob&msgIdList={}", sent[1].id);
    user(&server, "alice").await.ok("DELETE", &path, Some(&json!({}))).await.unwrap();
    let mut alice = arrive(&server, "alice", WEB).await;
    assert_eq!(texts(&alice.sync().await.unwrap()), ["a", "c"]);
}

#[tokio::test]
async fn large_messages_make_small_batches() {
    const MESSAGES: usize = 250;
    let server = TestServer::start().await;
    let alice = login(&server, "alice").await;
    leave(&server, alice).await;
    let mut bob = login(&server, "bob").await;
    let to = bob.person("alice");
    let long = "x".repeat(4_500);
    for n in 0..MESSAGES {
        bob.say(&to, &format!("{n} {long}")).await.unwrap();
    }
    let mut alice = arrive(&server, "alice", WEB).await;
    let queue = alice.person("bob");
    let (mut got, mut key, mut batches) = (Vec::new(), 0, 0);
    loop {
        let batch = alice.pull(&queue, key).await.unwrap();
        check(&batch, &queue);
        if batch.metas.is_empty() {
            break;
        }
        assert!(batch.metas.iter().map(|meta| meta.len()).sum::<usize>() < 1 << 20);
        got.extend(texts(&metas_of(&batch).unwrap()));
        key = batch.next_key.unwrap();
        batches += 1;
    }
    assert!(batches >= 3, "{batches}");
    let first_words: Vec<String> =
        got.iter().map(|text| text.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(first_words, numbers(0, MESSAGES));
}

// ---- by chance --------------------------------------------------------------------------------------

/// A device that pulls, forgets, breaks off and comes back, and what it must remember of it.
struct Wanderer {
    resource: &'static str,
    device: Option<Device>,
    /// What it has seen of each queue, each message once, in the order in which it saw them first.
    seen: BTreeMap<String, Vec<u64>>,
    /// Batches that are not acknowledged on this connection: their queue, key and messages, in order.
    open: Vec<(String, u64, Vec<u64>)>,
    acknowledged: HashSet<u64>,
}

impl Wanderer {
    fn new(resource: &'static str) -> Self {
        let (seen, open, acknowledged) = Default::default();
        Self { resource, device: None, seen, open, acknowledged }
    }

    async fn online(&mut self, server: &TestServer) -> &mut Device {
        if self.device.is_none() {
            self.device = Some(arrive(server, "alice", self.resource).await);
        }
        self.device.as_mut().unwrap()
    }

    async fn leave(&mut self, server: &TestServer) {
        if let Some(device) = self.device.take() {
            leave(server, device).await;
        }
        self.open.clear();
    }

    /// Pulls a queue once, with the newest key of it or without any. Whether something came.
    async fn pull(&mut self, server: &TestServer, queue: &Jid, with_key: bool) -> bool {
        let called = name(Some(queue)).to_owned();
        let newest = self.open.iter().rfind(|(of, ..)| *of == called).map(|(_, key, _)| *key);
        let key = newest.filter(|_| with_key).unwrap_or(0);
        let answer = self.online(server).await.pull(queue, key).await.unwrap();
        check(&answer, queue);
        if key != 0 {
            let (done, open) = std::mem::take(&mut self.open).into_iter().partition(|(of, ..)| *of == called);
            self.open = open;
            let done: Vec<(String, u64, Vec<u64>)> = done;
            self.acknowledged.extend(done.into_iter().flat_map(|(_, _, ids)| ids));
        }
        let got = ids(&metas_of(&answer).unwrap());
        let seen = self.seen.entry(called.clone()).or_default();
        for id in &got {
            assert!(!self.acknowledged.contains(id), "what was acknowledged never comes again");
            let open = self.open.iter().any(|(_, _, ids)| ids.contains(id));
            assert!(!open, "on one connection nothing comes twice");
            if !seen.contains(id) {
                seen.push(*id);
            }
        }
        if let Some(key) = answer.next_key.filter(|key| *key != 0) {
            self.open.push((called, key, got));
            return true;
        }
        false
    }
}

#[tokio::test]
async fn whatever_devices_do_each_gets_everything_in_order() {
    let mut server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let chance = SeededChance::new(4_711);
    let below = |n: u64| chance.bits() % n;
    let mut wanderers = [Wanderer::new(WEB), Wanderer::new(PHONE)];
    for wanderer in &mut wanderers {
        wanderer.online(&server).await.sync().await.unwrap();
    }
    let mut others = [login(&server, "bob").await, login(&server, "carol").await];
    let queues = [others[0].person("bob"), others[0].person("carol"), others[0].group(&group)];
    // Per queue what was said there, and by which of Alice's devices.
    let mut said: BTreeMap<String, Vec<(u64, Option<usize>)>> = BTreeMap::new();
    for step in 0..600 {
        let which = usize::try_from(below(2)).unwrap();
        let queue = &queues[usize::try_from(below(3)).unwrap()];
        match below(12) {
            0..=3 => {
                let in_group = queue.domain.as_deref() == Some(GROUPS);
                let speaker = if in_group { which } else { usize::from(name(Some(queue)) == "carol") };
                let to = if in_group { queue.clone() } else { others[speaker].person("alice") };
                let sent = others[speaker].say(&to, &step.to_string()).await.unwrap();
                said.entry(name(Some(queue)).to_owned()).or_default().push((sent.id, None));
            }
            4 => {
                let sent =
                    wanderers[which].online(&server).await.say(queue, &step.to_string()).await.unwrap();
                said.entry(name(Some(queue)).to_owned()).or_default().push((sent.id, Some(which)));
            }
            5..=8 => drop(wanderers[which].pull(&server, queue, below(3) > 0).await),
            9 => while wanderers[which].pull(&server, queue, true).await {},
            10 => wanderers[which].leave(&server).await,
            _ => {
                wanderers[which].online(&server).await.settle().await.unwrap();
                server.clock.advance_ms(i64::try_from(below(5)).unwrap());
            }
        }
        if step == 300 {
            for wanderer in &mut wanderers {
                wanderer.leave(&server).await;
            }
            drop(others);
            server = server.restart().await;
            others = [login(&server, "bob").await, login(&server, "carol").await];
        }
    }
    for (index, wanderer) in wanderers.iter_mut().enumerate() {
        wanderer.leave(&server).await;
        for queue in &queues {
            while wanderer.pull(&server, queue, true).await {}
            let all = said.get(name(Some(queue))).cloned().unwrap_or_default();
            let foreign = all.iter().filter(|(_, by)| *by != Some(index)).map(|(id, _)| *id);
            let seen = wanderer.seen.get(name(Some(queue))).cloned().unwrap_or_default();
            assert_eq!(seen, foreign.collect::<Vec<_>>(), "{}", wanderer.resource);
        }
        assert_eq!(wanderer.open, []);
    }
}
