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
    fn operations_agree_with_a_plain_model(operations in vec(any::<[u8; 4]>(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(model::agrees(Sqlite::new(), &operations));
    }

    #[test]
    fn views_agree_with_a_plain_model(operations in vec(any::<[u8; 4]>(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(model_views::agrees(Sqlite::new(), &operations));
    }
}
