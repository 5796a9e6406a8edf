//! Configuration: one list of options, each settable by flag, environment variable and file.
//!
//! The flag wins over the environment, the environment over the file, the file over the default.
//! Unknown keys in the file are refused with the nearest known one. What an operator changes while
//! the server runs lives in the store instead, see `posthouse app set`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use posthouse_transport::http::TrustedProxies;
use tracing_subscriber::EnvFilter;

/// A problem with the configuration, said in words and with its source.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path}: {source}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The file has a key that doesn't exist.
    #[error("{path}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The nearest known key, as ", did you mean …?".
        hint: String,
    },
    /// A value that can't be used.
    #[error("{origin}: {key} = `{value}`: {why}")]
    Value {
        /// Flag, environment variable, or file.
        origin: String,
        /// The option.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Options that contradict each other.
    #[error("{0}")]
    Conflict(&'static str),
}

/// One line of the configuration reference.
#[derive(Clone, Debug)]
pub struct OptionDoc {
    /// The key in the file; the flag is the same with `-` for `_`.
    pub key: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// The default, as text; empty for none.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

trait OptionValue: Sized {
    fn parse(text: &str) -> Result<Self, String>;
    /// As it would stand in the file.
    fn show(&self) -> String;
}

impl OptionValue for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        format!("{:?}", self.display().to_string())
    }
}

impl OptionValue for Option<PathBuf> {
    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".to_owned(), OptionValue::show)
    }
}

impl OptionValue for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "not an address with a port, such as 127.0.0.1:7700 or [::]:7700".to_owned())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl OptionValue for u32 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "not a whole number above 0".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl OptionValue for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl OptionValue for TrustedProxies {
    fn parse(text: &str) -> Result<Self, String> {
        let networks = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Self::parse(networks).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        format!("{:?}", self.to_string())
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl OptionValue for LogFormat {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("not `text` or `json`".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "\"text\"",
            Self::Json => "\"json\"",
        }
        .to_owned()
    }
}

macro_rules! options {
    ($( $(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:literal, $env:literal; )+) => {
        /// The options as given on the command line or in the environment.
        #[derive(Clone, Debug, Default, clap::Args)]
        #[command(next_help_heading = "Options (each also a key in posthouse.toml)")]
        pub struct Flags {
            $( $(#[doc = $doc])+ #[arg(long, env = $env, value_name = "VALUE", hide_env_values = true)]
               pub $name: Option<String>, )+
        }

        /// The options in force.
        #[derive(Clone, Debug)]
        pub struct Config { $( $(#[doc = $doc])+ pub $name: $type, )+ }

        impl Config {
            /// Every option, for the reference.
            #[must_use]
            pub fn describe() -> Vec<OptionDoc> {
                vec![ $( OptionDoc {
                    key: stringify!($name), env: $env, default: $default,
                    meaning: concat!($($doc),+).trim(),
                }, )+ ]
            }

            /// Every option with the value in force, as in the file.
            #[must_use]
            pub fn entries(&self) -> Vec<(&'static str, String)> {
                vec![ $( (stringify!($name), self.$name.show()), )+ ]
            }

            fn resolve(flags: &Flags, mut file: BTreeMap<String, String>, path: &Path) -> Result<Self, ConfigError> {
                $( let $name = {
                    let (value, origin) = match (&flags.$name, file.remove(stringify!($name))) {
                        (Some(value), _) => (value.clone(), format!("--{} or {}", stringify!($name).replace('_', "-"), $env)),
                        (None, Some(value)) => (value, path.display().to_string()),
                        (None, None) => ($default.to_owned(), "default".to_owned()),
                    };
                    <$type as OptionValue>::parse(&value)
                        .map_err(|why| ConfigError::Value { origin, key: stringify!($name), value, why })?
                }; )+
                if let Some(key) = file.into_keys().next() {
                    let known = [ $( stringify!($name), )+ ];
                    return Err(ConfigError::UnknownKey { path: path.to_owned(), hint: nearest(&key, &known), key });
                }
                Ok(Self { $( $name, )+ })
            }
        }
    };
}

options! {
    /// Directory of everything that is kept: the store and the server's secrets.
    data: PathBuf = "posthouse-data", "POSTHOUSE_DATA";
    /// Address of HTTP and WebSocket, for apps.
    listen: SocketAddr = "127.0.0.1:7700", "POSTHOUSE_LISTEN";
    /// Address of metrics and health, for operators. Keep it away from the Internet.
    admin_listen: SocketAddr = "127.0.0.1:7701", "POSTHOUSE_ADMIN_LISTEN";
    /// Certificate chain in PEM; with `tls_key` it turns on TLS.
    tls_cert: Option<PathBuf> = "", "POSTHOUSE_TLS_CERT";
    /// Private key of the certificate in PEM.
    tls_key: Option<PathBuf> = "", "POSTHOUSE_TLS_KEY";
    /// Proxies whose X-Forwarded-For, -Proto and -Host are believed: addresses or networks, separated by commas.
    trusted_proxies: TrustedProxies = "", "POSTHOUSE_TRUSTED_PROXIES";
    /// Most connections at once; one more is dropped.
    connections_max: u32 = "100000", "POSTHOUSE_CONNECTIONS_MAX";
    /// Largest frame of a logged-in connection, in bytes.
    frame_bytes_max: u32 = "65536", "POSTHOUSE_FRAME_BYTES_MAX";
    /// Largest frame before login, in bytes.
    frame_bytes_before_login: u32 = "8192", "POSTHOUSE_FRAME_BYTES_BEFORE_LOGIN";
    /// Events that may wait for one connection; one more closes it as too slow.
    push_queue_max: u32 = "1024", "POSTHOUSE_PUSH_QUEUE_MAX";
    /// Bytes that events waiting for one connection may keep; more closes it as too slow.
    push_queue_bytes_max: u32 = "4194304", "POSTHOUSE_PUSH_QUEUE_BYTES_MAX";
    /// Messages and pings of one connection that are read in a second, and five times as many at once; whoever sends more is read more slowly.
    frames_per_second_max: u32 = "1000", "POSTHOUSE_FRAMES_PER_SECOND_MAX";
    /// Seconds a connection may take to log in.
    login_timeout_seconds: u32 = "60", "POSTHOUSE_LOGIN_TIMEOUT_SECONDS";
    /// Seconds without any frame after which a connection counts as lost. SDKs send one every 180.
    idle_timeout_seconds: u32 = "370", "POSTHOUSE_IDLE_TIMEOUT_SECONDS";
    /// Seconds that clients get to move away when the server stops.
    drain_seconds: u32 = "3", "POSTHOUSE_DRAIN_SECONDS";
    /// What is logged: error, warn, info, debug, trace, or a list such as `info,posthouse_store=debug`.
    log: String = "info", "POSTHOUSE_LOG";
    /// How log lines look: text or json.
    log_format: LogFormat = "text", "POSTHOUSE_LOG_FORMAT";
}

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "posthouse.toml";

impl Config {
    /// Reads the file (if any) and joins it with `flags`.
    pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let path = file.unwrap_or_else(|| Path::new(DEFAULT_FILE));
        let values = if file.is_some() || path.exists() { read(path)? } else { BTreeMap::new() };
        let config = Self::resolve(flags, values, path)?;
        if config.tls_cert.is_some() != config.tls_key.is_some() {
            return Err(ConfigError::Conflict("tls_cert and tls_key go together: give both or none"));
        }
        config.log_filter()?;
        Ok(config)
    }

    /// The filter of log lines.
    pub fn log_filter(&self) -> Result<EnvFilter, ConfigError> {
        EnvFilter::try_new(&self.log).map_err(|error| ConfigError::Value {
            origin: "the configuration".to_owned(),
            key: "log",
            value: self.log.clone(),
            why: error.to_string(),
        })
    }

    /// What an operator should know before this goes on the Internet.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.listen.ip().is_loopback() && self.tls_cert.is_none() && self.trusted_proxies.is_empty() {
            warnings.push(format!(
                "listening on {} without TLS: messages and tokens can be read on the way. \
                 Give --tls-cert and --tls-key, or put a TLS proxy in front and name it with --trusted-proxies",
                self.listen
            ));
        }
        if !self.admin_listen.ip().is_loopback() {
            warnings.push(format!(
                "metrics are readable by everybody who reaches {}: keep the admin address on a private network",
                self.admin_listen
            ));
        }
        warnings
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let table: toml::Table = text
        .parse()
        .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    Ok(table.into_iter().map(|(key, value)| (key, plain(value))).collect())
}

/// Values are parsed per option, whether they are written as numbers, texts or lists.
fn plain(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        toml::Value::Array(items) => items.into_iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn nearest(key: &str, known: &[&str]) -> String {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, candidate)| format!(", did you mean `{candidate}`?"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn load(toml: &str, flags: &Flags) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        Config::load(Some(file.path()), flags)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let flags = Flags { listen: Some("127.0.0.1:1".to_owned()), ..Flags::default() };
        let config = load("listen = \"127.0.0.1:2\"\nidle_timeout_seconds = 9\n", &flags).unwrap();
        assert_eq!(config.listen.port(), 1);
        assert_eq!(config.idle_timeout_seconds, 9);
        assert_eq!(config.drain_seconds, 3);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let error = load("listn = \"127.0.0.1:2\"", &Flags::default()).unwrap_err().to_string();
        assert!(error.contains("unknown key `listn`, did you mean `listen`?"), "{error}");
    }

    #[test]
    fn a_bad_value_names_its_source_and_tls_needs_both_files() {
        let error = load("listen = \"here\"", &Flags::default()).unwrap_err().to_string();
        assert!(error.contains("listen = `here`: not an address"), "{error}");
        let flags = Flags { tls_cert: Some("c.pem".to_owned()), ..Flags::default() };
        assert!(matches!(load("", &flags), Err(ConfigError::Conflict(_))));
        let error = load("log = \"posthouse=loud\"", &Flags::default()).unwrap_err().to_string();
        assert!(error.contains("log = `posthouse=loud`"), "{error}");
        let flags = Flags { connections_max: Some("0".to_owned()), ..Flags::default() };
        let error = load("", &flags).unwrap_err().to_string();
        assert!(error.starts_with("--connections-max or POSTHOUSE_CONNECTIONS_MAX:"), "{error}");
    }

    #[test]
    fn an_open_door_is_warned_about() {
        let config = load("listen = \"0.0.0.0:7700\"", &Flags::default()).unwrap();
        assert!(config.warnings()[0].contains("without TLS"));
        let config =
            load("listen = \"0.0.0.0:7700\"\ntrusted_proxies = [\"10.0.0.0/8\"]", &Flags::default()).unwrap();
        assert!(config.warnings().is_empty());
    }
}
