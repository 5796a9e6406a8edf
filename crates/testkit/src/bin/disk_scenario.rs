//! Runs one scenario of `posthouse_testkit::disk` in a process of its own, so that the watcher can be loaded
//! into it: `disk_scenario NAME DATA TRACE JOURNAL [ARGUMENT …]`.

#![allow(clippy::unwrap_used, reason = "a part of tests")]

use std::path::PathBuf;

use posthouse_core::id::ConversationId;
use posthouse_testkit::disk::{load, steps};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("the name of a scenario");
    let mut path = || PathBuf::from(arguments.next().expect("a path"));
    let (data, trace, journal) = (path(), path(), path());
    let numbers: Vec<u64> = arguments.map(|number| number.parse().expect("a number")).collect();
    match name.as_str() {
        "steps" => steps::write_journal(&journal, &steps::run(&data, &trace).await),
        "migrate" => {
            let ids: Vec<_> = numbers.iter().filter_map(|id| ConversationId::from_u64(*id)).collect();
            steps::write_journal(&journal, &steps::migrate(&data, &trace, &ids).await);
        }
        "load" => load::run(&data, &trace, &journal, numbers[0], numbers[1]).await,
        _ => panic!("there is no scenario {name}"),
    }
}
