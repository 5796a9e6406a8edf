//! The names under which an app's Easemob ids and secrets are kept in [`App::keys`].
//!
//! [`App::keys`]: posthouse_core::app::App::keys

/// The appKey, `org#app`. Ships in every app: an identifier, not a secret. Unique among apps.
pub const APP_KEY: &str = "easemob.appkey";

/// The client id of the customer's back end. Unique among apps.
pub const CLIENT_ID: &str = "easemob.client_id";

/// The client secret of the customer's back end.
pub const CLIENT_SECRET: &str = "easemob.client_secret";
