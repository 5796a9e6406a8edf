//! An app: one tenant, its keys and its settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::AppId;
use crate::time::Timestamp;

/// A tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct App {
    /// Internal id; never leaves the server.
    pub id: AppId,
    /// What the operator calls it; unique.
    pub name: String,
    /// The ids and secrets its shipped apps and back ends carry, by the name a gateway gave each
    /// (such as `leancloud.id`). The domain only keeps them.
    pub keys: BTreeMap<String, String>,
    /// What the operator set.
    pub settings: Settings,
    /// When it was made.
    pub created_at: Timestamp,
}

impl App {
    /// The key called `name`, if this app has one.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&str> {
        self.keys.get(name).map(String::as_str)
    }
}

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $min:expr => $max:expr; )+) => {
        /// What an operator can set for one app. Every value has a default that is not stricter
        /// than the hosted clouds.
        #[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings { $( $(#[doc = $doc])+ pub $name: $type, )+ }

        impl Default for Settings {
            fn default() -> Self { Self { $( $name: $default, )+ } }
        }

        impl Settings {
            /// Name, default and meaning of every setting, for help texts and the reference.
            #[must_use]
            pub fn describe() -> Vec<SettingDoc> {
                let default = Self::default();
                vec![ $( SettingDoc {
                    name: stringify!($name),
                    default: default.$name.to_string(),
                    range: <$type as SettingValue>::range($min, $max),
                    meaning: concat!($($doc),+).trim(),
                }, )+ ]
            }

            /// The value of every setting, as text.
            #[must_use]
            pub fn entries(&self) -> Vec<(&'static str, String)> {
                vec![ $( (stringify!($name), self.$name.to_string()), )+ ]
            }

            /// Sets `name` from text, within its range, or several at once by the name of a preset.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
                match name {
                    PRESET => self.apply(value),
                    $( stringify!($name) => {
                        self.$name = <$type as SettingValue>::parse(value, $min, $max)?;
                        Ok(())
                    } )+
                    _ => Err(SettingError::Unknown),
                }
            }
        }
    };
}

/// One line of the settings reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingDoc {
    /// As written in `app set NAME …`.
    pub name: &'static str,
    /// The default, as text.
    pub default: String,
    /// What values it takes.
    pub range: String,
    /// What it does.
    pub meaning: &'static str,
}

/// Why a setting was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No setting has this name.
    #[error("there is no such setting")]
    Unknown,
    /// The value is no number, no boolean, or out of range.
    #[error("it takes {0}")]
    Value(String),
}

trait SettingValue: Sized {
    fn range(min: u32, max: u32) -> String;
    fn parse(text: &str, min: u32, max: u32) -> Result<Self, SettingError>;
}

impl SettingValue for u32 {
    fn range(min: u32, max: u32) -> String {
        format!("{min} to {max}")
    }

    fn parse(text: &str, min: u32, max: u32) -> Result<Self, SettingError> {
        text.parse()
            .ok()
            .filter(|value| (min..=max).contains(value))
            .ok_or_else(|| SettingError::Value(format!("a whole number from {min} to {max}")))
    }
}

impl SettingValue for bool {
    fn range(_: u32, _: u32) -> String {
        "true or false".to_owned()
    }

    fn parse(text: &str, _: u32, _: u32) -> Result<Self, SettingError> {
        text.parse().map_err(|_| SettingError::Value("true or false".to_owned()))
    }
}

/// A setting with a few named values.
macro_rules! choice {
    ($(#[doc = $doc:literal])+ $name:ident { $( $(#[doc = $value_doc:literal])+ $value:ident = $text:literal, )+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
        pub enum $name { $( $(#[doc = $value_doc])+ #[serde(rename = $text)] $value, )+ }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $( Self::$value => $text, )+ })
            }
        }

        impl SettingValue for $name {
            fn range(_: u32, _: u32) -> String {
                [$( $text ),+].join(", ")
            }

            fn parse(text: &str, min: u32, max: u32) -> Result<Self, SettingError> {
                match text {
                    $( $text => Ok(Self::$value), )+
                    _ => Err(SettingError::Value(format!("one of {}", Self::range(min, max)))),
                }
            }
        }
    };
}

choice! {
    /// What messages that a back end sent do to the conversation list.
    ServerMessages {
        /// A conversation whose newest message was sent by a back end is not listed.
        Exclude = "exclude",
        /// It is listed with its newest message that a client sent.
        Ignore = "ignore",
        /// They count like any other.
        Write = "write",
    }
}

choice! {
    /// For whom a client deletes a conversation.
    DeleteScope {
        /// For everybody in it.
        Everyone = "all",
        /// For itself alone.
        Caller = "self",
    }
}

settings! {
    /// Largest message, in bytes of content and push data together. The hosted cloud allows 5 KB. A frame larger than the server's `frame_bytes_max` ends the connection first.
    message_bytes_max: u32 = 5 * 1024, 1 => 1024 * 1024;
    /// Most members of an ordinary conversation.
    members_max: u32 = 500, 2 => 10_000;
    /// Most clients of a temporary conversation, its creator among them.
    temporary_members_max: u32 = 10, 2 => 10;
    /// Life of a temporary conversation that names none, in seconds.
    temporary_ttl_default_seconds: u32 = 86_400, 1 => 2_592_000;
    /// Longest life of a temporary conversation, in seconds; longer wishes are granted as this.
    temporary_ttl_max_seconds: u32 = 2_592_000, 1 => 2_592_000;
    /// Largest set of attributes (name and custom fields) of a conversation, in bytes of JSON.
    attributes_bytes_max: u32 = 32 * 1024, 256 => 1024 * 1024;
    /// How long after a lost connection a client's will is sent and it counts as offline, in seconds.
    will_grace_seconds: u32 = 5, 0 => 10;
    /// How long a client that lost its connection in a chat room is put back there on return, in seconds.
    room_return_seconds: u32 = 1_800, 0 => 86_400;
    /// Most conversations reported as unread at login, newest first. The hosted cloud reports 50.
    unread_conversations_max: u32 = 1_000, 1 => 10_000;
    /// Largest unread number told to a client; 0 tells the exact one. The hosted cloud stops at 100.
    unread_count_max: u32 = 0, 0 => 1_000_000;
    /// Days for which edits, recalls and missed notifications are kept for those who were away, and for Easemob's devices what belongs to no chat (invitations, receipts, deletions) and who came and went.
    catch_up_days: u32 = 30, 1 => 365;
    /// Life of a session token, in seconds. Some SDKs overflow above 2,147,483.
    session_token_seconds: u32 = 172_800, 60 => 2_147_483;
    /// Whether senders may edit their messages.
    edit_enabled: bool = true, 0 => 1;
    /// Whether senders may recall their messages.
    recall_enabled: bool = true, 0 => 1;
    /// How long after sending an Easemob client may recall or a group's owner may take back a message, in seconds. LeanCloud's wire has no such limit.
    recall_window_seconds: u32 = 120, 1 => 604_800;
    /// How often an Easemob client may edit one message.
    edits_max: u32 = 10, 1 => 1_000;
    /// Whether Easemob clients may read history from the server and delete from it. Off on the hosted cloud until it is bought.
    message_roaming: bool = true, 0 => 1;
    /// Whether Easemob clients may read their conversation list from the server. Off on the hosted cloud until it is bought.
    conversation_list: bool = true, 0 => 1;
    /// How many conversations the unpaged list holds.
    conversation_list_default_count: u32 = 10, 1 => 1_000;
    /// How many days back the unpaged list looks.
    conversation_list_window_days: u32 = 7, 1 => 3_650;
    /// What messages sent through the server's REST API do to the conversation list: `exclude` hides a conversation while its newest message is one of them, `ignore` lists it with its newest client message, `write` counts them like any. Who drives everything by REST wants `write`.
    rest_messages_in_conversation_list: ServerMessages = ServerMessages::Exclude, 0 => 0;
    /// For whom deleting a conversation works: `all` for everybody in it, `self` for the caller alone, as on the hosted cloud of today.
    conversation_delete_scope: DeleteScope = DeleteScope::Everyone, 0 => 0;
    /// Whether only a group's owner and administrators may delete it for everybody; others then delete it for themselves.
    group_delete_all_requires_admin: bool = false, 0 => 1;
    /// Whether who joins a group may read there what was said before, through the Easemob door. LeanCloud's members always may.
    group_history_before_join: bool = false, 0 => 1;
    /// How many days of messages an Easemob device gets when it is seen for the first time.
    new_device_days: u32 = 7, 0 => 365;
    /// Devices of one platform that one Easemob user may have online; the oldest gives way. 0 is any number. The hosted cloud allows 4.
    devices_per_platform_max: u32 = 0, 0 => 1_000;
    /// Whether a door that asks for no password (LeanCloud's) lets clients in that are registered at one that does (Easemob's).
    login_of_accounts_without_password: bool = false, 0 => 1;
    /// Whether anyone may register an Easemob user without the app's token.
    registration_open: bool = false, 0 => 1;
    /// Life of an Easemob user's token that names none, in seconds.
    user_token_seconds: u32 = 5_184_000, 60 => 2_147_483_647;
    /// How often one address may be wrong about an Easemob password or the app's client secret in a minute; then it is refused before anything is looked at. 0 is any number.
    wrong_passwords_per_minute: u32 = 30, 0 => 1_000_000;
    /// Largest file that may be uploaded, in bytes.
    file_bytes_max: u32 = 10 * 1024 * 1024, 1 => 100 * 1024 * 1024;
    /// Messages that one client may send, edit and recall in a minute, over all its connections; more are refused. 0 is any number.
    messages_per_minute: u32 = 6_000, 0 => 1_000_000;
    /// How often one client may read history in a minute; more is refused. 0 is any number.
    history_per_minute: u32 = 3_000, 0 => 1_000_000;
    /// Other calls of one client in a minute (logins, conversations, members, lists; not receipts and marks); more are refused. 0 is any number.
    calls_per_minute: u32 = 3_000, 0 => 1_000_000;
    /// How many of each may come at once before the limits per minute count.
    rate_burst: u32 = 200, 1 => 100_000;
    /// Calls of each kind that the app's back end may make over Easemob's REST API in a minute; more are refused. 0 is any number.
    server_calls_per_minute: u32 = 0, 0 => 1_000_000;
    /// Whether to accept compressed frames from Easemob's Web SDK: less traffic for 64 KiB of memory a connection.
    uplink_compression: bool = false, 0 => 1;
}

/// What stands for a setting's name before the name of a preset, as in `preset=as-vendor`.
pub const PRESET: &str = "preset";

/// Several settings at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// As written in `app set NAME preset=…`.
    pub name: &'static str,
    /// What it is for.
    pub meaning: &'static str,
    /// The settings and their values.
    pub values: &'static [(&'static str, &'static str)],
}

/// Every preset. The hosted clouds' figures: LeanCloud lets a client send 60 messages, read history 120
/// times and do 30 other things a minute, Easemob an app call each address of its REST API 100 times a
/// second.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "as-vendor",
        meaning: "the rate limits of the hosted clouds",
        values: &[
            ("messages_per_minute", "60"),
            ("history_per_minute", "120"),
            ("calls_per_minute", "30"),
            ("rate_burst", "30"),
            ("server_calls_per_minute", "6000"),
        ],
    },
    Preset {
        name: "unlimited",
        meaning: "no rate limits, for load tests",
        values: &[
            ("messages_per_minute", "0"),
            ("history_per_minute", "0"),
            ("calls_per_minute", "0"),
            ("server_calls_per_minute", "0"),
        ],
    },
];

impl Settings {
    fn apply(&mut self, name: &str) -> Result<(), SettingError> {
        let preset = PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            SettingError::Value(format!("one of {}", names.join(", ")))
        })?;
        preset.values.iter().try_for_each(|(name, value)| self.set(name, value))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_within_their_range_only() {
        let mut settings = Settings::default();
        settings.set("will_grace_seconds", "0").unwrap();
        assert_eq!(settings.will_grace_seconds, 0);
        assert!(matches!(settings.set("will_grace_seconds", "11"), Err(SettingError::Value(_))));
        assert!(matches!(settings.set("edit_enabled", "yes"), Err(SettingError::Value(_))));
        assert_eq!(settings.set("nothing", "1"), Err(SettingError::Unknown));
    }

    #[test]
    fn a_preset_sets_what_it_says_and_leaves_the_rest() {
        for preset in PRESETS {
            let mut settings = Settings { members_max: 7, ..Settings::default() };
            settings.set(PRESET, preset.name).unwrap();
            let entries = settings.entries();
            for (name, value) in preset.values {
                assert!(entries.contains(&(*name, (*value).to_owned())), "{name} of {}", preset.name);
            }
            let changed = Settings::default().entries().iter().zip(&entries).filter(|(a, b)| a != b).count();
            assert!(changed <= preset.values.len() + 1 && settings.members_max == 7);
        }
        let refused = Settings::default().set(PRESET, "asvendor");
        assert_eq!(refused, Err(SettingError::Value("one of as-vendor, unlimited".to_owned())));
    }

    #[test]
    fn every_default_lies_in_its_range() {
        let mut settings = Settings::default();
        for doc in Settings::describe() {
            settings.set(doc.name, &doc.default).unwrap();
            assert!(!doc.meaning.is_empty());
        }
        assert_eq!(settings, Settings::default());
    }
}
