//! Workload B3: one chat room. Few talk, all listen, some come and go, and some read slowly: do the
//! others notice?

use std::io::Write;
use std::rc::Rc;

use super::groups::percent;
use super::lean::{Line, Voice, Wire, leancloud};
use super::load::{self, Load, Scene};
use super::report::{self, Cast, TalkReport};
use super::server::Server;
use super::talk::{self, Member, Return, Role};
use super::{Error, Target, check_open_files};
use crate::peer::{self, BINARY};

/// A slow reader's receive buffer, which the kernel doubles: a phone on a bad line.
const SLOW_BUFFER_BYTES: u32 = 4 << 10;

/// The arguments of `posthouse bench room`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    load: Load,
    /// Clients in the room.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(2..))]
    clients: u32,
    /// How many of them talk.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    speakers: u32,
    /// How many leave and come back once a minute.
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = percent)]
    visitors: u32,
    /// How many read 1 KB a second. The load is played without and with them (on a ladder, only with).
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent)]
    slow: u32,
}

/// Who is who, by number.
#[derive(Clone, Copy, Debug)]
struct Casting {
    clients: u32,
    speakers: u32,
    visitors: u32,
    slow: u32,
}

impl Casting {
    /// Speakers first; visitors and slow readers only among the others.
    fn of(args: &Args) -> Self {
        let speakers = args.speakers.min(args.clients);
        let listeners = args.clients - speakers;
        let share = |percent: u32| (u64::from(args.clients) * u64::from(percent)).div_ceil(100);
        let share = |percent, most: u32| u32::try_from(share(percent)).unwrap_or(u32::MAX).min(most);
        let slow = share(args.slow, listeners);
        let visitors = share(args.visitors, listeners - slow);
        Self { clients: args.clients, speakers, visitors, slow }
    }

    fn role(&self, number: usize) -> Role {
        let (speakers, slow, visitors) = (self.speakers as usize, self.slow as usize, self.visitors as usize);
        match number.checked_sub(speakers) {
            Some(listener) if listener < slow => Role::Slow,
            Some(listener) if listener < slow + visitors => Role::Visitor,
            Some(_) | None => Role::Steady,
        }
    }
}

/// Runs the workload.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    check_open_files(args.clients)?;
    let server = Server::find(&args.target).await?;
    let played = args.clone();
    let result = talk::on_own_thread(move || play(played, server)).await?;
    report::publish(&result, args.target.json.as_deref(), out)
}

/// Where everybody goes.
#[derive(Debug)]
struct Room {
    url: String,
    app_id: String,
    run: u32,
    cid: String,
    casting: Casting,
}

async fn play(args: Args, server: Server) -> Result<TalkReport, Error> {
    let run = load::run_number();
    let casting = Casting::of(&args);
    let founder = format!("bench-{run:08x}-founder");
    let ready = async {
        let mut line = Line::connect(&server.url, BINARY, None).await?;
        line.open(&server.app_id, &founder).await?;
        let cid = line.start(&founder, vec![founder.clone()], true).await?;
        // The room lasts; its founder leaves.
        drop(line);
        Ok(cid)
    };
    let not_ready = |source: peer::Error| Error::NotReady { client: founder.clone(), source };
    let cid = ready.await.map_err(not_ready)?;
    let room = Rc::new(Room {
        url: server.url.clone(),
        app_id: server.app_id.clone(),
        run,
        cid: cid.clone(),
        casting,
    });

    let online = |number| Rc::clone(&room).member(number);
    let per_second = args.target.connections_per_second;
    let members = talk::gather("connecting", casting.clients as usize, per_second, online).await?;
    let back: Return = Rc::new(move |number| {
        let room = Rc::clone(&room);
        Box::pin(async move { room.enter(number).await })
    });
    let scene = Scene {
        bench: "room",
        usual_rate: 20,
        wire: Wire::Leancloud,
        run,
        cast: Cast {
            clients: casting.clients,
            conversations: 1,
            members: casting.clients,
            speakers: casting.speakers,
            visitors: casting.visitors,
            slow: casting.slow,
        },
        conversations: vec![cid],
        members,
        // The JavaScript SDK acks nothing in rooms.
        receipts: false,
        one_order: true,
        back: Some(back),
    };
    load::play(scene, &args.load, &args.target, server).await
}

impl Room {
    fn name(&self, number: usize) -> String {
        format!("bench-{:08x}-{number}", self.run)
    }

    async fn member(self: Rc<Self>, number: usize) -> Result<Member, Error> {
        let name = self.name(number);
        let (line, voice) = match self.enter(number).await {
            Ok(entered) => entered,
            Err(source) => return Err(Error::NotReady { client: name, source }),
        };
        Ok(Member {
            name,
            line,
            voice,
            conversation: 0,
            speaks: number < self.casting.speakers as usize,
            role: self.casting.role(number),
        })
    }

    async fn enter(&self, number: usize) -> Result<(Line, Voice), peer::Error> {
        let name = self.name(number);
        let is_slow = self.casting.role(number) == Role::Slow;
        let mut line = Line::connect(&self.url, BINARY, is_slow.then_some(SLOW_BUFFER_BYTES)).await?;
        line.open(&self.app_id, &name).await?;
        line.join(&name, &self.cid).await?;
        let voice = Voice::Leancloud(leancloud::Voice::new(&name, &self.cid, line.serial()));
        Ok((line, voice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_role_and_speakers_stay() {
        let casting = Casting { clients: 100, speakers: 20, visitors: 10, slow: 1 };
        let count = |role| (0..100).filter(|number| casting.role(*number) == role).count();
        assert_eq!((count(Role::Slow), count(Role::Visitor), count(Role::Steady)), (1, 10, 89));
        assert!((0..20).all(|number| casting.role(number) == Role::Steady));
    }
}
