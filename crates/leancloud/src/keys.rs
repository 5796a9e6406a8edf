//! The names under which an app's LeanCloud ids and secrets are kept in [`App::keys`].
//!
//! [`App::keys`]: posthouse_core::app::App::keys

/// The App ID. Ships in every app: an identifier, not a secret. Unique among apps.
pub const APP_ID: &str = "leancloud.id";

/// The App Key. Ships in every app too: it only tells one caller's mistakes from another's.
pub const APP_KEY: &str = "leancloud.key";

/// The Master Key: a secret of the customer's back end.
pub const MASTER_KEY: &str = "leancloud.master_key";
