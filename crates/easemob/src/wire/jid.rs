//! Addresses of the wire: users, groups and queues.

use super::proto;

/// The domain of people and of the system queue.
pub const PEOPLE_DOMAIN: &str = "easemob.com";

/// The domain of groups, chat rooms and threads.
pub const CONFERENCE_DOMAIN: &str = "conference.easemob.com";

/// An address. Parts that are not set are empty; empty parts are not written.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Jid {
    /// `org#app`
    pub app_key: String,
    /// A user's name or a group's number.
    pub name: String,
    /// [`PEOPLE_DOMAIN`] or [`CONFERENCE_DOMAIN`].
    pub domain: String,
    /// One device of a user.
    pub resource: String,
}

impl Jid {
    /// A user, on all devices.
    #[must_use]
    pub fn person(app_key: &str, name: &str) -> Self {
        Self {
            app_key: app_key.to_owned(),
            name: name.to_owned(),
            domain: PEOPLE_DOMAIN.to_owned(),
            resource: String::new(),
        }
    }

    /// A group, chat room or thread.
    #[must_use]
    pub fn conference(app_key: &str, name: &str) -> Self {
        Self { domain: CONFERENCE_DOMAIN.to_owned(), ..Self::person(app_key, name) }
    }

    /// The queue of contacts', groups' and devices' events: a domain and nothing else (client 4.2).
    #[must_use]
    pub fn system() -> Self {
        Self { domain: PEOPLE_DOMAIN.to_owned(), ..Self::default() }
    }

    /// Whether this is a group, chat room or thread.
    #[must_use]
    pub fn is_conference(&self) -> bool {
        self.domain == CONFERENCE_DOMAIN
    }
}

impl From<proto::Jid> for Jid {
    fn from(jid: proto::Jid) -> Self {
        Self {
            app_key: jid.app_key.unwrap_or_default(),
            name: jid.name.unwrap_or_default(),
            domain: jid.domain.unwrap_or_default(),
            resource: jid.client_resource.unwrap_or_default(),
        }
    }
}

impl From<Jid> for proto::Jid {
    fn from(jid: Jid) -> Self {
        let part = |text: String| (!text.is_empty()).then_some(text);
        Self {
            app_key: part(jid.app_key),
            name: part(jid.name),
            domain: part(jid.domain),
            client_resource: part(jid.resource),
        }
    }
}

/// A JID with only a name, as message bodies carry them.
#[must_use]
pub fn bare(name: &str) -> proto::Jid {
    proto::Jid { name: Some(name.to_owned()), ..proto::Jid::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_not_set_are_not_written() {
        let written = proto::Jid::from(Jid::system());
        assert_eq!(written, proto::Jid { domain: Some("easemob.com".to_owned()), ..proto::Jid::default() });
        assert_eq!(Jid::from(written), Jid::system());
    }

    #[test]
    fn groups_are_told_by_their_domain() {
        assert!(Jid::conference("acme#demo", "1001").is_conference());
        assert!(!Jid::person("acme#demo", "1001").is_conference());
    }
}
