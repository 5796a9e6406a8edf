//! Workload B1: pairs of clients, each with one ordinary conversation, talk in both directions at a
//! fixed rate. The server stores before it acks; receivers ack deliveries as the SDKs do.

use std::io::Write;
use std::rc::Rc;

use super::lean::{Line, Voice, Wire, easemob, leancloud};
use super::load::{self, Load, Scene};
use super::report::{self, Cast, TalkReport};
use super::server::Server;
use super::talk::{self, Member, Role};
use super::users::Users;
use super::{Error, Target, check_open_files};
use crate::peer::{self, BINARY};

/// The arguments of `posthouse bench pairs`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    load: Load,
    /// Connected clients; two make a pair.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(2..))]
    clients: u32,
    /// The door. Easemob's needs an own server, because every client is a user that has to be made.
    #[arg(long, value_enum, default_value = "leancloud")]
    wire: Wire,
}

/// Runs the workload.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    check_open_files(args.clients)?;
    if args.wire == Wire::Easemob && args.target.url.is_some() {
        return Err(Error::OwnServerOnly);
    }
    let server = Server::find(&args.target).await?;
    let played = args.clone();
    let result = talk::on_own_thread(move || play(played, server)).await?;
    report::publish(&result, args.target.json.as_deref(), out)
}

async fn play(args: Args, server: Server) -> Result<TalkReport, Error> {
    let pairs = args.clients / 2;
    let run = load::run_number();
    let per_second = args.target.connections_per_second.div_ceil(2);
    let mut conversations = Vec::new();
    let mut members = Vec::new();
    match (args.wire, &server.easemob) {
        (Wire::Leancloud, _) => {
            let place = Rc::new((server.url.clone(), server.app_id.clone()));
            let online = |pair| leancloud_pair(Rc::clone(&place), run, pair);
            for (cid, pair) in talk::gather("connecting", pairs as usize, per_second, online).await? {
                conversations.push(cid);
                members.extend(pair);
            }
        }
        (Wire::Easemob, Some(door)) => {
            let users = Rc::new(Users::of(&server.url, door).await?);
            let online = |pair| easemob_pair(Rc::clone(&users), run, pair);
            for pair in talk::gather("connecting", pairs as usize, per_second, online).await? {
                // This wire names a conversation by the other one.
                conversations.push(String::new());
                members.extend(pair);
            }
        }
        (Wire::Easemob, None) => return Err(Error::OwnServerOnly),
    }
    let scene = Scene {
        bench: "pairs",
        usual_rate: 1_000,
        wire: args.wire,
        run,
        cast: Cast {
            clients: pairs * 2,
            conversations: pairs,
            members: 2,
            speakers: pairs * 2,
            ..Cast::default()
        },
        conversations,
        members,
        receipts: args.wire == Wire::Leancloud,
        one_order: false,
        back: None,
    };
    load::play(scene, &args.load, &args.target, server).await
}

fn name(run: u32, index: usize) -> String {
    format!("bench-{run:08x}-{index}")
}

fn member(name: String, line: Line, voice: Voice, pair: usize) -> Member {
    Member { name, line, voice, conversation: pair, speaks: true, role: Role::Steady }
}

/// Two clients and their conversation's id.
async fn leancloud_pair(
    place: Rc<(String, String)>,
    run: u32,
    pair: usize,
) -> Result<(String, [Member; 2]), Error> {
    let (url, app_id) = &*place;
    let names = [name(run, pair * 2), name(run, pair * 2 + 1)];
    let ready = async {
        let mut first = Line::connect(url, BINARY, None).await?;
        first.open(app_id, &names[0]).await?;
        let mut second = Line::connect(url, BINARY, None).await?;
        second.open(app_id, &names[1]).await?;
        let cid = first.start(&names[0], names.to_vec(), false).await?;
        Ok((cid, [first, second]))
    };
    let not_ready = |source: peer::Error| Error::NotReady { client: names[0].clone(), source };
    let (cid, lines) = ready.await.map_err(not_ready)?;
    let mut names = names.into_iter();
    let pair = lines.map(|line| {
        let name = names.next().unwrap_or_default();
        let voice = Voice::Leancloud(leancloud::Voice::new(&name, &cid, line.serial()));
        member(name, line, voice, pair)
    });
    Ok((cid, pair))
}

async fn easemob_pair(users: Rc<Users>, run: u32, pair: usize) -> Result<[Member; 2], Error> {
    let names = [name(run, pair * 2), name(run, pair * 2 + 1)];
    let not_ready = |source| Error::NotReady { client: names[0].clone(), source };
    let ready = async { Ok([users.log_in(&names[0]).await?, users.log_in(&names[1]).await?]) };
    let [first, second] = ready.await.map_err(not_ready)?;
    let join = |line, from: &String, to: &String| {
        // Ids of messages, which no earlier run of the same users has had.
        let voice = easemob::Voice::new(&users.app_key, from, easemob::To::Person(to), u64::from(run) << 20);
        member(from.clone(), line, Voice::Easemob(voice), pair)
    };
    Ok([join(first, &names[0], &names[1]), join(second, &names[1], &names[0])])
}
