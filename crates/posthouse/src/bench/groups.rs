//! Workload B2: groups, of whose members some are online and talk. The server stores one copy, and
//! what counts is when the last member has it.

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

/// The arguments of `posthouse bench groups`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    load: Load,
    /// Groups; nobody is in two.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    groups: u32,
    /// Members of each, online or not.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=500))]
    members: u32,
    /// The door. Easemob's needs an own server, because every member is a user that has to be made.
    #[arg(long, value_enum, default_value = "leancloud")]
    wire: Wire,
    /// How many of them are online, and talk; at least two are.
    #[arg(long, value_name = "PERCENT", default_value = "50%", value_parser = percent)]
    online: u32,
}

/// `50` or `50%`.
pub(super) fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    number.parse().ok().filter(|percent| *percent <= 100).ok_or_else(|| "a percentage, 0 to 100".to_owned())
}

impl Args {
    fn online_members(&self) -> u32 {
        (self.members * self.online / 100).max(2)
    }
}

/// Runs the workload.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    check_open_files(args.groups * args.online_members())?;
    if args.wire == Wire::Easemob && args.target.url.is_some() {
        return Err(Error::OwnServerOnly);
    }
    let server = Server::find(&args.target).await?;
    let played = args.clone();
    let result = talk::on_own_thread(move || play(played, server)).await?;
    report::publish(&result, args.target.json.as_deref(), out)
}

async fn play(args: Args, server: Server) -> Result<TalkReport, Error> {
    let run = load::run_number();
    let online = args.online_members();
    let size = (args.members as usize, online as usize);
    let per_second = (args.target.connections_per_second / online).max(1);
    let count = args.groups as usize;
    let groups = match (args.wire, &server.easemob) {
        (Wire::Leancloud, _) => {
            let place = Rc::new((server.url.clone(), server.app_id.clone()));
            let gather = |group| leancloud_group(Rc::clone(&place), run, group, size);
            talk::gather("connecting", count, per_second, gather).await?
        }
        (Wire::Easemob, Some(door)) => {
            let users = Rc::new(Users::of(&server.url, door).await?);
            let gather = |group| easemob_group(Rc::clone(&users), run, group, size);
            talk::gather("connecting", count, per_second, gather).await?
        }
        (Wire::Easemob, None) => return Err(Error::OwnServerOnly),
    };
    let (conversations, members): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
    let scene = Scene {
        bench: "groups",
        usual_rate: 50,
        wire: args.wire,
        run,
        cast: Cast {
            clients: args.groups * online,
            conversations: args.groups,
            members: args.members,
            speakers: args.groups * online,
            ..Cast::default()
        },
        conversations,
        members: members.into_iter().flatten().collect(),
        receipts: args.wire == Wire::Leancloud,
        one_order: true,
        back: None,
    };
    load::play(scene, &args.load, &args.target, server).await
}

fn names(run: u32, group: usize, members: usize) -> Vec<String> {
    (0..members).map(|index| format!("bench-{run:08x}-{group}-{index}")).collect()
}

fn member(name: &str, line: Line, voice: Voice, group: usize) -> Member {
    Member { name: name.to_owned(), line, voice, conversation: group, speaks: true, role: Role::Steady }
}

/// One group with its members that are online. It is made by the first, before the others come.
async fn leancloud_group(
    place: Rc<(String, String)>,
    run: u32,
    group: usize,
    (members, online): (usize, usize),
) -> Result<(String, Vec<Member>), Error> {
    let (url, app_id) = &*place;
    let names = names(run, group, members);
    let not_ready = |source: peer::Error| Error::NotReady { client: names[0].clone(), source };
    let ready = async {
        let mut first = Line::connect(url, BINARY, None).await?;
        first.open(app_id, &names[0]).await?;
        let cid = first.start(&names[0], names.clone(), false).await?;
        let mut lines = vec![first];
        for name in &names[1..online] {
            let mut line = Line::connect(url, BINARY, None).await?;
            line.open(app_id, name).await?;
            lines.push(line);
        }
        Ok((cid, lines))
    };
    let (cid, lines) = ready.await.map_err(not_ready)?;
    let online = lines.into_iter().zip(&names).map(|(line, name)| {
        let voice = Voice::Leancloud(leancloud::Voice::new(name, &cid, line.serial()));
        member(name, line, voice, group)
    });
    let online = online.collect();
    Ok((cid, online))
}

/// The same through the other door, where the back end makes users and groups.
async fn easemob_group(
    users: Rc<Users>,
    run: u32,
    group: usize,
    (members, online): (usize, usize),
) -> Result<(String, Vec<Member>), Error> {
    let names = names(run, group, members);
    let not_ready = |source: peer::Error| Error::NotReady { client: names[0].clone(), source };
    let ready = async {
        for name in &names {
            users.token(name).await?;
        }
        let id = users.group(&names).await?;
        let mut lines = Vec::new();
        for name in &names[..online] {
            lines.push(users.log_in(name).await?);
        }
        Ok((id, lines))
    };
    let (id, lines) = ready.await.map_err(not_ready)?;
    let online = lines.into_iter().zip(&names).map(|(line, name)| {
        // Ids of messages, which no earlier run of the same users has had.
        let voice = easemob::Voice::new(&users.app_key, name, easemob::To::Group(&id), u64::from(run) << 20);
        member(name, line, Voice::Easemob(voice), group)
    });
    let online = online.collect();
    Ok((id, online))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_with_and_without_the_sign() {
        assert_eq!((percent("100%"), percent("7"), percent("0")), (Ok(100), Ok(7), Ok(0)));
        assert!(percent("101").is_err() && percent("%").is_err() && percent("-1").is_err());
    }
}
