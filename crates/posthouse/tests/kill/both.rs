//! Both doors at once on one server, in lives of at most [`KILLS_A_LIFE`] kills, each on a directory of its
//! own: histories are read back whole, so they must not grow for ever.

use posthouse::peer::easemob::Rest;
use posthouse_testkit::process::Process;

use super::{draw, easemob, kill_while_they_talk, kills, leancloud, make_app, setting, start};

const KILLS_A_LIFE: u64 = 25;

enum Seat {
    Lean(leancloud::Seat),
    Ease(easemob::Seat),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acked_at_either_door_is_lost_when_the_server_is_killed() {
    let mut chance = setting("POSTHOUSE_SEED", 1);
    let (mut left, mut lives, mut acked) = (kills(), 0, 0);
    while left > 0 {
        let share = left.min(KILLS_A_LIFE);
        acked += live(share, &mut chance).await;
        (left, lives) = (left - share, lives + 1);
        println!(
            "{} kills in {lives} lives, {acked} acked messages at both doors, none lost or doubled",
            kills() - left
        );
    }
}

/// One directory and so many kills; gives how many acks there were.
async fn live(kills: u64, chance: &mut u64) -> usize {
    let data = tempfile::tempdir().unwrap();
    let app = make_app(data.path());
    let app_id = app["leancloud_id"].as_str().unwrap().to_owned();
    let server = start(data.path());
    let lean = leancloud::take_seats(&server.socket_url(), &app_id).await.into_iter().map(Seat::Lean);
    let ease = easemob::take_seats(&server.http_url(), &app).await.into_iter().map(Seat::Ease);
    let seats: Vec<Seat> = lean.chain(ease).collect();
    let talk = |seat: Seat, server: &Process, acks, stop| {
        let (socket, http, app_id) = (server.socket_url(), server.http_url(), app_id.clone());
        async move {
            match seat {
                Seat::Lean(seat) => Seat::Lean(seat.talk(socket, app_id, acks, stop).await),
                Seat::Ease(seat) => Seat::Ease(seat.talk(http, acks, stop).await),
            }
        }
    };
    let acks_max = 500 + draw(chance, 1_000);
    let (server, seats, journalled) =
        kill_while_they_talk(data.path(), kills, chance, server, seats, acks_max, talk).await;
    let (mut lean, mut acked) = (Vec::new(), 0);
    let rest = Rest::new(&server.http_url(), app["easemob_appkey"].as_str().unwrap());
    for seat in seats {
        match seat {
            Seat::Lean(seat) => {
                acked += seat.acked();
                lean.push(seat);
            }
            Seat::Ease(mut seat) => {
                acked += seat.acked();
                seat.check(&server.http_url(), &rest).await;
            }
        }
    }
    leancloud::check(&server.socket_url(), &app_id, &lean).await;
    // A seat that was cut off between an ack and telling of it knows of one more than the journal.
    assert!(journalled <= acked && acked <= journalled + lean.len() * 2 * usize::try_from(kills).unwrap());
    server.kill();
    let differences = posthouse_store::audit(data.path()).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
    acked
}
