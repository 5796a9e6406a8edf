//! A sign of life about speed: a change that makes appending ten times slower should not go unseen.

#![allow(clippy::unwrap_used, reason = "tests")]

mod engine;

use std::sync::Arc;

use engine::open;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use posthouse_core::id::AppId;
use posthouse_core::port::store::{Apps as _, Conversations as _, NewMessage, Timeline as _};
use posthouse_core::{conversation, id};
use posthouse_testkit::store_suite::{app, clients, message, nothing};
use posthouse_testkit::time::ManualClock;
use tempfile::TempDir;
use tokio::time::Instant;

const MESSAGES: usize = 20_000;
const IN_FLIGHT: usize = 64;
const CONVERSATIONS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_messages_with_64_in_flight() {
    let (dir, clock) = (TempDir::new().unwrap(), Arc::new(ManualClock::new()));
    let store = open(dir.path(), &clock);
    let tenant = AppId::parse("app").unwrap();
    assert!(store.add_app(app("app", &[]), &[]).await.unwrap());
    let mut ids = Vec::new();
    for number in 1..=CONVERSATIONS {
        let id = id::ConversationId::lasting(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let new = conversation::Conversation {
            id,
            kind: conversation::Kind::Group,
            creator: None,
            attributes: posthouse_core::attribute::Attributes::new(),
            unique: None,
            created_at: posthouse_core::time::Timestamp(0),
            updated_at: posthouse_core::time::Timestamp(0),
            last_message_at: None,
            members: clients(&["tom", "jerry"]),
            joined: vec![],
            muted_by: vec![],
            owner: None,
            admins: vec![],
        };
        let new = posthouse_core::port::store::NewConversation { id, conversation: new };
        store.create_conversation(&tenant, new, nothing()).await.unwrap();
        ids.push(id);
    }
    let words = "x".repeat(200);
    let send = |number: usize| {
        let token = id::ClientToken::parse(&number.to_string()).ok();
        let new =
            NewMessage { token, ..message(ids[number % ids.len()], ["tom", "jerry"][number % 2], &words) };
        store.append_message(&tenant, new, nothing())
    };
    let began = Instant::now();
    let mut running: FuturesUnordered<_> = (0..IN_FLIGHT).map(send).collect();
    for number in IN_FLIGHT..MESSAGES {
        running.next().await.unwrap().unwrap();
        running.push(send(number));
    }
    while let Some(sent) = running.next().await {
        sent.unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{MESSAGES} messages in {seconds:.2} s: {:.0} a second", MESSAGES as f64 / seconds);
}
