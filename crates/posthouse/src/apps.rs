//! `posthouse app …`: making and looking after tenants, beside a running server or without one.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};
use posthouse_core::app::{App, PRESET, PRESETS, SettingError, Settings};
use posthouse_core::id::AppId;
use posthouse_core::port::store::Apps;
use posthouse_core::time::Clock;
use serde_json::{Map, Value};

use crate::adapter::{SystemChance, SystemClock};

/// What can be done with apps.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an app, with random ids and secrets or with those that shipped apps carry.
    Create {
        /// What you call it; unique.
        name: String,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        output: Output,
    },
    /// List all apps, without secrets.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show one app with its keys and settings.
    Show {
        /// The app's name.
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Change settings, such as `message_bytes_max=8192` or `preset=as-vendor`; without any, explain them all.
    Set {
        /// The app's name.
        name: String,
        /// `key=value`, any number of times.
        #[arg(value_name = "KEY=VALUE")]
        changes: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Give an app new secrets: the ones named, or all master secrets if none is named.
    /// Ids and app keys ship inside apps and stay, unless they are named with a value.
    Rotate {
        /// The app's name.
        name: String,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        output: Output,
    },
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// One JSON object (or list) instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Ids and keys to take over. Each takes 1 to 128 printable ASCII characters.
#[derive(Clone, Debug, Default, Args)]
pub struct Keys {
    /// `LeanCloud` App ID.
    #[arg(long, value_name = "ID")]
    pub leancloud_id: Option<String>,
    /// `LeanCloud` App Key.
    #[arg(long, value_name = "KEY")]
    pub leancloud_key: Option<String>,
    /// `LeanCloud` Master Key.
    #[arg(long, value_name = "KEY")]
    pub leancloud_master_key: Option<String>,
    /// Easemob App Key.
    #[arg(long, value_name = "ORG#APP")]
    pub easemob_appkey: Option<String>,
    /// Easemob Client ID.
    #[arg(long, value_name = "ID")]
    pub easemob_client_id: Option<String>,
    /// Easemob Client Secret.
    #[arg(long, value_name = "SECRET")]
    pub easemob_client_secret: Option<String>,
}

/// Names under which the store keeps the keys, the names they have in JSON, and whether a value
/// may belong to one app only.
const KEYS: [(&str, &str); 6] = [
    ("leancloud.id", "leancloud_id"),
    ("leancloud.key", "leancloud_key"),
    ("leancloud.master_key", "leancloud_master_key"),
    ("easemob.appkey", "easemob_appkey"),
    ("easemob.client_id", "easemob_client_id"),
    ("easemob.client_secret", "easemob_client_secret"),
];

/// First segments of paths that belong to other things than an org's REST API.
const RESERVED_ORGS: [&str; 7] = ["1", "1.1", "1.2", "v1", "v2", "easemob", "websocket"];

/// By these a request finds its app.
const UNIQUE_KEYS: &[&str] = &["leancloud.id", "easemob.appkey", "easemob.client_id"];

/// Known by back ends only; what `rotate` renews when nothing is named.
const SECRETS: [&str; 2] = ["leancloud.master_key", "easemob.client_secret"];

const KEY_CHARS_MAX: usize = 128;

/// Why an `app` command failed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No such app.
    #[error("there is no app called `{0}`; `posthouse app list` shows all")]
    Unknown(String),
    /// Taken.
    #[error("the name `{0}` or one of the ids belongs to another app already")]
    Taken(String),
    /// A name that can't be used.
    #[error("an app's name has 1 to 64 printable characters")]
    Name,
    /// A key that can't be used.
    #[error("{option} takes 1 to {KEY_CHARS_MAX} printable ASCII characters{more}")]
    Key {
        /// The option.
        option: &'static str,
        /// What else it needs.
        more: &'static str,
    },
    /// Not `key=value`.
    #[error("`{0}` is not of the form key=value")]
    NotAnAssignment(String),
    /// A setting that was refused.
    #[error("{key}: {why}{hint}")]
    Setting {
        /// The setting.
        key: String,
        /// Why.
        why: SettingError,
        /// The nearest setting.
        hint: String,
    },
    /// The store can't do it.
    #[error(transparent)]
    Store(#[from] posthouse_core::Error),
    /// The output can't be written.
    #[error("can't print: {0}")]
    Print(#[from] std::io::Error),
}

/// Runs one command on an opened store.
pub async fn run(store: &dyn Apps, command: Command, out: &mut dyn Write) -> Result<(), AppError> {
    match command {
        Command::Create { name, keys, output } => {
            let app = create(store, &name, &keys).await?;
            print_app(&app, output, out)
        }
        Command::List { output } => {
            let apps = all(store).await?;
            if output.json {
                let list: Vec<Value> = apps.iter().map(summary).collect();
                writeln!(out, "{}", Value::Array(list))?;
            } else if apps.is_empty() {
                writeln!(out, "no apps yet; make one with `posthouse app create NAME`")?;
            } else {
                for app in apps {
                    let id = app.key("leancloud.id").unwrap_or_default();
                    writeln!(
                        out,
                        "{:<24}  leancloud id {id}  easemob appkey {}",
                        app.name,
                        app.key("easemob.appkey").unwrap_or_default()
                    )?;
                }
            }
            Ok(())
        }
        Command::Show { name, output } => print_app(&find(store, &name).await?, output, out),
        Command::Set { name, changes, output } => {
            let mut app = find(store, &name).await?;
            if changes.is_empty() {
                return explain(&app, out);
            }
            for change in changes {
                let (key, value) =
                    change.split_once('=').ok_or_else(|| AppError::NotAnAssignment(change.clone()))?;
                app.settings.set(key.trim(), value.trim()).map_err(|why| setting_error(key, why))?;
            }
            replace(store, &app).await?;
            print_app(&app, output, out)
        }
        Command::Rotate { name, keys, output } => {
            let mut app = find(store, &name).await?;
            let given = given_keys(&keys)?;
            if given.is_empty() {
                let fresh = random_keys();
                for secret in SECRETS {
                    if let Some(value) = fresh.get(secret) {
                        app.keys.insert(secret.to_owned(), value.clone());
                    }
                }
            }
            app.keys.extend(given);
            replace(store, &app).await?;
            print_app(&app, output, out)
        }
    }
}

/// Makes an app with the keys given and random ones for the rest.
pub async fn create(store: &dyn Apps, name: &str, keys: &Keys) -> Result<App, AppError> {
    let printable = name.chars().all(|c| !c.is_control());
    if name.trim().is_empty() || name.chars().count() > 64 || !printable {
        return Err(AppError::Name);
    }
    let mut all_keys = random_keys();
    all_keys.extend(given_keys(keys)?);
    let id = AppId::parse(&SystemChance.text(16)).unwrap_or_else(|_| unreachable!("16 letters are an id"));
    let app = App {
        id,
        name: name.to_owned(),
        keys: all_keys,
        settings: Settings::default(),
        created_at: SystemClock.now(),
    };
    if store.add_app(app.clone(), UNIQUE_KEYS).await? {
        Ok(app)
    } else {
        Err(AppError::Taken(name.to_owned()))
    }
}

/// The app called `name`.
pub async fn find(store: &dyn Apps, name: &str) -> Result<App, AppError> {
    all(store)
        .await?
        .into_iter()
        .find(|app| app.name == name)
        .ok_or_else(|| AppError::Unknown(name.to_owned()))
}

async fn all(store: &dyn Apps) -> Result<Vec<App>, AppError> {
    let mut apps = store.apps_since(0).await?.map_or_else(Vec::new, |(_, apps)| apps);
    apps.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(apps)
}

async fn replace(store: &dyn Apps, app: &App) -> Result<(), AppError> {
    if store.replace_app(app.clone(), UNIQUE_KEYS).await? {
        Ok(())
    } else {
        Err(AppError::Taken(app.name.clone()))
    }
}

fn random_keys() -> BTreeMap<String, String> {
    let digits = format!("{:016}", u128::from(posthouse_core::time::Chance::bits(&SystemChance)));
    [
        ("leancloud.id", SystemChance.text(24)),
        ("leancloud.key", SystemChance.text(24)),
        ("leancloud.master_key", SystemChance.text(32)),
        ("easemob.appkey", format!("{}#posthouse", &digits[..16])),
        ("easemob.client_id", SystemChance.text(24)),
        ("easemob.client_secret", SystemChance.text(32)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn given_keys(keys: &Keys) -> Result<BTreeMap<String, String>, AppError> {
    let given = [
        ("leancloud.id", "--leancloud-id", &keys.leancloud_id),
        ("leancloud.key", "--leancloud-key", &keys.leancloud_key),
        ("leancloud.master_key", "--leancloud-master-key", &keys.leancloud_master_key),
        ("easemob.appkey", "--easemob-appkey", &keys.easemob_appkey),
        ("easemob.client_id", "--easemob-client-id", &keys.easemob_client_id),
        ("easemob.client_secret", "--easemob-client-secret", &keys.easemob_client_secret),
    ];
    let mut taken = BTreeMap::new();
    for (name, option, value) in given {
        let Some(value) = value else { continue };
        let printable = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if value.is_empty() || value.len() > KEY_CHARS_MAX || !printable {
            return Err(AppError::Key { option, more: "" });
        }
        if name == "easemob.appkey"
            && (value.matches('#').count() != 1 || value.starts_with('#') || value.ends_with('#'))
        {
            return Err(AppError::Key { option, more: ", as ORG#APP with exactly one #" });
        }
        if name == "easemob.appkey" && RESERVED_ORGS.iter().any(|org| value.split('#').next() == Some(org)) {
            return Err(AppError::Key { option, more: "; this ORG is the path of something else" });
        }
        taken.insert(name.to_owned(), value.clone());
    }
    Ok(taken)
}

fn setting_error(key: &str, why: SettingError) -> AppError {
    let hint = match why {
        SettingError::Unknown => Settings::describe()
            .into_iter()
            .map(|doc| (strsim::jaro_winkler(key, doc.name), doc.name))
            .filter(|(likeness, _)| *likeness > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map_or_else(String::new, |(_, name)| format!(", did you mean `{name}`?")),
        SettingError::Value(_) => String::new(),
    };
    AppError::Setting { key: key.to_owned(), why, hint }
}

fn summary(app: &App) -> Value {
    let mut object = Map::new();
    object.insert("name".to_owned(), app.name.clone().into());
    for (name, json) in KEYS {
        if !SECRETS.contains(&name) {
            object.insert(json.to_owned(), app.key(name).into());
        }
    }
    Value::Object(object)
}

fn full(app: &App) -> Value {
    let mut object = Map::new();
    object.insert("name".to_owned(), app.name.clone().into());
    for (name, json) in KEYS {
        object.insert(json.to_owned(), app.key(name).into());
    }
    object.insert("settings".to_owned(), serde_json::to_value(&app.settings).unwrap_or_default());
    Value::Object(object)
}

fn print_app(app: &App, output: Output, out: &mut dyn Write) -> Result<(), AppError> {
    if output.json {
        writeln!(out, "{}", full(app))?;
        return Ok(());
    }
    writeln!(out, "app {}", app.name)?;
    for (name, json) in KEYS {
        writeln!(out, "  {json:<24} {}", app.key(name).unwrap_or_default())?;
    }
    let defaults = Settings::default().entries();
    let changed: Vec<_> =
        app.settings.entries().into_iter().zip(defaults).filter(|(now, default)| now != default).collect();
    if !changed.is_empty() {
        writeln!(out, "settings that differ from the default")?;
        for ((name, value), _) in changed {
            writeln!(out, "  {name:<32} {value}")?;
        }
    }
    Ok(())
}

fn explain(app: &App, out: &mut dyn Write) -> Result<(), AppError> {
    writeln!(
        out,
        "settings of {} (change them with `posthouse app set {:?} KEY=VALUE`)",
        app.name, app.name
    )?;
    let docs = Settings::describe();
    for ((name, value), doc) in app.settings.entries().into_iter().zip(docs) {
        writeln!(
            out,
            "\n  {name} = {value}    ({}; default {})\n      {}",
            doc.range, doc.default, doc.meaning
        )?;
    }
    for preset in PRESETS {
        let values: Vec<String> =
            preset.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        writeln!(out, "\n  {PRESET}={}\n      Sets {}: {}.", preset.name, preset.meaning, values.join(", "))?;
    }
    Ok(())
}
