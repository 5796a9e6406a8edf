//! Who somebody is: passwords and tokens.
//!
//! A token of this server is `YWMt` and `base64url(payload) "." base64url(HMAC-SHA256(payload))`,
//! signed, not secret. It is stored nowhere: that of a user is good while the account exists, is
//! active and has the same password, that of a back end while the app has the same client secret.
//! Beside these there are dynamic tokens, which customers' servers make (rest 2.2).
//!
//! A password is kept as an Argon2id hash in PHC text. Making or checking one takes some 20 ms of a
//! core and 19 MiB, so a few do that at a time and the rest waits its turn or is told to come back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use posthouse_core::account::Account;
use posthouse_core::app::App;
use posthouse_core::error::StoreFault;
use posthouse_core::id::ClientId;
use posthouse_core::time::Timestamp;
use posthouse_core::{Error, Posthouse};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::guesses::{Guesses, Lane};
use crate::keys;
use crate::wire::name;

/// A longer text is no token: a name of 64 characters fits many times over.
const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// Before every token of this server, as the hosted cloud's begin.
const OWN_PREFIX: &str = "YWMt";
/// How the base64 of a dynamic token, `dt-{…`, begins.
const DYNAMIC_PREFIX: &str = "ZHQt";
/// Before the JSON in a dynamic token.
const DYNAMIC_TAG: &[u8] = b"dt-";
/// How far the clock of who makes a dynamic token may be ahead, and how long the token may be good, in
/// seconds. A token has to be from one of these days anyway, see [`readings`].
const DYNAMIC_AHEAD_MAX: i64 = 300;
const DYNAMIC_TTL_MAX: i64 = 90 * 86_400;
/// Digits of a time in seconds, until the year 2286.
const TIME_DIGITS: usize = 10;

/// Memory of one hash, in KiB, and how often it is gone through (OWASP's first choice for Argon2id).
const HASH_KIB: u32 = 19 * 1024;
const HASH_PASSES: u32 = 2;
/// Hashes at a time.
const HASHES_AT_ONCE: usize = 2;
/// Who may wait for a hash, and for how long: the SDK gives a REST call up after 15 s.
const HASHES_WAITING_MAX: usize = 256;
/// Of those who wait apart, of whom one at a time is looked at, so that the others always have their turn.
const APART_WAITING_MAX: usize = 64;
const HASH_WAIT: Duration = Duration::from_secs(10);

/// Where one hash is worked out. Kept and used again: 19 MiB that come and go on one thread after the
/// other would stay with the allocator once for each of them.
type Area = Vec<Block>;

/// Who a good token belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Bearer {
    /// The customer's back end.
    App,
    /// A user, whose account is there and active.
    User {
        /// Whose, as it is stored.
        account: Account,
        /// The first moment at which the token is no longer good.
        expires_at: Timestamp,
    },
}

/// Why a token is not good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BadToken {
    /// No token at all, or one of another app.
    Malformed,
    /// Made with another key, or from before a secret was changed.
    Foreign,
    /// Its time is over.
    Expired,
    /// Its account has changed.
    Over(Over),
    /// The store can't tell now.
    Store(Error),
}

/// What became of the account of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    /// It doesn't exist.
    Gone,
    /// It may not log in.
    Inactive,
    /// It has another password now.
    PasswordChanged,
}

/// Makes and checks what proves who somebody is.
pub(crate) struct Auth {
    tokens: Hmac<Sha256>,
    hashes: Arc<Semaphore>,
    areas: Arc<Mutex<Vec<Area>>>,
    hashes_waiting: Semaphore,
    /// For the one who waited apart.
    apart: Semaphore,
    /// For the one of those in doubt who may wait beside those whose account is attacked.
    doubtful: Semaphore,
    apart_waiting: Semaphore,
    doubtful_waiting: Semaphore,
    /// Who was wrong lately.
    pub(crate) guesses: Guesses,
}

/// What a token says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Claims {
    /// The app, by its internal id.
    #[serde(rename = "a")]
    app: String,
    /// Whose it is.
    #[serde(flatten)]
    of: ClaimsOf,
    /// The first moment at which it is no longer good, in Unix milliseconds.
    #[serde(rename = "e")]
    expires_at: i64,
    /// Makes it unlike any other.
    #[serde(rename = "n")]
    nonce: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "k")]
enum ClaimsOf {
    #[serde(rename = "a")]
    App {
        /// Of its client secret.
        #[serde(rename = "s")]
        secret: String,
    },
    #[serde(rename = "u")]
    User {
        #[serde(rename = "u")]
        client: String,
        /// Of the account, which counts its passwords.
        #[serde(rename = "g")]
        generation: u32,
    },
}

/// What a token proves, before anybody has looked at the account.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Proved {
    App,
    User {
        client: ClientId,
        expires_at: Timestamp,
        /// `None` for tokens that a password's change doesn't void.
        generation: Option<u32>,
    },
}

/// What a dynamic token says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dynamic {
    signature: String,
    appkey: String,
    user_id: String,
    cur_time: i64,
    ttl: i64,
}

impl Auth {
    /// Tokens are signed with a key made of `token_key`, 32 secret random bytes, so that no other
    /// wire's tokens are good here.
    pub(crate) fn new(token_key: &[u8; 32]) -> Self {
        let own_key = mac_of(&keyed(token_key), b"posthouse: tokens of the Easemob wire");
        Self {
            tokens: keyed(&own_key),
            hashes: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            areas: Arc::default(),
            hashes_waiting: Semaphore::new(HASHES_WAITING_MAX),
            apart: Semaphore::new(1),
            doubtful: Semaphore::new(1),
            apart_waiting: Semaphore::new(APART_WAITING_MAX),
            doubtful_waiting: Semaphore::new(APART_WAITING_MAX),
            guesses: Guesses::default(),
        }
    }

    /// A token for the app's back end.
    pub(crate) fn app_token(&self, posthouse: &Posthouse, app: &App, expires_at: Timestamp) -> String {
        let secret = self.secret_mark(app);
        self.sign(&Claims {
            app: app.id.as_str().to_owned(),
            of: ClaimsOf::App { secret },
            expires_at: expires_at.0,
            nonce: posthouse.random(),
        })
    }

    /// A token for a user.
    pub(crate) fn user_token(
        &self,
        posthouse: &Posthouse,
        app: &App,
        account: &Account,
        expires_at: Timestamp,
    ) -> String {
        self.sign(&Claims {
            app: app.id.as_str().to_owned(),
            of: ClaimsOf::User { client: account.client.as_str().to_owned(), generation: account.generation },
            expires_at: expires_at.0,
            nonce: posthouse.random(),
        })
    }

    /// Whose `token` is, if it is good for `app` now.
    pub(crate) async fn bearer(
        &self,
        posthouse: &Posthouse,
        app: &App,
        token: &str,
    ) -> Result<Bearer, BadToken> {
        let (client, expires_at, generation) = match self.prove(app, token, posthouse.now())? {
            Proved::App => return Ok(Bearer::App),
            Proved::User { client, expires_at, generation } => (client, expires_at, generation),
        };
        let account = posthouse.account(app, &client).await.map_err(BadToken::Store)?;
        let account = account.ok_or(BadToken::Over(Over::Gone))?;
        if !account.active {
            Err(BadToken::Over(Over::Inactive))
        } else if generation.is_some_and(|generation| generation != account.generation) {
            Err(BadToken::Over(Over::PasswordChanged))
        } else {
            Ok(Bearer::User { account, expires_at })
        }
    }

    /// The hash of a password, to be stored. `Busy` when too many wait already.
    pub(crate) async fn hash(
        &self,
        posthouse: &Posthouse,
        password: String,
        lane: Lane,
    ) -> Result<Arc<str>, Error> {
        let mut salt = [0; 16];
        let (high, low) = salt.split_at_mut(8);
        high.copy_from_slice(&posthouse.random().to_be_bytes());
        low.copy_from_slice(&posthouse.random().to_be_bytes());
        let hashed = self.in_turn(lane, move |area| hash(area, password.as_bytes(), &salt)).await?;
        hashed.map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            Error::Store(StoreFault::Failed)
        })
    }

    /// Whether `password` is the one that `secret` is the hash of. `Busy` when too many wait already.
    pub(crate) async fn opens(&self, password: String, secret: Arc<str>, lane: Lane) -> Result<bool, Error> {
        self.in_turn(lane, move |area| opens(area, password.as_bytes(), &secret)).await
    }

    /// Does heavy `work` when its turn comes, beside the threads that serve everybody.
    async fn in_turn<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce(&mut Area) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let busy = || Error::Store(StoreFault::Busy);
        let waiting = match lane {
            Lane::Clear => &self.hashes_waiting,
            Lane::Apart => &self.apart_waiting,
            Lane::Doubtful => &self.doubtful_waiting,
        };
        let _waiting = waiting.try_acquire().map_err(|_| busy())?;
        let taking = async {
            let doubtful = match lane {
                Lane::Clear | Lane::Apart => None,
                Lane::Doubtful => Some(self.doubtful.acquire().await),
            };
            let apart = match lane {
                Lane::Clear => None,
                Lane::Apart | Lane::Doubtful => Some(self.apart.acquire().await),
            };
            (doubtful, apart, Arc::clone(&self.hashes).acquire_owned().await)
        };
        let (_doubtful, _apart, turn) = timeout(HASH_WAIT, taking).await.map_err(|_| busy())?;
        let turn = turn.map_err(|_| busy())?;
        let areas = Arc::clone(&self.areas);
        let working = tokio::task::spawn_blocking(move || {
            // Held by the work itself, which goes on when nobody waits for it any more.
            let _turn = turn;
            let mut area = areas.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let outcome = work(&mut area);
            areas.lock().unwrap_or_else(PoisonError::into_inner).push(area);
            outcome
        });
        working.await.map_err(|_| Error::Store(StoreFault::Failed))
    }

    fn prove(&self, app: &App, token: &str, now: Timestamp) -> Result<Proved, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            Err(BadToken::Malformed)
        } else if let Some(own) = token.strip_prefix(OWN_PREFIX) {
            self.prove_own(app, own, now)
        } else if token.starts_with(DYNAMIC_PREFIX) {
            prove_dynamic(app, token, now)
        } else {
            Err(BadToken::Malformed)
        }
    }

    fn prove_own(&self, app: &App, token: &str, now: Timestamp) -> Result<Proved, BadToken> {
        let claims = self.verify(token)?;
        if claims.app != app.id.as_str() {
            return Err(BadToken::Malformed);
        }
        let expires_at = Timestamp(claims.expires_at);
        if now >= expires_at {
            return Err(BadToken::Expired);
        }
        match claims.of {
            ClaimsOf::App { secret } if same(secret.as_bytes(), self.secret_mark(app).as_bytes()) => {
                Ok(Proved::App)
            }
            ClaimsOf::App { .. } => Err(BadToken::Foreign),
            ClaimsOf::User { client, generation } => {
                let client = ClientId::parse(&client).map_err(|_| BadToken::Malformed)?;
                Ok(Proved::User { client, expires_at, generation: Some(generation) })
            }
        }
    }

    fn sign(&self, claims: &Claims) -> String {
        let payload = serde_json::to_vec(claims).expect("text and numbers are always JSON");
        let signature = mac_of(&self.tokens, &payload);
        format!("{OWN_PREFIX}{}.{}", URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(signature))
    }

    /// What a token says, without its prefix. The signature is compared in constant time and before
    /// anything of the payload is read.
    fn verify(&self, token: &str) -> Result<Claims, BadToken> {
        let (payload, signature) = token.split_once('.').ok_or(BadToken::Malformed)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| BadToken::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadToken::Malformed)?;
        let mut mac = self.tokens.clone();
        mac.update(&payload);
        mac.verify_slice(&signature).map_err(|_| BadToken::Foreign)?;
        serde_json::from_slice(&payload).map_err(|_| BadToken::Malformed)
    }

    /// Tells the app's client secret from an earlier one and says nothing else about it.
    fn secret_mark(&self, app: &App) -> String {
        let secret = app.key(keys::CLIENT_SECRET).unwrap_or_default();
        let mark = mac_of(&self.tokens, format!("secret of {}: {secret}", app.id).as_bytes());
        URL_SAFE_NO_PAD.encode(&mark[..16])
    }
}

fn prove_dynamic(app: &App, token: &str, now: Timestamp) -> Result<Proved, BadToken> {
    let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| BadToken::Malformed)?;
    let json = bytes.strip_prefix(DYNAMIC_TAG).ok_or(BadToken::Malformed)?;
    let token: Dynamic = serde_json::from_slice(json).map_err(|_| BadToken::Malformed)?;
    let app_key = app.key(keys::APP_KEY).filter(|key| *key == token.appkey).ok_or(BadToken::Malformed)?;
    let (Some(id), Some(secret)) = (app.key(keys::CLIENT_ID), app.key(keys::CLIENT_SECRET)) else {
        return Err(BadToken::Foreign);
    };
    let Dynamic { user_id, cur_time, ttl, .. } = &token;
    let signed = format!("{id}{app_key}{user_id}{cur_time}{ttl}{secret}");
    if !same(hex(&Sha256::digest(signed)).as_bytes(), token.signature.to_ascii_lowercase().as_bytes()) {
        return Err(BadToken::Foreign);
    }
    let now_seconds = now.0.div_euclid(1_000);
    if !is_dynamic_life(*cur_time, *ttl, now_seconds) {
        return Err(if cur_time.saturating_add(*ttl) <= now_seconds {
            BadToken::Expired
        } else {
            BadToken::Foreign
        });
    }
    if readings(&format!("{user_id}{cur_time}{ttl}"), now_seconds) > 1 {
        tracing::info!(app = %app.id, "refused: a dynamic token whose digits could be another user's");
        return Err(BadToken::Foreign);
    }
    let expires_at = Timestamp(cur_time.saturating_add(*ttl).saturating_mul(1_000));
    if now >= expires_at {
        return Err(BadToken::Expired);
    }
    let client = name::id_of(user_id).map_err(|_| BadToken::Over(Over::Gone))?;
    let client = ClientId::parse(&client).map_err(|_| BadToken::Over(Over::Gone))?;
    Ok(Proved::User { client, expires_at, generation: None })
}

/// Whether a dynamic token can have been made at `cur_time` for `ttl` seconds, as seen at `now`.
fn is_dynamic_life(cur_time: i64, ttl: i64, now: i64) -> bool {
    let made = now.saturating_sub(DYNAMIC_TTL_MAX)..=now.saturating_add(DYNAMIC_AHEAD_MAX);
    made.contains(&cur_time) && (1..=DYNAMIC_TTL_MAX).contains(&ttl)
}

/// In how many ways the end of a signed text, `userId curTime ttl` without anything between them, can be
/// read. Where there are several, digits could be moved from one into the other: a token for `bob1795`
/// would be one for `bob` too.
fn readings(signed: &str, now: i64) -> usize {
    let digits = signed.bytes().rev().take_while(u8::is_ascii_digit).count();
    let is_reading = |from: &usize| {
        let Some((cur_time, ttl)) = signed.get(*from..).and_then(|end| end.split_at_checked(TIME_DIGITS))
        else {
            return false;
        };
        let number = |digits: &str| digits.parse::<i64>().ok().filter(|_| !digits.starts_with('0'));
        number(cur_time).zip(number(ttl)).is_some_and(|(cur_time, ttl)| is_dynamic_life(cur_time, ttl, now))
    };
    (signed.len() - digits..signed.len()).filter(is_reading).count()
}

fn hash(area: &mut Area, password: &[u8], salt: &[u8]) -> Result<Arc<str>, argon2::password_hash::Error> {
    let params = Params::new(HASH_KIB, HASH_PASSES, 1, None)?;
    let written = ParamsString::try_from(&params)?;
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    derive(area, params, password, salt, &mut output)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: written,
        salt: Some(Salt::new(salt)?),
        hash: Some(Output::new(&output)?),
    };
    Ok(hash.to_string().into())
}

/// Whether a password is the one of a stored hash, with whatever cost that was made.
fn opens(area: &mut Area, password: &[u8], secret: &str) -> bool {
    let Ok(stored) = PasswordHash::new(secret) else { return false };
    let (Ok(params), Some(salt), Some(hash)) = (Params::try_from(&stored), stored.salt, stored.hash) else {
        return false;
    };
    let mut output = vec![0; hash.as_bytes().len()];
    stored.algorithm == Algorithm::Argon2id.ident()
        && derive(area, params, password, salt.as_ref(), &mut output).is_ok()
        && same(&output, hash.as_bytes())
}

fn derive(
    area: &mut Area,
    params: Params,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
) -> Result<(), argon2::Error> {
    if area.len() < params.block_count() {
        area.resize(params.block_count(), Block::default());
    }
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    hasher.hash_password_into_with_memory(password, salt, output, area)
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

fn mac_of(key: &Hmac<Sha256>, bytes: &[u8]) -> [u8; 32] {
    let mut mac = key.clone();
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::app::Settings;
    use posthouse_core::id::AppId;
    use proptest::prelude::*;

    use super::*;

    const EXPIRES: i64 = 1_000_000;

    fn auth() -> Auth {
        Auth::new(&[7; 32])
    }

    fn app(id: &str, secret: &str) -> App {
        let keys =
            [(keys::APP_KEY, "acme#shop"), (keys::CLIENT_ID, "YXA6client"), (keys::CLIENT_SECRET, secret)];
        App {
            id: AppId::parse(id).unwrap(),
            name: "shop".to_owned(),
            keys: keys.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            settings: Settings::default(),
            created_at: Timestamp(0),
        }
    }

    fn shop() -> App {
        app("a1", "YXA6secret")
    }

    fn user_token(auth: &Auth) -> String {
        auth.sign(&Claims {
            app: "a1".to_owned(),
            of: ClaimsOf::User { client: "alice".to_owned(), generation: 3 },
            expires_at: EXPIRES,
            nonce: 1,
        })
    }

    fn app_token(auth: &Auth, app: &App) -> String {
        auth.sign(&Claims {
            app: app.id.as_str().to_owned(),
            of: ClaimsOf::App { secret: auth.secret_mark(app) },
            expires_at: EXPIRES,
            nonce: 1,
        })
    }

    fn alice(expires_at: i64, generation: Option<u32>) -> Proved {
        let client = ClientId::parse("alice").unwrap();
        Proved::User { client, expires_at: Timestamp(expires_at), generation }
    }

    #[test]
    fn a_user_token_says_whose_it_is_until_it_expires() {
        let token = user_token(&auth());
        assert!(token.starts_with("YWMt"));
        let prove = |app: &App, now| auth().prove(app, &token, Timestamp(now));
        assert_eq!(prove(&shop(), EXPIRES - 1), Ok(alice(EXPIRES, Some(3))));
        assert_eq!(prove(&shop(), EXPIRES), Err(BadToken::Expired));
        assert_eq!(prove(&app("a2", "YXA6secret"), 0), Err(BadToken::Malformed));
        assert_eq!(Auth::new(&[8; 32]).prove(&shop(), &token, Timestamp(0)), Err(BadToken::Foreign));
    }

    #[test]
    fn an_app_token_is_void_when_the_secret_changes() {
        let token = app_token(&auth(), &shop());
        assert_eq!(auth().prove(&shop(), &token, Timestamp(0)), Ok(Proved::App));
        assert_eq!(auth().prove(&shop(), &token, Timestamp(EXPIRES)), Err(BadToken::Expired));
        assert_eq!(auth().prove(&app("a1", "other"), &token, Timestamp(0)), Err(BadToken::Foreign));
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        for token in ["", "YWMt", "YWMt.", "YWMta.b", "abc", "ZHQt", "ZHQt!", &"x".repeat(100_000)] {
            assert!(
                matches!(
                    auth().prove(&shop(), token, Timestamp(0)),
                    Err(BadToken::Malformed | BadToken::Foreign)
                ),
                "{token}"
            );
        }
    }

    fn dynamic(user: &str, cur_time: i64, ttl: i64, signature: &str) -> String {
        let json = serde_json::json!({
            "signature": signature, "appkey": "acme#shop", "userId": user, "curTime": cur_time, "ttl": ttl,
        });
        base64::engine::general_purpose::URL_SAFE.encode(format!("dt-{json}"))
    }

    fn signature(user: &str, cur_time: i64, ttl: i64) -> String {
        hex(&Sha256::digest(format!("YXA6clientacme#shop{user}{cur_time}{ttl}YXA6secret")))
    }

    #[test]
    fn a_dynamic_token_is_that_of_the_reference() {
        let signed = "7ef4631141855a3eec782c3af51f3fa18c952781aee28f97ba6990aae7fa5e63";
        let token = dynamic("u1", 1_686_207_557, 600, signed);
        let (made, ends) = (1_686_207_557_000, 1_686_208_157_000);
        let prove = |app: &App, token: &str, now| auth().prove(app, token, Timestamp(now));
        let client = ClientId::parse("u1").unwrap();
        let good = Ok(Proved::User { client, expires_at: Timestamp(ends), generation: None });
        assert_eq!(prove(&shop(), &token, made - 300_000), good);
        assert_eq!(prove(&shop(), &token, ends - 1), good);
        assert_eq!(prove(&shop(), token.trim_end_matches('='), ends - 1), good);
        assert_eq!(prove(&shop(), &token, ends), Err(BadToken::Expired));
        assert_eq!(prove(&shop(), &token, made + 400 * 86_400_000), Err(BadToken::Expired));
        assert_eq!(prove(&app("a1", "other"), &token, made), Err(BadToken::Foreign));
        let forged = dynamic("u2", 1_686_207_557, 600, signed);
        assert_eq!(prove(&shop(), &forged, made), Err(BadToken::Foreign));
    }

    #[test]
    fn a_dynamic_token_is_from_now_and_not_for_ever() {
        let now = 1_795_325_372;
        for (cur_time, ttl, is_good) in [
            (now, 1, true),
            (now + 300, 600, true),
            (now, 90 * 86_400, true),
            (now + 301, 600, false),
            (now * 1_000, 600, false),
            (now, 0, false),
            (now, -1, false),
            (-now, i64::MAX, false),
            (now, 90 * 86_400 + 1, false),
            (now - 91 * 86_400, i64::MAX, false),
        ] {
            let token = dynamic("bob", cur_time, ttl, &signature("bob", cur_time, ttl));
            let proved = auth().prove(&shop(), &token, Timestamp(now * 1_000));
            assert_eq!(proved.is_ok(), is_good, "{cur_time} {ttl}");
        }
    }

    #[test]
    fn no_digit_of_a_dynamic_token_can_be_moved() {
        let made = 1_795_325_372_i64;
        let names = [
            "bob",
            "bob1",
            "bob17",
            "bob179",
            "bob1795",
            "bob17953",
            "bob1795325372",
            "bob0",
            "179",
            "13800001117",
        ];
        let (mut good, mut tried) = (0, 0);
        for name in names {
            for ttl in [60, 600, 3_600, 86_400, 604_800, 7_776_000] {
                let (signed, all) = (signature(name, made, ttl), format!("{name}{made}{ttl}"));
                for later in [0, 59, 3_599, 86_399, 7_775_999] {
                    let now = Timestamp((made + later) * 1_000);
                    for user_ends in 0..all.len() {
                        for time_ends in user_ends + 1..all.len() {
                            let (user, rest) = all.split_at(user_ends);
                            let (cur_time, rest) = rest.split_at(time_ends - user_ends);
                            let (Ok(cur_time), Ok(moved)) = (cur_time.parse(), rest.parse()) else {
                                continue;
                            };
                            let proved = auth().prove(&shop(), &dynamic(user, cur_time, moved, &signed), now);
                            let is_own = (user, cur_time, moved) == (name, made, ttl);
                            assert!(proved.is_err() || is_own, "{name} {ttl} is {user} {cur_time} {moved}");
                            good += usize::from(proved.is_ok());
                            tried += 1;
                        }
                    }
                }
            }
        }
        assert!(good > 100 && tried > 10_000, "{good} of {tried}");
    }

    #[tokio::test]
    async fn a_password_opens_its_own_hash_only() {
        let hashed = hash(&mut Area::new(), b"secret", b"0123456789abcdef").unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
        assert_eq!(auth().opens("secret".to_owned(), hashed.clone(), Lane::Clear).await, Ok(true));
        assert_eq!(auth().opens("Secret".to_owned(), hashed, Lane::Clear).await, Ok(false));
        assert_eq!(auth().opens("secret".to_owned(), "no hash".into(), Lane::Clear).await, Ok(false));
    }

    #[tokio::test]
    async fn when_too_many_wait_for_a_hash_the_next_is_told_to_come_back() {
        let auth = auth();
        let busy = Err(Error::Store(StoreFault::Busy));
        let waiting = auth.hashes_waiting.acquire_many(256).await.unwrap();
        assert_eq!(auth.in_turn(Lane::Clear, |_| 1).await, busy);
        assert_eq!(auth.in_turn(Lane::Doubtful, |_| 1).await, Ok(1));
        drop(waiting);
        let doubtful = auth.doubtful_waiting.acquire_many(64).await.unwrap();
        assert_eq!(auth.in_turn(Lane::Doubtful, |_| 1).await, busy);
        assert_eq!(auth.in_turn(Lane::Clear, |_| 1).await, Ok(1));
        drop(doubtful);
        assert_eq!(auth.in_turn(Lane::Doubtful, |_| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn one_in_doubt_at_a_time_leaves_a_turn_to_the_others() {
        let auth = auth();
        let (began, beginning) = tokio::sync::oneshot::channel();
        let (go_on, stop) = std::sync::mpsc::sync_channel::<()>(1);
        let first = auth.in_turn(Lane::Doubtful, move |_| {
            began.send(()).unwrap();
            stop.recv().unwrap();
        });
        let order = Arc::new(Mutex::new(Vec::new()));
        let next = |lane| {
            let order = Arc::clone(&order);
            auth.in_turn(lane, move |_| order.lock().unwrap().push(lane))
        };
        let clear = async {
            beginning.await.unwrap();
            for _ in 0..20 {
                assert_eq!(auth.in_turn(Lane::Clear, |_| 1).await, Ok(1));
            }
            go_on.send(()).unwrap();
        };
        // Of those in doubt only one stands before whoever came later to an account that is attacked.
        let others = futures_util::future::join_all([
            next(Lane::Doubtful),
            next(Lane::Doubtful),
            next(Lane::Doubtful),
            next(Lane::Apart),
        ]);
        let (first, others, ()) = tokio::join!(first, others, clear);
        assert!(first.is_ok() && others.iter().all(Result::is_ok));
        let attacked = order.lock().unwrap().iter().position(|lane| *lane == Lane::Apart);
        assert!(attacked <= Some(1), "{order:?}");
    }

    proptest! {
        #[test]
        fn any_changed_character_is_noticed(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
            let token = user_token(&auth());
            let at = at.index(token.len());
            let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
            prop_assume!(changed != token);
            prop_assert!(auth().prove(&shop(), &changed, Timestamp(0)).is_err());
        }

        #[test]
        fn any_text_proves_nothing(text in "(YWMt|ZHQt)?[ -~]{0,80}") {
            prop_assert!(auth().prove(&shop(), &text, Timestamp(0)).is_err());
        }
    }
}
