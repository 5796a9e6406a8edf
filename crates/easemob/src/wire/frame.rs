//! One binary WebSocket message is one `MSync`: requests in, answers and pushes out.
//!
//! Fields that SDKs read without looking are always written: a status also when it is 0, the queue
//! of every delivery, `isLast` (schema, reading rules; client 3.3, 4.2).

use std::borrow::Cow;

use bytes::Bytes;
use prost::Message as _;

use super::jid::Jid;
use super::meta::SentMeta;
use super::proto::m_sync::{Command, Version};
use super::proto::provision::{CompressDirection, CompressType};
use super::proto::status::ErrorCode;
use super::proto::{
    self, CommNotice, CommSyncDl, CommSyncUl, CommUnreadDl, CommUnreadUl, MSync, MetaQueue, Provision,
};
use super::raw;

/// Before the token, wherever a client sends it.
const TOKEN_PREFIX: &str = "$t$";

/// Number of the field `Meta.id`.
const META_ID: u32 = 1;

/// A request of a client.
#[derive(Clone, PartialEq, Debug)]
pub enum Uplink {
    /// A login.
    Provision(Box<Login>),
    /// "Which queues have something?", which is also the heartbeat.
    Unread,
    /// "What is in this queue?"
    Pull(Pull),
    /// History over MSYNC, by native clients.
    Roam(Roam),
    /// A message, receipt, recall, edit; a join or leave; statistics.
    Send(Box<SentMeta>),
    /// The end of the session.
    Logout,
}

/// A login (client 3.2).
#[derive(Clone, PartialEq, Debug)]
pub struct Login {
    /// Who says to be there, with the wanted resource.
    pub guid: Jid,
    /// `auth` of the envelope, as it came.
    pub auth: Option<String>,
    /// The rest.
    pub provision: Provision,
}

impl Login {
    /// The token, without its prefix: that of the envelope, or that of the payload's `authToken`.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        let in_json = || {
            let json: serde_json::Value = serde_json::from_str(self.provision.auth_token.as_deref()?).ok()?;
            Some(json.get("token")?.as_str()?.to_owned())
        };
        let token = self.auth.clone().filter(|auth| !auth.is_empty()).or_else(in_json)?;
        Some(token.strip_prefix(TOKEN_PREFIX).map(str::to_owned).unwrap_or(token))
    }

    /// The resource asked for: that of the payload, or that of the address; empty when there is none.
    #[must_use]
    pub fn resource(&self) -> &str {
        match self.provision.resource.as_deref() {
            None | Some("") => &self.guid.resource,
            Some(resource) => resource,
        }
    }

    /// Whether the client can compress the stream with LZ4.
    #[must_use]
    pub fn offers_lz4(&self) -> bool {
        self.provision.protocol_compress_type.contains(&CompressType::CompressLz4.into())
    }
}

/// A pull (client 4.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// Of what.
    pub queue: Jid,
    /// The `nextKey` of the batch up to which everything is acknowledged; 0 for none.
    pub key: u64,
}

/// A native client's request for history. The reference knows the fields, not their meaning in full.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roam {
    /// Of what.
    pub queue: Jid,
}

/// A message that holds no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not an `MSync`.
    #[error("the message is not an MSync")]
    Envelope,
    /// A command that does not exist.
    #[error("there is no command {0}")]
    UnknownCommand(i32),
    /// A command that only servers send.
    #[error("clients do not send {}", .0.as_str_name())]
    NotForServers(Command),
    /// The payload is not that of its command.
    #[error("the payload is not that of {}", .0.as_str_name())]
    Payload(Command),
    /// A sync that neither sends a meta nor names a queue.
    #[error("the sync has neither a meta nor a queue")]
    Nothing,
    /// A meta that can't be read. The client waits for an ack of this id, if it is not 0.
    #[error("the meta {id} can't be read")]
    Meta {
        /// The client's id of it; 0 when not even that can be read.
        id: u64,
    },
}

impl Unreadable {
    /// What the client wanted, as far as that is known.
    #[must_use]
    pub const fn command(self) -> Option<Command> {
        match self {
            Self::Envelope | Self::UnknownCommand(_) => None,
            Self::NotForServers(command) | Self::Payload(command) => Some(command),
            Self::Nothing | Self::Meta { .. } => Some(Command::Sync),
        }
    }
}

/// The request in one plain WebSocket message.
pub fn decode(message: Bytes) -> Result<Uplink, Unreadable> {
    let envelope = MSync::decode(message).map_err(|_| Unreadable::Envelope)?;
    // The first command is what an absent one means.
    let number = envelope.command.unwrap_or_default();
    let command = Command::try_from(number).map_err(|_| Unreadable::UnknownCommand(number))?;
    let payload = envelope.payload.unwrap_or_default();
    let unreadable = |_| Unreadable::Payload(command);
    let guid = envelope.guid.map(Jid::from).unwrap_or_default();
    match command {
        Command::Sync => sync(CommSyncUl::decode(payload).map_err(unreadable)?),
        Command::Unread => CommUnreadUl::decode(payload).map_err(unreadable).map(|_| Uplink::Unread),
        Command::Notice => Err(Unreadable::NotForServers(command)),
        Command::Provision => {
            let provision = Provision::decode(payload).map_err(unreadable)?;
            Ok(Uplink::Provision(Box::new(Login { guid, auth: envelope.auth, provision })))
        }
        Command::Logout => proto::Logout::decode(payload).map_err(unreadable).map(|_| Uplink::Logout),
    }
}

fn sync(sync: CommSyncUl) -> Result<Uplink, Unreadable> {
    if let Some(meta) = &sync.meta {
        return match SentMeta::read(meta) {
            Ok(sent) => Ok(Uplink::Send(Box::new(sent))),
            Err(raw::Malformed) => {
                Err(Unreadable::Meta { id: raw::readable_varint(meta, META_ID).unwrap_or_default() })
            }
        };
    }
    let queue = Jid::from(sync.queue.ok_or(Unreadable::Nothing)?);
    let key = sync.key.unwrap_or_default();
    if sync.is_roam.unwrap_or_default() {
        return Ok(Uplink::Roam(Roam { queue }));
    }
    Ok(Uplink::Pull(Pull { queue, key }))
}

/// A status with the text that SDKs compare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// What kind of outcome.
    pub code: ErrorCode,
    /// The exact text; empty for none.
    pub reason: Cow<'static, str>,
}

impl Status {
    /// Success.
    pub const OK: Self = Self { code: ErrorCode::Ok, reason: Cow::Borrowed("") };

    /// A status with a text.
    #[must_use]
    pub fn new(code: ErrorCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl From<Status> for proto::Status {
    fn from(status: Status) -> Self {
        let reason = (!status.reason.is_empty()).then(|| status.reason.into_owned());
        Self { error_code: Some(status.code.into()), reason, ..Self::default() }
    }
}

/// What a server says. Times are Unix milliseconds.
#[derive(Clone, PartialEq, Debug)]
pub enum Downlink {
    /// The answer to a login.
    Provision(ProvisionReply),
    /// The answer to [`Uplink::Unread`].
    Unread {
        /// Success, or why the client is not told.
        status: Status,
        /// Queues with pending items, and how many.
        queues: Vec<(Jid, u32)>,
        /// Now.
        timestamp: i64,
    },
    /// A queue has something new.
    Notice {
        /// Which.
        queue: Jid,
    },
    /// The answer to a pull of a queue that has something.
    Batch {
        /// Which.
        queue: Jid,
        /// `Meta`s, in their order; not empty.
        metas: Vec<Bytes>,
        /// What the client sends to acknowledge them: never twice the same (client 4.2, rule 3).
        next_key: u64,
        /// Now.
        timestamp: i64,
    },
    /// The answer to a pull of a queue that has nothing more, or that is refused.
    End {
        /// Success, or why there is nothing for this client.
        status: Status,
        /// Which.
        queue: Jid,
        /// Now.
        timestamp: i64,
    },
    /// Metas that nobody asked for and nobody acknowledges (client 4.3).
    Push {
        /// In which conversation.
        queue: Jid,
        /// `Meta`s, in their order.
        metas: Vec<Bytes>,
        /// Now.
        timestamp: i64,
    },
    /// A sent meta was taken.
    Ack {
        /// The client's id of it.
        meta_id: u64,
        /// The server's.
        server_id: u64,
        /// When it was taken.
        timestamp: i64,
        /// What comes along: edit or room (client 5.11, 6.5).
        metas: Vec<Bytes>,
    },
    /// A sent meta was refused.
    Refusal {
        /// The client's id of it.
        meta_id: u64,
        /// Why (client 5.4).
        status: Status,
        /// Now.
        timestamp: i64,
    },
    /// The answer to a logout.
    Logout {
        /// Success, or what was wrong.
        status: Status,
    },
}

/// The answer to a login (client 3.3).
#[derive(Clone, PartialEq, Debug)]
pub struct ProvisionReply {
    /// Success, or why not (client 3.5).
    pub status: Status,
    /// The accepted resource; the SDK takes it as its own.
    pub resource: String,
    /// That of the request; `None` when it had none.
    pub session_id: Option<String>,
    /// When the token expires; `None` sets no timers in the SDK.
    pub token_expires_at: Option<i64>,
    /// In which directions frames are compressed with LZ4 from now on; `None` declines.
    pub lz4: Option<CompressDirection>,
}

impl ProvisionReply {
    /// The refusal of `login`.
    #[must_use]
    pub fn refusal(login: &Login, status: Status) -> Self {
        Self {
            status,
            resource: login.resource().to_owned(),
            session_id: login.provision.session_id.clone(),
            token_expires_at: None,
            lz4: None,
        }
    }
}

impl Downlink {
    /// The WebSocket message that says this.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let (command, payload) = self.payload();
        let envelope = MSync {
            version: Some(Version::MsyncV1.into()),
            command: Some(command.into()),
            payload: Some(payload.into()),
            ..MSync::default()
        };
        envelope.encode_to_vec().into()
    }

    fn payload(self) -> (Command, Vec<u8>) {
        match self {
            Self::Provision(reply) => (Command::Provision, provision(reply).encode_to_vec()),
            Self::Unread { status, queues, timestamp } => {
                let pending = |(queue, n): (Jid, u32)| MetaQueue { queue: Some(queue.into()), n: Some(n) };
                let reply = CommUnreadDl {
                    status: Some(status.into()),
                    unread: queues.into_iter().map(pending).collect(),
                    timestamp: Some(wire_ms(timestamp)),
                };
                (Command::Unread, reply.encode_to_vec())
            }
            Self::Notice { queue } => {
                (Command::Notice, CommNotice { queue: Some(queue.into()) }.encode_to_vec())
            }
            Self::Logout { status } => {
                let reply = proto::Logout { status: Some(status.into()), ..proto::Logout::default() };
                (Command::Logout, reply.encode_to_vec())
            }
            Self::Batch { queue, metas, next_key, timestamp } => (
                Command::Sync,
                CommSyncDl {
                    metas,
                    next_key: Some(next_key),
                    queue: Some(queue.into()),
                    is_last: Some(false),
                    ..sync_reply(Status::OK, timestamp)
                }
                .encode_to_vec(),
            ),
            Self::End { status, queue, timestamp } => (
                Command::Sync,
                CommSyncDl {
                    queue: Some(queue.into()),
                    is_last: Some(true),
                    ..sync_reply(status, timestamp)
                }
                .encode_to_vec(),
            ),
            Self::Push { queue, metas, timestamp } => (
                Command::Sync,
                CommSyncDl {
                    metas,
                    queue: Some(queue.into()),
                    is_last: Some(true),
                    ..sync_reply(Status::OK, timestamp)
                }
                .encode_to_vec(),
            ),
            Self::Ack { meta_id, server_id, timestamp, metas } => (
                Command::Sync,
                CommSyncDl {
                    meta_id: Some(meta_id),
                    server_id: Some(server_id),
                    metas,
                    ..sync_reply(Status::OK, timestamp)
                }
                .encode_to_vec(),
            ),
            Self::Refusal { meta_id, status, timestamp } => (
                Command::Sync,
                CommSyncDl { meta_id: Some(meta_id), ..sync_reply(status, timestamp) }.encode_to_vec(),
            ),
        }
    }
}

fn sync_reply(status: Status, timestamp: i64) -> CommSyncDl {
    CommSyncDl { status: Some(status.into()), timestamp: Some(wire_ms(timestamp)), ..CommSyncDl::default() }
}

fn provision(reply: ProvisionReply) -> Provision {
    let lz4: Option<i32> = reply.lz4.map(i32::from);
    Provision {
        status: Some(reply.status.into()),
        resource: Some(reply.resource),
        session_id: reply.session_id,
        auth_token: reply.token_expires_at.map(|at| format!("{{\"expires_in\":{at}}}")),
        protocol_compress_type: lz4.map(|_| CompressType::CompressLz4.into()).into_iter().collect(),
        protocol_compress_direction: lz4,
        ..Provision::default()
    }
}

/// Unix milliseconds as the wire has them. Times before 1970 are 0.
#[must_use]
pub fn wire_ms(unix_ms: i64) -> u64 {
    u64::try_from(unix_ms).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::super::proto::meta::NameSpace;
    use super::super::recorded;
    use super::*;

    fn bob() -> Jid {
        Jid::person("acme#demo", "bob")
    }

    fn read(frame: &str) -> Uplink {
        decode(recorded::bytes(frame)).unwrap()
    }

    #[test]
    fn a_recorded_login_is_read() {
        let Uplink::Provision(login) = read(recorded::PROVISION) else { panic!() };
        let resource = "webim_web_1795302128786";
        assert_eq!(login.guid, Jid { resource: resource.to_owned(), ..Jid::person("acme#demo", "alice") });
        assert_eq!(login.token().as_deref(), Some("tok-1"));
        assert_eq!(login.resource(), resource);
        assert_eq!(login.provision.os_type, Some(16));
        assert_eq!(login.provision.session_id(), "1795302128790:");
        assert!(login.offers_lz4());
    }

    #[test]
    fn the_token_may_come_in_the_payload_only() {
        let Uplink::Provision(mut login) = read(recorded::PROVISION) else { panic!() };
        login.auth = None;
        assert_eq!(login.token().as_deref(), Some("tok-1"));
        for (json, token) in [("{}", None), ("", None), ("[1", None), ("{\"token\":\"bare\"}", Some("bare"))]
        {
            login.provision.auth_token = Some(json.to_owned());
            assert_eq!(login.token().as_deref(), token, "{json}");
        }
        login.provision.auth_token = None;
        assert_eq!(login.token(), None);
    }

    #[test]
    fn recorded_requests_are_read() {
        assert_eq!(read(recorded::UNREAD), Uplink::Unread);
        assert_eq!(read(recorded::PULL), Uplink::Pull(Pull { queue: bob(), key: 0 }));
        assert_eq!(
            read(recorded::PULL_KEY),
            Uplink::Pull(Pull { queue: bob(), key: 7_530_042_901_137_457_156 })
        );
        let Uplink::Send(statistic) = read(recorded::STATISTIC) else { panic!() };
        assert_eq!((statistic.ns, statistic.id), (Some(NameSpace::Statistic), 1_795_302_128_817));
        let Uplink::Send(receipt) = read(recorded::DELIVER_ACK) else { panic!() };
        assert_eq!(receipt.body().unwrap().ack_message_id(), 7_530_042_901_137_457_156);
        let Uplink::Send(join) = read(recorded::ROOM_JOIN) else { panic!() };
        assert_eq!(join.ns, Some(NameSpace::Muc));
        assert_eq!(join.to, Jid::system());
        let muc = proto::MucBody::decode(join.payload.clone()).unwrap();
        assert_eq!(Jid::from(muc.muc_id.unwrap()), Jid::conference("acme#demo", "2001"));
        assert_eq!((muc.ext.as_deref(), muc.leave_other_rooms), (Some("hello"), Some(true)));
        assert_eq!(read(recorded::LOGOUT), Uplink::Logout);
    }

    #[test]
    fn compression_offers_are_read_packed_and_unpacked() {
        for offer in [&[0xb2, 0x01, 0x01, 0x02][..], &[0xb0, 0x01, 0x02], &[0xb2, 0x01, 0x02, 0x00, 0x02]] {
            let envelope = MSync {
                command: Some(Command::Provision.into()),
                payload: Some(Bytes::copy_from_slice(offer)),
                ..MSync::default()
            };
            let Ok(Uplink::Provision(login)) = decode(envelope.encode_to_vec().into()) else { panic!() };
            assert!(login.offers_lz4(), "{offer:?}");
        }
    }

    #[test]
    fn numbers_we_do_not_know_leave_the_frame_readable() {
        let mut bytes = recorded::bytes(recorded::UNREAD).to_vec();
        // encryptType 9, version 7, and a field of the future.
        bytes.extend_from_slice(&[0x58, 0x09, 0x08, 0x07, 0xba, 0x3e, 0x01, 0x00]);
        assert_eq!(decode(bytes.into()), Ok(Uplink::Unread));
    }

    #[test]
    fn a_native_clients_history_is_told_from_a_pull() {
        let sync = CommSyncUl {
            key: Some(5),
            queue: Some(bob().into()),
            is_roam: Some(true),
            roam_config: Some(proto::comm_sync_ul::RoamConfig {
                is_positive: Some(true),
                pull_number: Some(50),
            }),
            ..CommSyncUl::default()
        };
        let envelope = MSync {
            command: Some(Command::Sync.into()),
            payload: Some(sync.encode_to_vec().into()),
            ..MSync::default()
        };
        let expected = Roam { queue: bob() };
        assert_eq!(decode(envelope.encode_to_vec().into()), Ok(Uplink::Roam(expected)));
    }

    #[test]
    fn what_is_no_request_is_named() {
        let with = |command: i32, payload: &'static [u8]| {
            let envelope = MSync {
                command: Some(command),
                payload: Some(Bytes::from_static(payload)),
                ..MSync::default()
            };
            let error = decode(envelope.encode_to_vec().into()).unwrap_err();
            (error, error.command())
        };
        assert_eq!(decode(Bytes::from_static(b"\xff")), Err(Unreadable::Envelope));
        assert_eq!(with(9, b""), (Unreadable::UnknownCommand(9), None));
        assert_eq!(with(2, b""), (Unreadable::NotForServers(Command::Notice), Some(Command::Notice)));
        assert_eq!(with(3, b"\xff"), (Unreadable::Payload(Command::Provision), Some(Command::Provision)));
        assert_eq!(with(0, b"\x0a\x01"), (Unreadable::Payload(Command::Sync), Some(Command::Sync)));
        assert_eq!(with(0, b""), (Unreadable::Nothing, Some(Command::Sync)));
        // A meta with id 5 and a text that is not UTF-8.
        assert_eq!(
            with(0, b"\x0a\x05\x08\x05\x52\x01\xff"),
            (Unreadable::Meta { id: 5 }, Some(Command::Sync))
        );
        assert_eq!(with(0, b"\x0a\x01\x0b").0, Unreadable::Meta { id: 0 });
        assert_eq!(with(9, b"").0.to_string(), "there is no command 9");
        assert_eq!(with(2, b"").0.to_string(), "clients do not send NOTICE");
    }

    #[test]
    fn answers_have_the_bytes_that_were_recorded() {
        let reply = ProvisionReply {
            status: Status::OK,
            resource: "webim_web_1795302128786".to_owned(),
            session_id: Some("1795302128790:".to_owned()),
            token_expires_at: Some(1_795_305_728_805),
            lz4: None,
        };
        let batch = MSync::decode(recorded::bytes(recorded::BATCH)).unwrap();
        let metas = CommSyncDl::decode(batch.payload.unwrap()).unwrap().metas;
        for (downlink, frame) in [
            (Downlink::Provision(reply), recorded::PROVISION_REPLY),
            (
                Downlink::Unread { status: Status::OK, queues: Vec::new(), timestamp: 1_795_302_128_820 },
                recorded::UNREAD_REPLY,
            ),
            (Downlink::Notice { queue: bob() }, recorded::NOTICE),
            (
                Downlink::Batch {
                    queue: bob(),
                    metas,
                    next_key: 7_530_042_901_137_457_156,
                    timestamp: 1_795_302_129_069,
                },
                recorded::BATCH,
            ),
            (Downlink::End { status: Status::OK, queue: bob(), timestamp: 1_795_302_129_089 }, recorded::END),
            (Downlink::Logout { status: Status::OK }, recorded::LOGOUT_REPLY),
        ] {
            assert_eq!(downlink.clone().encode(), recorded::bytes(frame), "{downlink:?}");
        }
    }

    fn sync_of(downlink: Downlink) -> CommSyncDl {
        CommSyncDl::decode(MSync::decode(downlink.encode()).unwrap().payload.unwrap()).unwrap()
    }

    #[test]
    fn an_ack_has_a_status_both_ids_and_no_queue() {
        let ack = sync_of(Downlink::Ack {
            meta_id: 530_319_729_029,
            server_id: 7_530_042_901_053_571_075,
            timestamp: 1_795_302_129_043,
            metas: vec![Bytes::from_static(b"\x28\x05")],
        });
        assert_eq!(
            ack,
            CommSyncDl {
                status: Some(proto::Status { error_code: Some(0), ..proto::Status::default() }),
                meta_id: Some(530_319_729_029),
                server_id: Some(7_530_042_901_053_571_075),
                timestamp: Some(1_795_302_129_043),
                metas: vec![Bytes::from_static(b"\x28\x05")],
                ..CommSyncDl::default()
            }
        );
        let refusal = sync_of(Downlink::Refusal {
            meta_id: 7,
            status: Status::new(ErrorCode::Fail, "blocked"),
            timestamp: -5,
        });
        let status = refusal.status.unwrap();
        assert_eq!((status.error_code, status.reason.as_deref()), (Some(1), Some("blocked")));
        assert_eq!((refusal.meta_id, refusal.timestamp), (Some(7), Some(0)));
    }

    #[test]
    fn a_push_is_last_and_has_no_key() {
        let push = sync_of(Downlink::Push { queue: Jid::system(), metas: vec![Bytes::new()], timestamp: 1 });
        assert_eq!((push.is_last, push.next_key, push.meta_id), (Some(true), None, None));
        assert_eq!(push.queue, Some(Jid::system().into()));
        assert!(push.status.is_some());
    }

    #[test]
    fn compression_is_accepted_by_type_and_direction() {
        let reply = ProvisionReply {
            status: Status::OK,
            resource: "r".to_owned(),
            session_id: None,
            token_expires_at: None,
            lz4: Some(CompressDirection::OnlyUp),
        };
        let envelope = MSync::decode(Downlink::Provision(reply).encode()).unwrap();
        let provision = Provision::decode(envelope.payload.unwrap()).unwrap();
        assert_eq!(provision.protocol_compress_type, [2]);
        assert_eq!(provision.protocol_compress_direction, Some(0));
        assert_eq!((provision.auth_token, provision.session_id), (None, None));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _refused: Result<Uplink, Unreadable> = decode(bytes.into());
        }

        #[test]
        fn damaged_frames_never_panic(frame in 0_usize..recorded::UPLINKS.len(), at in any::<usize>(), byte in any::<u8>()) {
            let mut damaged = recorded::bytes(recorded::UPLINKS[frame]).to_vec();
            let at = at % damaged.len();
            damaged[at] = byte;
            let _refused: Result<Uplink, Unreadable> = decode(damaged.into());
        }
    }
}
