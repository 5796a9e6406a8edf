//! Who may do what, as a generated matrix: every reading and writing command, by everybody who could
//! send it, on every kind of conversation. A refused command leaves no trace, and whoever is no
//! member hears nothing of what goes on.

use posthouse::apps::{self, Keys};
use posthouse::peer::{self, Error, Open, Outgoing, Peer, Sent};
use posthouse_leancloud::wire::proto::{
    CommandType, ConvCommand, GenericCommand, LogItem, LogsCommand, OpType, ReadCommand, ReadTuple,
};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::conversations::{
    conv_command, ids, log_in, log_in_how, log_in_on, news, of, parsed, pushed, text, wait_until_offline,
};

/// What kind of conversation it is done to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ordinary,
    Temporary,
    Room,
}

/// Who does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doer {
    /// Is in it; in a room: visits it.
    Member,
    /// Was in it. Nobody leaves a temporary conversation, so there is none.
    Former,
    /// Never was in it.
    Stranger,
    /// A client of another app with a member's id.
    OtherApp,
    /// A socket on which nobody has logged in.
    Nobody,
}

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    SendText,
    SendBinary,
    SendTransient,
    LeaveWill,
    EditOthers,
    RecallOthers,
    EditOwn,
    Read,
    Ack,
    History,
    HistoryOfType,
    FindById,
    FindByName,
    FindTemporary,
    Count,
    ListOnline,
    IsMember,
    MaxRead,
    MaxReadOfAll,
    Join,
    AddOther,
    Quit,
    RemoveOther,
    RemoveCreator,
    Update,
    Mute,
    Unmute,
    Watch,
    Unwatch,
}

const KINDS: [Kind; 3] = [Kind::Ordinary, Kind::Temporary, Kind::Room];
const DEEDS: [Deed; 29] = [
    Deed::SendText,
    Deed::SendBinary,
    Deed::SendTransient,
    Deed::LeaveWill,
    Deed::EditOthers,
    Deed::RecallOthers,
    Deed::EditOwn,
    Deed::Read,
    Deed::Ack,
    Deed::History,
    Deed::HistoryOfType,
    Deed::FindById,
    Deed::FindByName,
    Deed::FindTemporary,
    Deed::Count,
    Deed::ListOnline,
    Deed::IsMember,
    Deed::MaxRead,
    Deed::MaxReadOfAll,
    Deed::Join,
    Deed::AddOther,
    Deed::Quit,
    Deed::RemoveOther,
    Deed::RemoveCreator,
    Deed::Update,
    Deed::Mute,
    Deed::Unmute,
    Deed::Watch,
    Deed::Unwatch,
];

impl Deed {
    /// Whether it changes nothing even where it is allowed.
    fn only_looks(self) -> bool {
        matches!(
            self,
            Self::Count
                | Self::ListOnline
                | Self::History
                | Self::HistoryOfType
                | Self::MaxRead
                | Self::MaxReadOfAll
                | Self::Watch
        )
    }

    /// Whether others can see that it was done.
    fn leaves_traces(self) -> bool {
        !self.only_looks() && !matches!(self, Self::SendTransient | Self::LeaveWill)
    }
}

/// What comes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    /// It works.
    Done,
    /// It works and changes nothing, as there is nothing to change.
    Idle,
    /// It has no answer.
    Silent,
    /// It has no answer and no effect.
    Ignored,
    /// This error.
    Refused(i32),
    /// The conversation is found, with its last message.
    Row,
    /// The conversation is found, without anything that was said in it.
    BareRow,
    /// Nothing is found.
    NoRow,
    /// A truth about the doer.
    Told(bool),
}

use Outcome::{BareRow, Done, Idle, Ignored, NoRow, Refused, Row, Silent, Told};

/// What the issue allows: for refusals the numbers of the wire reference, section 8.
fn expected(kind: Kind, doer: Doer, deed: Deed) -> Outcome {
    match (doer, kind) {
        (Doer::Nobody, _) => match deed {
            Deed::Read | Deed::Ack => Ignored,
            _ => Refused(4105),
        },
        (Doer::OtherApp, Kind::Ordinary | Kind::Room) => unknown(deed, 4303, 4401),
        (Doer::OtherApp, Kind::Temporary) => unknown(deed, 4323, 4323),
        (Doer::Member, Kind::Ordinary) => match deed {
            Deed::Read | Deed::Ack => Silent,
            Deed::EditOthers | Deed::RecallOthers => Refused(4403),
            Deed::FindById | Deed::FindByName => Row,
            Deed::FindTemporary => NoRow,
            Deed::IsMember => Told(true),
            Deed::Join | Deed::Unwatch | Deed::Unmute => Idle,
            _ => Done,
        },
        (Doer::Former | Doer::Stranger, Kind::Ordinary) => match deed {
            Deed::SendText | Deed::SendBinary | Deed::SendTransient | Deed::LeaveWill => Refused(4401),
            Deed::Read | Deed::Ack => Ignored,
            Deed::History | Deed::HistoryOfType => Refused(4312),
            Deed::FindById | Deed::FindByName => BareRow,
            Deed::FindTemporary => NoRow,
            // Whoever may find the members may count them, and join.
            Deed::Count | Deed::Join => Done,
            Deed::IsMember => Told(false),
            Deed::Quit | Deed::Unwatch => Idle,
            Deed::Update | Deed::Mute | Deed::Unmute | Deed::Watch => Refused(4309),
            Deed::EditOthers
            | Deed::RecallOthers
            | Deed::EditOwn
            | Deed::ListOnline
            | Deed::MaxRead
            | Deed::MaxReadOfAll
            | Deed::AddOther
            | Deed::RemoveOther
            | Deed::RemoveCreator => Refused(4317),
        },
        (Doer::Member, Kind::Temporary) => match deed {
            Deed::Read | Deed::Ack => Silent,
            Deed::EditOthers | Deed::RecallOthers => Refused(4403),
            Deed::FindById | Deed::FindByName => NoRow,
            Deed::FindTemporary => Row,
            Deed::IsMember => Told(true),
            Deed::Unwatch => Idle,
            Deed::Join
            | Deed::AddOther
            | Deed::Quit
            | Deed::RemoveOther
            | Deed::RemoveCreator
            | Deed::Update
            | Deed::Mute
            | Deed::Unmute => Refused(4314),
            _ => Done,
        },
        (Doer::Former | Doer::Stranger, Kind::Temporary) => match deed {
            Deed::Watch => Refused(4309),
            deed => unknown(deed, 4323, 4323),
        },
        (Doer::Member | Doer::Former | Doer::Stranger, Kind::Room) => {
            let inside = doer == Doer::Member;
            match deed {
                // Anybody may speak in a room, and change what is one's own.
                Deed::SendText | Deed::SendBinary | Deed::SendTransient | Deed::LeaveWill | Deed::EditOwn => {
                    Done
                }
                Deed::EditOthers | Deed::RecallOthers => Refused(4403),
                Deed::Read | Deed::Ack => Ignored,
                Deed::History | Deed::HistoryOfType => {
                    if inside {
                        Done
                    } else {
                        Refused(4312)
                    }
                }
                Deed::FindById | Deed::FindByName => {
                    if inside {
                        Row
                    } else {
                        BareRow
                    }
                }
                Deed::FindTemporary => NoRow,
                Deed::Count | Deed::ListOnline => Done,
                Deed::Join => {
                    if inside {
                        Idle
                    } else {
                        Done
                    }
                }
                Deed::IsMember => Told(inside),
                Deed::MaxRead | Deed::MaxReadOfAll | Deed::Watch => Refused(4314),
                Deed::AddOther | Deed::RemoveOther | Deed::RemoveCreator => Refused(4320),
                Deed::Quit => {
                    if inside {
                        Done
                    } else {
                        Idle
                    }
                }
                Deed::Update => {
                    if inside {
                        Done
                    } else {
                        Refused(4309)
                    }
                }
                Deed::Mute | Deed::Unmute | Deed::Unwatch => Idle,
            }
        }
    }
}

/// What comes of deeds on a conversation that isn't there for the doer.
fn unknown(deed: Deed, number: i32, for_messages: i32) -> Outcome {
    match deed {
        Deed::SendText | Deed::SendBinary | Deed::SendTransient | Deed::LeaveWill => Refused(for_messages),
        Deed::Read | Deed::Ack => Ignored,
        Deed::FindById | Deed::FindByName | Deed::FindTemporary => NoRow,
        Deed::IsMember => Told(false),
        Deed::Unwatch => Idle,
        _ => Refused(number),
    }
}

#[tokio::test]
async fn members_do_what_members_may() {
    for kind in KINDS {
        matrix(kind, Doer::Member).await;
    }
}

#[tokio::test]
async fn former_members_are_strangers() {
    for kind in [Kind::Ordinary, Kind::Room] {
        matrix(kind, Doer::Former).await;
    }
}

#[tokio::test]
async fn strangers_learn_and_change_nothing() {
    for kind in KINDS {
        matrix(kind, Doer::Stranger).await;
    }
}

#[tokio::test]
async fn other_apps_have_other_conversations() {
    for kind in KINDS {
        matrix(kind, Doer::OtherApp).await;
    }
}

#[tokio::test]
async fn nobody_does_nothing() {
    for kind in KINDS {
        matrix(kind, Doer::Nobody).await;
    }
}

/// A stranger can't tell a temporary conversation from one that never was, whatever it tries.
#[tokio::test]
async fn a_temporary_conversation_is_like_none_to_a_stranger() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = tom.create_temporary("tom", &["jerry"], Some(600)).await.unwrap().cid;
    let sent = tom.send_text("tom", &cid, "secret", Outgoing::default()).await.unwrap();
    // The id of another app's is well-formed, lives in the same file, and doesn't exist here.
    let other = other_app(&server).await;
    let mut foreign = Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap();
    foreign.open(&other, "tom", Open::default()).await.unwrap();
    let absent = foreign.create_temporary("tom", &["jerry"], Some(600)).await.unwrap().cid;

    let mut mary = log_in(&server, "mary").await;
    let mut differences = Vec::new();
    for deed in DEEDS {
        // Its contract gives the subscription a number of its own.
        if deed == Deed::Watch {
            continue;
        }
        let mut outcomes = Vec::new();
        for cid in [&cid, &absent] {
            let scene = Scene {
                kind: Kind::Temporary,
                cid: cid.clone(),
                name: "none".to_owned(),
                sent: sent.clone(),
                own: None,
            };
            outcomes.push(perform(&mut mary, "mary", &scene, deed).await);
        }
        if outcomes[0] != outcomes[1] {
            differences.push(format!("{deed:?}: {outcomes:?}"));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[tokio::test]
async fn what_a_former_member_said_and_left_brings_it_no_news() {
    let server = TestServer::start().await;
    let (mut tom, mut witness) = (log_in(&server, "tom").await, log_in(&server, "witness").await);
    let (mut former, _) = log_in_on(&server, "former", "phone").await;
    let cid = tom.create_conversation("tom", &["former"], true, "{}").await.unwrap().cid;
    let how = Outgoing { receipt: true, ..Outgoing::default() };
    let own = former.send_text("former", &cid, "mine", how).await.unwrap();
    let will = Outgoing { will: true, ..Outgoing::default() };
    former.send_text("former", &cid, "last words", will).await.unwrap();
    let toms = tom.send_text("tom", &cid, "secret", Outgoing::default()).await.unwrap();
    former.remove("former", &cid, &["former"]).await.unwrap();
    tom.add("tom", &cid, &["witness"]).await.unwrap();
    for (peer, who) in [(&mut former, "former"), (&mut tom, "tom"), (&mut witness, "witness")] {
        pushed(peer, who).await;
    }
    server.clock.advance_ms(1_000);
    tom.ack_message("tom", &cid, &own.id).await.unwrap();
    tom.read("tom", &cid, &own.id, own.at).await.unwrap();
    tom.settle().await.unwrap();
    tom.modify("tom", &cid, &toms, "secret, edited").await.unwrap();
    tom.update("tom", &cid, r#"{"name":"secret"}"#).await.unwrap();
    let calling = Outgoing { mentions: ids(&["former"]), mention_all: true, ..Outgoing::default() };
    tom.send_text("tom", &cid, "secret call", calling).await.unwrap();
    assert_eq!(news(&pushed(&mut former, "former").await), [""; 0]);

    // Its will dies with the membership.
    pushed(&mut witness, "witness").await;
    drop(former);
    wait_until_offline(&mut tom, "tom", "former").await;
    server.pass_ms(10_000).await;
    assert_eq!(news(&pushed(&mut witness, "witness").await), [""; 0]);

    // A new login is told nothing of it either, however far back it asks.
    let how = Open { last_patch_time: Some(1), last_unread_notif_time: Some(1), ..Open::default() };
    let (mut former, _) = log_in_how(&server, "former", how).await;
    assert_eq!(news(&pushed(&mut former, "former").await), [""; 0]);
}

#[tokio::test]
async fn a_mention_calls_no_stranger() {
    let server = TestServer::start().await;
    let (mut tom, mut mary) = (log_in(&server, "tom").await, log_in(&server, "mary").await);
    let cids = [
        tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid,
        tom.create_temporary("tom", &["jerry"], None).await.unwrap().cid,
        tom.create_room("tom", "{}").await.unwrap().cid,
    ];
    for cid in &cids {
        for transient in [false, true] {
            let how =
                Outgoing { mentions: ids(&["mary"]), mention_all: true, transient, ..Outgoing::default() };
            tom.send_text("tom", cid, "secret", how).await.unwrap();
        }
    }
    assert_eq!(news(&pushed(&mut mary, "mary").await), [""; 0]);
    let mut again = log_in(&server, "mary").await;
    assert_eq!(news(&pushed(&mut again, "mary").await), [""; 0]);
}

/// One conversation and what was said in it.
struct Scene {
    kind: Kind,
    cid: String,
    name: String,
    /// The creator's message.
    sent: Sent,
    /// The doer's own one, if it could send one while it was in.
    own: Option<Sent>,
}

/// Does every deed, each in a conversation of its own, and compares what comes of it.
async fn matrix(kind: Kind, doer: Doer) {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let mut witness = log_in(&server, "witness").await;
    let other = other_app(&server).await;
    let (mut peer, who) = match doer {
        Doer::Member => (log_in(&server, "jerry").await, "jerry"),
        Doer::Former => (log_in(&server, "former").await, "former"),
        Doer::Stranger => (log_in(&server, "mary").await, "mary"),
        Doer::OtherApp => {
            let mut peer = Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap();
            peer.open(&other, "jerry", Open::default()).await.unwrap();
            (peer, "jerry")
        }
        Doer::Nobody => (Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap(), "jerry"),
    };
    let mut wrong = Vec::new();
    for (n, deed) in DEEDS.into_iter().enumerate() {
        let scene = set(kind, doer, n, &mut tom, &mut witness, &mut peer, who).await;
        if deed == Deed::EditOwn && scene.own.is_none() {
            continue;
        }
        let before = state(&mut tom, &scene).await;
        let found = perform(&mut peer, who, &scene, deed).await;
        let wanted = expected(kind, doer, deed);
        let label = format!("{deed:?} by {doer:?} in {kind:?}");
        let as_wanted = match wanted {
            Idle => found == Done,
            Ignored => found == Silent,
            _ => found == wanted,
        };
        if !as_wanted {
            wrong.push(format!("{label}: {found:?}, not {wanted:?}"));
        }
        let harmless = match wanted {
            Done | Silent => deed.only_looks(),
            Idle | Ignored | Refused(_) | Row | BareRow | NoRow | Told(_) => true,
        };
        if deed != Deed::RemoveCreator || harmless {
            let after = state(&mut tom, &scene).await;
            if harmless && before != after {
                wrong.push(format!("{label} changed {before}\n to {after}"));
            }
            if !harmless && as_wanted && deed.leaves_traces() && before == after {
                wrong.push(format!("{label} changed nothing of {before}"));
            }
        }
        if harmless {
            for (peer, who) in [(&mut tom, "tom"), (&mut witness, "witness")] {
                for push in pushed(peer, who).await {
                    wrong.push(format!("{label} told {who} {push:?}"));
                }
            }
        }
        // Outsiders hear nothing of what goes on, before or after what they tried.
        let outside = !matches!(doer, Doer::Member) && deed != Deed::Join;
        if outside {
            tom.send_text("tom", &scene.cid, "among us", Outgoing::default()).await.unwrap();
            peer.settle().await.unwrap();
            for push in peer.take_pushes() {
                wrong.push(format!("{label} was told {push:?}"));
            }
        }
        for (peer, who) in [(&mut tom, "tom"), (&mut witness, "witness")] {
            pushed(peer, who).await;
        }
        peer.settle().await.unwrap();
        peer.take_pushes();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A new conversation that Tom has made and spoken in, with a witness in it.
async fn set(
    kind: Kind,
    doer: Doer,
    n: usize,
    tom: &mut Peer,
    witness: &mut Peer,
    peer: &mut Peer,
    who: &str,
) -> Scene {
    let name = format!("scene {n}");
    // Different members for each, as the same ones would share a temporary conversation.
    let extra = format!("extra-{n}");
    let members = ["tom", "jerry", "witness", &extra];
    let attributes = text(&json!({"name": name}).to_string());
    let cid = match kind {
        Kind::Ordinary => {
            let wish = ConvCommand { m: ids(&members), attr: attributes, ..ConvCommand::default() };
            tom.start("tom", wish).await.unwrap().cid
        }
        Kind::Temporary => {
            let wish = ConvCommand {
                m: ids(&members),
                temp_conv: Some(true),
                attr: attributes,
                ..ConvCommand::default()
            };
            tom.start("tom", wish).await.unwrap().cid
        }
        Kind::Room => {
            let cid = tom.create_room("tom", &json!({"name": name}).to_string()).await.unwrap().cid;
            witness.add("witness", &cid, &["witness"]).await.unwrap();
            cid
        }
    };
    let mut own = None;
    match (doer, kind) {
        (Doer::Member | Doer::Former, Kind::Ordinary | Kind::Room) => {
            peer.add(who, &cid, &[who]).await.unwrap();
            own = Some(peer.send_text(who, &cid, "mine", Outgoing::default()).await.unwrap());
        }
        (Doer::Member, Kind::Temporary) => {
            own = Some(peer.send_text(who, &cid, "mine", Outgoing::default()).await.unwrap());
        }
        (Doer::Stranger, Kind::Room) => {
            own = Some(peer.send_text(who, &cid, "mine", Outgoing::default()).await.unwrap());
        }
        (Doer::Former | Doer::Stranger, _) | (Doer::OtherApp | Doer::Nobody, _) => {}
    }
    let how = Outgoing { receipt: true, ..Outgoing::default() };
    let sent = tom.send_text("tom", &cid, "secret", how).await.unwrap();
    if doer == Doer::Former {
        peer.remove(who, &cid, &[who]).await.unwrap();
    }
    for (peer, who) in [(tom, "tom"), (witness, "witness")] {
        pushed(peer, who).await;
    }
    peer.settle().await.unwrap();
    peer.take_pushes();
    Scene { kind, cid, name, sent, own }
}

/// Everything Tom can see of it.
async fn state(tom: &mut Peer, scene: &Scene) -> String {
    let cid = &scene.cid;
    let query = match scene.kind {
        Kind::Temporary => {
            ConvCommand { temp_conv_ids: ids(&[cid]), flag: Some(2), ..ConvCommand::default() }
        }
        Kind::Ordinary | Kind::Room => {
            let condition = json!({"objectId": cid}).to_string();
            ConvCommand { r#where: text(&condition), flag: Some(2), ..ConvCommand::default() }
        }
    };
    let row = tom.query("tom", query).await.unwrap();
    let history = tom.history("tom", cid, 100).await.unwrap();
    let count = tom.count("tom", cid).await.unwrap();
    let marks = match scene.kind {
        Kind::Room => None,
        Kind::Ordinary | Kind::Temporary => {
            let mut tuples = tom.max_read("tom", cid, true).await.unwrap().max_read_tuples;
            tuples.sort_by(|a, b| a.pid.cmp(&b.pid));
            Some(tuples)
        }
    };
    format!("{row:?}\n{history:?}\n{count}\n{marks:?}")
}

async fn perform(peer: &mut Peer, who: &str, scene: &Scene, deed: Deed) -> Outcome {
    let cid = scene.cid.as_str();
    let transient = Outgoing { transient: true, ..Outgoing::default() };
    let will = Outgoing { will: true, ..Outgoing::default() };
    let changes = r#"{"name":"taken over"}"#;
    match deed {
        Deed::SendText => done(peer.send_text(who, cid, "from outside", Outgoing::default()).await),
        Deed::SendBinary => done(peer.send_binary(who, cid, b"from outside", Outgoing::default()).await),
        Deed::SendTransient => done(peer.send_text(who, cid, "from outside", transient).await),
        Deed::LeaveWill => done(peer.send_text(who, cid, "from outside", will).await),
        Deed::EditOthers => done(peer.modify(who, cid, &scene.sent, "I never said that").await),
        Deed::RecallOthers => done(peer.recall(who, cid, &scene.sent).await),
        Deed::EditOwn => match &scene.own {
            Some(own) => done(peer.modify(who, cid, own, "I take it back").await),
            // Without a message of one's own there are only others'.
            None => done(peer.modify(who, cid, &scene.sent, "I take it back").await),
        },
        Deed::Read => {
            let tuple = ReadTuple {
                cid: Some(cid.to_owned()),
                timestamp: Some(scene.sent.at),
                mid: Some(scene.sent.id.clone()),
            };
            let read = ReadCommand { convs: vec![tuple], ..ReadCommand::default() };
            let command =
                GenericCommand { read_message: Some(read), ..peer::spoken(who, CommandType::Read, None) };
            unanswered(peer, &command).await
        }
        Deed::Ack => unanswered(peer, &peer::ack_range(who, cid, scene.sent.at, scene.sent.at)).await,
        Deed::History => history(peer.history(who, cid, 100).await),
        Deed::HistoryOfType => {
            let query = LogsCommand { cid: Some(cid.to_owned()), lctype: Some(-1), ..LogsCommand::default() };
            history(peer.logs(who, query).await)
        }
        Deed::FindById => found(peer, who, cid, &json!({"objectId": cid})).await,
        Deed::FindByName => {
            let mut condition = json!({"name": scene.name});
            if scene.kind == Kind::Room {
                condition["tr"] = json!(true);
            }
            found(peer, who, cid, &condition).await
        }
        Deed::FindTemporary => {
            let asked = ConvCommand { temp_conv_ids: ids(&[cid]), flag: Some(2), ..ConvCommand::default() };
            rows(&peer.query(who, asked).await, cid)
        }
        Deed::Count => done(peer.count(who, cid).await),
        Deed::ListOnline => done(peer.conv(who, OpType::Members, of(cid)).await),
        Deed::IsMember => {
            let asked = ConvCommand { cids: ids(&[cid]), ..ConvCommand::default() };
            match peer.call(conv_command(who, OpType::IsMember, asked)).await {
                Ok(answer) => Told(parsed(answer.conv_message.unwrap().results)[cid] == json!(true)),
                Err(error) => refused(&error),
            }
        }
        Deed::MaxRead => done(peer.max_read(who, cid, false).await),
        Deed::MaxReadOfAll => done(peer.max_read(who, cid, true).await),
        Deed::Join => done(peer.add(who, cid, &[who]).await),
        Deed::AddOther => done(peer.add(who, cid, &["accomplice"]).await),
        Deed::Quit => done(peer.remove(who, cid, &[who]).await),
        Deed::RemoveOther => done(peer.remove(who, cid, &["witness"]).await),
        Deed::RemoveCreator => done(peer.remove(who, cid, &["tom"]).await),
        Deed::Update => done(peer.update(who, cid, changes).await),
        Deed::Mute => done(peer.mute(who, cid, true).await),
        Deed::Unmute => done(peer.mute(who, cid, false).await),
        Deed::Watch => done(peer.watch_presence(who, cid, true).await),
        Deed::Unwatch => done(peer.watch_presence(who, cid, false).await),
    }
}

fn done<T>(outcome: Result<T, Error>) -> Outcome {
    outcome.map_or_else(|error| refused(&error), |_| Done)
}

fn refused(error: &Error) -> Outcome {
    Refused(error.code().unwrap_or_else(|| panic!("no refusal: {error}")))
}

/// Nothing may answer it, not even with an error.
async fn unanswered(peer: &mut Peer, command: &GenericCommand) -> Outcome {
    peer.send(command).await.unwrap();
    let echo = peer.call(peer::command(CommandType::Echo, None)).await.unwrap();
    assert!(peer::is(&echo, CommandType::Echo, None));
    Silent
}

fn history(outcome: Result<Vec<LogItem>, Error>) -> Outcome {
    match outcome {
        Ok(items) if format!("{items:?}").contains("secret") => Done,
        Ok(items) => panic!("a page without what was said: {items:?}"),
        Err(error) => refused(&error),
    }
}

async fn found(peer: &mut Peer, who: &str, cid: &str, condition: &Value) -> Outcome {
    let asked =
        ConvCommand { r#where: text(&condition.to_string()), flag: Some(2), ..ConvCommand::default() };
    rows(&peer.query(who, asked).await, cid)
}

fn rows(outcome: &Result<Vec<Value>, Error>, cid: &str) -> Outcome {
    match outcome.as_deref() {
        Ok([]) => NoRow,
        Ok([row]) => {
            assert_eq!(row["objectId"], json!(cid));
            let said =
                ["msg", "bin", "msg_mid", "msg_from", "msg_timestamp", "patch_timestamp", "mention_pids"];
            let silent = said.iter().all(|key| row.get(key).is_none()) && !row.to_string().contains("secret");
            if silent { BareRow } else { Row }
        }
        Ok(rows) => panic!("more than was asked for: {rows:?}"),
        Err(error) => refused(error),
    }
}

/// Another app of the same server; its id.
pub(super) async fn other_app(server: &TestServer) -> String {
    let posthouse = &server.server.posthouse;
    let app = apps::create(posthouse.store().as_ref(), "other", &Keys::default()).await.unwrap();
    posthouse.reload_apps().await.unwrap();
    app.key("leancloud.id").unwrap().to_owned()
}
