//! Who guesses passwords, and what that may cost the others: nothing.
//!
//! A check costs 20 ms of a core, so a flood of wrong passwords would keep right ones waiting. An address
//! that was wrong too often is refused before anything is looked at. Whoever was wrong lately, and whoever
//! tries at an account that others were wrong about, waits apart and gets at most half of the checks, a few
//! at a time for each address. Nobody is locked out by what others do: an account under attack is reached
//! more slowly, and before those who attack it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use posthouse_core::app::App;
use posthouse_core::id::{AppId, ClientId};
use posthouse_core::rate::{Buckets, Quota};
use posthouse_core::time::Timestamp;

use crate::error::rest::Fault;

/// Wrong passwords for one account, from anywhere, after which attempts at it wait apart.
const OF_ACCOUNT: Quota = Quota { per_minute: 10, burst: 10 };

/// Wrong passwords of an address after which it waits apart; people mistype.
const DOUBT_AFTER: u32 = 5;

/// Attempts of one address at a time that nothing speaks against; more wait apart, as many as an office
/// makes on a morning.
const CLEAR_AT_ONCE: usize = 4;
const APART_AT_ONCE: usize = 64;
/// The same of one in doubt.
const DOUBTFUL_AT_ONCE: usize = 4;

/// Where a password waits for its check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// Nothing speaks against it.
    Clear,
    /// Others were wrong about its account, or its address has many on their way.
    Apart,
    /// Its address was wrong lately, or nobody knows whose it is.
    Doubtful,
}

/// What is remembered of wrong passwords; those of a minute and more ago are forgotten.
#[derive(Default)]
pub(crate) struct Guesses {
    of_addresses: Buckets<(AppId, Network)>,
    of_accounts: Buckets<(AppId, ClientId)>,
    /// How many attempts of each address are waiting or looked at. Bounded by those who may wait.
    trying: Mutex<HashMap<Network, usize>>,
}

/// An address, or in IPv6 the 64 bits of it that a household or a server has to itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Network(IpAddr);

impl Network {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        })
    }
}

/// An attempt on its way.
pub(crate) struct Attempt<'a> {
    pub(crate) lane: Lane,
    guesses: &'a Guesses,
    network: Network,
}

impl Guesses {
    /// Lets an address try, unless it was wrong too often.
    pub(crate) fn admit(&self, app: &App, address: IpAddr, now: Timestamp) -> Result<(), Fault> {
        let key = (app.id.clone(), Network::of(address));
        match quota(app) {
            Some(quota) if !self.of_addresses.has_one(&key, quota, now) => Err(Fault::too_fast()),
            Some(_) | None => Ok(()),
        }
    }

    /// Begins an attempt at `client`, or at nobody's account, which is always in doubt. Refused while the
    /// address has too many on their way.
    pub(crate) fn attempt(
        &self,
        app: &App,
        address: IpAddr,
        client: Option<&ClientId>,
        now: Timestamp,
    ) -> Result<Attempt<'_>, Fault> {
        let network = Network::of(address);
        let lane = match client {
            Some(client) => self.lane(app, network, client, now),
            None => Lane::Doubtful,
        };
        let mut trying = self.trying();
        let mine = trying.get(&network).copied().unwrap_or_default();
        let (lane, max) = match lane {
            Lane::Clear if mine < CLEAR_AT_ONCE => (Lane::Clear, CLEAR_AT_ONCE),
            Lane::Clear | Lane::Apart => (Lane::Apart, APART_AT_ONCE),
            Lane::Doubtful => (Lane::Doubtful, DOUBTFUL_AT_ONCE),
        };
        if mine >= max {
            return Err(Fault::too_fast());
        }
        trying.insert(network, mine + 1);
        Ok(Attempt { lane, guesses: self, network })
    }

    fn lane(&self, app: &App, network: Network, client: &ClientId, now: Timestamp) -> Lane {
        let wrong =
            quota(app).map_or(0, |quota| self.of_addresses.taken(&(app.id.clone(), network), quota, now));
        let account = (app.id.clone(), client.clone());
        if wrong >= DOUBT_AFTER {
            Lane::Doubtful
        } else if self.of_accounts.has_one(&account, OF_ACCOUNT, now) {
            Lane::Clear
        } else {
            Lane::Apart
        }
    }

    /// A password was wrong, or a name nobody's, or an app's secret wrong (without a client).
    pub(crate) fn was_wrong(&self, app: &App, address: IpAddr, client: Option<&ClientId>, now: Timestamp) {
        if let Some(quota) = quota(app) {
            self.of_addresses.take((app.id.clone(), Network::of(address)), quota, now);
        }
        if let Some(client) = client {
            self.of_accounts.take((app.id.clone(), client.clone()), OF_ACCOUNT, now);
        }
    }

    fn trying(&self) -> MutexGuard<'_, HashMap<Network, usize>> {
        self.trying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut trying = self.guesses.trying();
        if let Some(mine) = trying.get_mut(&self.network) {
            *mine -= 1;
            if *mine == 0 {
                trying.remove(&self.network);
            }
        }
    }
}

/// How often an address may be wrong; `None` for any number.
fn quota(app: &App) -> Option<Quota> {
    let per_minute = app.settings.wrong_passwords_per_minute;
    (per_minute > 0).then_some(Quota { per_minute, burst: per_minute })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::app::Settings;

    use super::*;

    fn app(wrong_passwords_per_minute: u32) -> App {
        App {
            id: AppId::parse("a1").unwrap(),
            name: "shop".to_owned(),
            keys: std::collections::BTreeMap::new(),
            settings: Settings { wrong_passwords_per_minute, ..Settings::default() },
            created_at: Timestamp(0),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client(id: &str) -> ClientId {
        ClientId::parse(id).unwrap()
    }

    #[test]
    fn an_address_that_was_wrong_too_often_is_refused_and_no_other() {
        let (guesses, app) = (Guesses::default(), app(5));
        let (mine, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..5 {
            guesses.admit(&app, mine, Timestamp(0)).unwrap();
            guesses.was_wrong(&app, mine, None, Timestamp(0));
        }
        assert_eq!(guesses.admit(&app, mine, Timestamp(0)), Err(Fault::too_fast()));
        assert_eq!(guesses.admit(&app, address("::ffff:192.0.2.1"), Timestamp(0)), Err(Fault::too_fast()));
        guesses.admit(&app, other, Timestamp(0)).unwrap();
        guesses.admit(&app, mine, Timestamp(12_000)).unwrap();
    }

    #[test]
    fn a_household_of_ipv6_is_one_address() {
        let (guesses, app) = (Guesses::default(), app(1));
        guesses.was_wrong(&app, address("2001:db8:1:2:aaaa::1"), None, Timestamp(0));
        assert!(guesses.admit(&app, address("2001:db8:1:2:bbbb::2"), Timestamp(0)).is_err());
        guesses.admit(&app, address("2001:db8:1:3::1"), Timestamp(0)).unwrap();
    }

    #[test]
    fn without_a_limit_nobody_is_refused() {
        let (guesses, app) = (Guesses::default(), app(0));
        for _ in 0..1_000 {
            guesses.was_wrong(&app, address("192.0.2.1"), None, Timestamp(0));
        }
        guesses.admit(&app, address("192.0.2.1"), Timestamp(0)).unwrap();
    }

    #[test]
    fn who_was_wrong_and_who_is_attacked_wait_apart() {
        let (guesses, app) = (Guesses::default(), app(30));
        let (alice, bob) = (client("alice"), client("bob"));
        let (home, away) = (address("192.0.2.1"), address("192.0.2.2"));
        let lane = |address, client: &ClientId, at| {
            guesses.attempt(&app, address, Some(client), Timestamp(at)).unwrap().lane
        };
        for _ in 0..4 {
            guesses.was_wrong(&app, away, Some(&bob), Timestamp(0));
        }
        assert_eq!(lane(away, &bob, 0), Lane::Clear, "people mistype");
        guesses.was_wrong(&app, away, Some(&bob), Timestamp(0));
        assert_eq!(lane(away, &alice, 0), Lane::Doubtful);
        assert_eq!(lane(home, &bob, 0), Lane::Clear, "that was another address");
        // From many addresses, one each.
        for number in 0..10 {
            guesses.was_wrong(&app, address(&format!("198.51.100.{number}")), Some(&alice), Timestamp(0));
        }
        assert_eq!(lane(home, &alice, 0), Lane::Apart);
        assert_eq!(lane(home, &bob, 0), Lane::Clear);
        assert_eq!(lane(home, &alice, 6_000), Lane::Clear);
    }

    #[test]
    fn an_address_has_so_many_attempts_at_a_time() {
        let (guesses, app) = (Guesses::default(), app(30));
        let (home, away) = (address("192.0.2.1"), address("192.0.2.2"));
        for (client, max) in [(Some(client("alice")), 64), (None, 4)] {
            let attempt = |address| guesses.attempt(&app, address, client.as_ref(), Timestamp(0));
            let mut attempts: Vec<_> = (0..max).map(|_| attempt(home).unwrap()).collect();
            assert!(attempt(home).is_err());
            let clear = attempts.iter().filter(|attempt| attempt.lane == Lane::Clear).count();
            assert_eq!(clear, if client.is_some() { 4 } else { 0 });
            assert!(attempt(away).is_ok());
            attempts.pop();
            assert!(attempt(home).is_ok());
        }
        assert!(guesses.trying().is_empty(), "addresses are not remembered");
    }
}
