//! What a message says, in words that every wire knows.
//!
//! The domain stores what a gateway wrote and never opens it. A gateway that has to show a message of
//! another wire asks [`crate::Posthouse::content`], which calls the reader of the gateway that wrote it.

use serde_json::{Map, Value};

use crate::message::{Body, SchemaTag};

/// A message's content, as far as it can be said on every wire.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Content {
    /// What is said.
    pub what: Saying,
    /// The fields an app has added.
    pub attributes: Map<String, Value>,
}

/// What a message says.
#[derive(Clone, PartialEq, Debug)]
pub enum Saying {
    /// Written text.
    Text(String),
    /// A picture, a recording, moving pictures or any file.
    File(FileSaying),
    /// A place on the map.
    Location {
        /// Degrees north.
        latitude: f64,
        /// Degrees east.
        longitude: f64,
        /// What is there.
        address: String,
    },
    /// What the app defined itself.
    Custom {
        /// Its name.
        event: String,
        /// Its fields.
        fields: Map<String, Value>,
    },
    /// Something only its own wire knows; a line that people understand.
    Other(String),
}

impl Default for Saying {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

/// A file that a message carries.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FileSaying {
    /// Where it can be fetched.
    pub url: String,
    /// What it is called.
    pub name: String,
    /// Its size, in bytes.
    pub bytes: Option<u64>,
    /// How long it plays, in seconds.
    pub seconds: Option<f64>,
    /// Width and height, in pixels.
    pub pixels: Option<(f64, f64)>,
    /// What opens it, where the store of files asks for it.
    pub secret: Option<String>,
}

/// Reads bodies of one schema. Never fails: what it can't read is [`Saying::Other`].
pub type ReadContent = fn(&Body) -> Content;

/// The readers of all gateways.
pub type Readers = Vec<(SchemaTag, ReadContent)>;

/// A line for people about a body that no reader knows.
#[must_use]
pub fn summary(body: &Body) -> Content {
    let line = body.summary.as_deref().unwrap_or_default().to_owned();
    Content { what: Saying::Other(line), attributes: Map::new() }
}
