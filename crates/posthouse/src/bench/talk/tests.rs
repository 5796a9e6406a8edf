//! What a run finds when the server loses, doubles, swaps or refuses: each test plays the server.

#![allow(clippy::unwrap_used, reason = "tests")]

use posthouse_leancloud::wire::proto::{
    AckCommand, CommandType, DirectCommand, ErrorCommand, GenericCommand,
};
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};

use super::super::lean::leancloud;
use super::*;

const RUN: u32 = 7;

/// A conversation of clients with these roles, of whom the first `speakers` talk, and the far ends of
/// their sockets.
struct Stage {
    talk: Talk,
    _far: Vec<TcpStream>,
    clock: i64,
}

impl Stage {
    async fn of(roles: &[Role], speakers: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut members, mut far) = (Vec::new(), Vec::new());
        for (number, role) in roles.iter().enumerate() {
            let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            far.push(listener.accept().await.unwrap().0);
            let name = format!("client-{number}");
            members.push(Member {
                voice: Voice::Leancloud(leancloud::Voice::new(&name, "cid", 0)),
                name,
                line: Line::over(near),
                conversation: 0,
                speaks: number < speakers,
                role: *role,
            });
        }
        let plan = Plan { wire: Wire::Leancloud, run: RUN, payload: 128, receipts: false, one_order: true };
        let (talk, mut listening) = Talk::begin(plan, vec!["cid".to_owned()], members, None);
        // Nobody reads: what comes is shown by hand.
        listening.shutdown().await;
        let mut talk = Rc::try_unwrap(talk).unwrap_or_else(|_| panic!("a reader is left")).into_inner();
        talk.window = Duration::ZERO..Duration::from_secs(60);
        Self { talk, _far: far, clock: 1_000 }
    }

    /// Two who talk, and three who listen.
    async fn usual() -> Self {
        Self::of(&[Role::Steady; 5], 2).await
    }

    fn say(&mut self, me: usize) {
        self.talk.say(me, Duration::from_millis(1), Instant::now());
    }

    fn show(&mut self, me: usize, command: &GenericCommand) {
        let payload = command.encode_to_vec();
        let mut bytes = vec![0x82, 126];
        bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&payload);
        self.talk.hear(me, &bytes, Instant::now());
    }

    fn ack(&mut self, me: usize, serial: i32) {
        let ack = AckCommand { uid: Some("id".to_owned()), t: Some(1), ..AckCommand::default() };
        let ack = GenericCommand {
            i: Some(serial),
            ack_message: Some(ack),
            ..peer::command(CommandType::Ack, None)
        };
        self.show(me, &ack);
    }

    fn refuse(&mut self, me: usize, serial: i32) {
        let error = ErrorCommand { code: Some(4114), ..ErrorCommand::default() };
        let error = GenericCommand {
            i: Some(serial),
            error_message: Some(error),
            ..peer::command(CommandType::Error, None)
        };
        self.show(me, &error);
    }

    /// The server delivers message `counter` of `sender` to these, at a time of its own.
    fn deliver(&mut self, to: &[usize], sender: usize, counter: u64) {
        self.clock += 1;
        self.deliver_at(to, sender, counter, self.clock, "cid");
    }

    fn deliver_at(&mut self, to: &[usize], sender: usize, counter: u64, at: i64, cid: &str) {
        let stamp = Stamp { run: RUN, sender, counter, scheduled: Duration::from_millis(1) };
        let direct = DirectCommand {
            cid: Some(cid.to_owned()),
            msg: Some(stamp.content(128).into()),
            timestamp: Some(at),
            ..DirectCommand::default()
        };
        let push =
            GenericCommand { direct_message: Some(direct), ..peer::command(CommandType::Direct, None) };
        for me in to {
            self.show(*me, &push);
        }
    }

    /// Says and acks `count` messages of client 0, and delivers them to these.
    fn exchange(&mut self, count: u64, to: &[usize]) {
        for counter in 0..count {
            self.say(0);
            self.ack(0, i32::try_from(counter + 1).unwrap());
            self.deliver(to, 0, counter);
        }
    }

    /// What is left to come: answers and deliveries.
    fn left(&self) -> (u64, u64) {
        (self.talk.unanswered, self.talk.owed)
    }

    fn end(self) -> Step {
        let phase = Phase {
            rate: 10,
            warm_up: Duration::ZERO,
            measured: Duration::from_secs(60),
            seed: 0,
            slow: false,
            gives_up: false,
        };
        let acked = self.talk.counts.acked;
        let step = figures(&Rc::new(RefCell::new(self.talk)), &phase, None, None, Ending::default());
        assert_eq!(step.acked, acked);
        step
    }
}

/// Runs a test where sockets and tasks of one thread may be made.
fn on_stage<F: Future<Output = ()>>(test: F) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn all_is_well_when_all_arrives_once_and_in_order() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.exchange(3, &[1, 2, 3]);
        assert_eq!(stage.left(), (0, 3));
        for counter in 0..3 {
            stage.deliver(&[4], 0, counter);
        }
        assert_eq!(stage.left(), (0, 0));
        assert_eq!(stage.talk.latencies.delivery.len(), 12);
        assert_eq!(stage.talk.latencies.last_delivery.len(), 3);
        let step = stage.end();
        assert!(step.is_clean(), "{step:?}");
        assert_eq!((step.sent, step.acked, step.delivered), (3, 3, 12));
    });
}

#[test]
fn a_lost_message_fails_the_run() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.exchange(3, &[1, 2, 3]);
        stage.deliver(&[4], 0, 0);
        stage.deliver(&[4], 0, 2);
        assert_eq!(stage.left(), (0, 1));
        let step = stage.end();
        assert_eq!((step.lost, step.is_true()), (1, false));
        assert!(step.problems.iter().any(|words| words.contains("did not reach 1")), "{step:?}");
    });
}

#[test]
fn the_last_message_can_be_lost_too() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.exchange(1, &[]);
        assert_eq!(stage.end().lost, 4);
    });
}

#[test]
fn what_was_still_on_its_way_at_a_cut_is_not_called_lost_and_passes_no_run() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.exchange(1, &[1, 2, 3]);
        let counts = stage.talk.settle_accounts(true);
        assert_eq!((counts.lost, counts.undelivered), (0, 1));
    });
}

#[test]
fn a_doubled_message_fails_the_run_and_replaces_none() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.exchange(1, &[1, 2, 3, 3]);
        assert_eq!(stage.left(), (0, 1));
        let step = stage.end();
        assert_eq!((step.duplicates, step.lost, step.is_true()), (1, 1, false));
    });
}

#[test]
fn a_disorder_fails_the_run() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.exchange(2, &[1, 2, 3]);
        stage.deliver(&[4], 0, 1);
        stage.deliver(&[4], 0, 0);
        let step = stage.end();
        assert_eq!((step.lost, step.duplicates), (0, 0));
        assert!(step.disorders > 0 && !step.is_true());
    });
}

#[test]
fn two_orders_of_two_speakers_fail_the_run() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        for me in [0, 1] {
            stage.say(me);
            stage.ack(me, 1);
        }
        // Speakers see only each other.
        stage.deliver(&[1], 0, 0);
        stage.deliver(&[0], 1, 0);
        for me in [2, 3] {
            stage.deliver(&[me], 0, 0);
            stage.deliver(&[me], 1, 0);
        }
        assert_eq!(stage.talk.counts.disorders, 0);
        stage.deliver(&[4], 1, 0);
        stage.deliver(&[4], 0, 0);
        let step = stage.end();
        assert_eq!((step.lost, step.duplicates), (0, 0));
        assert!(step.disorders > 0 && !step.is_true());
    });
}

#[test]
fn server_time_that_goes_back_between_speakers_fails_the_run() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        for me in [0, 1] {
            stage.say(me);
            stage.ack(me, 1);
        }
        stage.deliver_at(&[1, 2, 3, 4], 0, 0, 500, "cid");
        stage.deliver_at(&[0, 2, 3, 4], 1, 0, 499, "cid");
        assert_eq!(stage.end().disorders, 3);
    });
}

#[test]
fn strangers_messages_fail_the_run() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.exchange(1, &[1, 2, 3, 4]);
        // Another conversation, one's own message, and a sender who does not speak.
        stage.deliver_at(&[2], 0, 1, 5_000, "other");
        stage.deliver(&[0], 0, 0);
        stage.deliver(&[3], 4, 0);
        let step = stage.end();
        assert_eq!((step.problems.len(), step.delivered, step.is_clean()), (3, 4, false));
    });
}

#[test]
fn a_refused_message_is_owed_to_nobody_and_an_unanswered_one_is_not_lost() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.say(0);
        stage.say(0);
        stage.say(0);
        stage.refuse(0, 2);
        assert_eq!(stage.left(), (2, 8));
        stage.ack(0, 1);
        stage.deliver(&[1, 2, 3, 4], 0, 0);
        assert_eq!(stage.left(), (1, 4));
        let step = stage.end();
        assert_eq!((step.refused, step.unanswered, step.undelivered, step.lost), (1, 1, 4, 0));
        assert!(step.is_true() && !step.is_clean());
    });
}

#[test]
fn answers_to_nothing_are_told() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.exchange(1, &[1, 2, 3, 4]);
        stage.ack(0, 1);
        assert!(!stage.end().is_clean());
    });
}

#[test]
fn who_is_closed_is_counted_and_owed_nothing() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.exchange(2, &[1, 2, 3]);
        stage.deliver(&[4], 0, 0);
        // Close frame, 1013.
        stage.talk.hear(4, &[0x88, 2, 0x03, 0xF5], Instant::now());
        assert_eq!(stage.left(), (0, 0));
        stage.say(0);
        stage.ack(0, 3);
        stage.deliver(&[1, 2, 3], 0, 2);
        assert_eq!(stage.left(), (0, 0));
        let step = stage.end();
        assert_eq!((step.closed, step.lost, step.is_true(), step.is_clean()), (1, 0, true, false));
        assert!(step.problems[0].contains("1013"), "{step:?}");
    });
}

#[test]
fn a_visitor_is_owed_what_comes_between() {
    on_stage(async {
        let mut stage = Stage::of(&[Role::Steady, Role::Steady, Role::Visitor], 1).await;
        stage.exchange(4, &[1]);
        assert_eq!(stage.left(), (0, 0));
        stage.deliver(&[2], 0, 1);
        stage.deliver(&[2], 0, 2);
        stage.talk.leave_due = Instant::now();
        stage.talk.upkeep(Instant::now());
        assert_eq!((stage.talk.counts.leaves, stage.talk.counts.lost), (1, 0));
        // Outside, nothing counts.
        stage.deliver(&[2], 0, 9);
        stage.talk.upkeep(Instant::now() + AWAY);
        assert_eq!(stage.talk.counts.joins, 1);
        stage.deliver(&[2], 0, 1);
        stage.deliver(&[2], 0, 3);
        let step = stage.end();
        assert_eq!((step.lost, step.duplicates), (1, 0));
    });
}

#[test]
fn a_slow_reader_is_owed_nothing_and_what_it_missed_is_counted() {
    on_stage(async {
        let mut stage = Stage::of(&[Role::Steady, Role::Steady, Role::Slow], 1).await;
        stage.exchange(4, &[1]);
        stage.deliver(&[2], 0, 0);
        stage.deliver(&[2], 0, 3);
        stage.talk.closed(2, "slow");
        let step = stage.end();
        assert_eq!((step.slow_gaps, step.slow_closed, step.lost, step.closed), (2, 1, 0, 0));
        assert!(step.is_true());
    });
}

#[test]
fn frames_in_pieces_are_put_together() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.exchange(1, &[1, 2, 3]);
        let stamp = Stamp { run: RUN, sender: 0, counter: 0, scheduled: Duration::from_millis(1) };
        let direct = DirectCommand {
            cid: Some("cid".to_owned()),
            msg: Some(stamp.content(128).into()),
            timestamp: Some(1),
            ..DirectCommand::default()
        };
        let push =
            GenericCommand { direct_message: Some(direct), ..peer::command(CommandType::Direct, None) };
        let payload = push.encode_to_vec();
        let mut bytes = vec![0x82, 126];
        bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&payload);
        // A ping behind it.
        bytes.extend_from_slice(&[0x89, 0]);
        for byte in bytes {
            stage.talk.hear(4, &[byte], Instant::now());
        }
        assert_eq!(stage.left(), (0, 0));
        assert!(stage.talk.clients[4].inbox.is_empty());
        assert!(stage.end().is_clean());
    });
}

#[test]
fn a_later_phase_does_not_pay_for_an_earlier_one() {
    on_stage(async {
        let mut stage = Stage::usual().await;
        stage.say(0);
        let earlier = stage.talk.settle_accounts(false);
        assert_eq!((earlier.unanswered, earlier.undelivered), (1, 4));
        // Too late to count, and no problem.
        stage.ack(0, 1);
        stage.deliver(&[1, 2, 3, 4], 0, 0);
        stage.say(0);
        stage.ack(0, 2);
        stage.deliver(&[1, 2, 3, 4], 0, 1);
        assert_eq!(stage.left(), (0, 0));
        let step = stage.end();
        assert!(step.is_clean(), "{step:?}");
    });
}
