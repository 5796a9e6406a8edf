//! Any operations whatever, against plain models: order, unread numbers, history, lists, devices.

#![allow(clippy::unwrap_used, reason = "tests")]

mod engine;

use engine::Sqlite;
use posthouse_testkit::store_suite::{model, model_views};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};

proptest! {
    // Each case opens a store and syncs its files often; more cases belong on a memory disk.
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn operations_agree_with_a_plain_model(operations in vec(any::<[u8; 4]>(), 1..80), index in 0..3_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(model::agrees(indexed(index), &operations));
    }

    #[test]
    fn views_agree_with_a_plain_model(operations in vec(any::<[u8; 4]>(), 1..120), index in 0..3_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(model_views::agrees(indexed(index), &operations));
    }
}

/// The late index must not be seen: as servers have it, with every message indexed at once, and with a run
/// each few messages.
fn indexed(how: usize) -> Sqlite {
    match how {
        0 => Sqlite::new(),
        1 => Sqlite::with_tail_max(0),
        _ => Sqlite::with_tail_max(3),
    }
}

/// Found by the test above: all is removed, something is said that no history shows, all is removed again.
#[test]
fn what_only_waits_for_devices_goes_with_everything() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let operations = [[183, 223, 0, 0], [134, 28, 0, 0], [55, 190, 0, 0]];
    runtime.block_on(model_views::agrees(Sqlite::new(), &operations));
}
