//! Session tokens: what `st` holds and how it is proved.
//!
//! `base64url(payload) "." base64url(HMAC-SHA256(payload))`. The payload names the app, client,
//! device, tag and configuration of a login, so that a restart or another process can resume it
//! without having stored anything. It is signed, not secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use posthouse_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// A longer text is no token of ours: a device id of 512 characters of four bytes fits.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Signs and checks session tokens.
#[derive(Clone)]
pub(crate) struct TokenKey(Hmac<Sha256>);

/// What a token says about the login it was given to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The app, by its internal id.
    #[serde(rename = "a")]
    pub(crate) app: String,
    /// The client.
    #[serde(rename = "c")]
    pub(crate) client: String,
    /// The device.
    #[serde(rename = "d")]
    pub(crate) device: String,
    /// The slot that only one device may hold.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<String>,
    /// The SDK's `configBitmap`.
    #[serde(rename = "b")]
    pub(crate) bitmap: i64,
    /// The first moment at which the token is no longer good, in Unix milliseconds.
    #[serde(rename = "e")]
    pub(crate) expires_at: i64,
}

/// Why a token is not good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TokenFault {
    /// Not made with this key, or no token at all.
    Forged,
    /// Made with this key, but its time is over. What it says is still true.
    Expired(Box<Claims>),
}

impl TokenKey {
    /// A key of 32 secret random bytes.
    #[must_use]
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of every length"))
    }

    /// A token that says `claims`.
    #[must_use]
    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let payload = serde_json::to_vec(claims).expect("text and numbers are always JSON");
        let mut mac = self.0.clone();
        mac.update(&payload);
        let signature = mac.finalize().into_bytes();
        format!("{}.{}", URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(signature))
    }

    /// What `token` says, if it is ours and still good at `now`. The signature is compared in
    /// constant time and before anything of the payload is read.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenFault> {
        let claims = self.authentic(token).ok_or(TokenFault::Forged)?;
        if now.0 < claims.expires_at { Ok(claims) } else { Err(TokenFault::Expired(Box::new(claims))) }
    }

    fn authentic(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (payload, signature) = token.split_once('.')?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let mut mac = self.0.clone();
        mac.update(&payload);
        mac.verify_slice(&signature).ok()?;
        serde_json::from_slice(&payload).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXPIRES: i64 = 1_000_000;

    fn claims() -> Claims {
        Claims {
            app: "a1".to_owned(),
            client: "汤姆".to_owned(),
            device: "d\"1".to_owned(),
            tag: Some("Web".to_owned()),
            bitmap: 187,
            expires_at: EXPIRES,
        }
    }

    fn key() -> TokenKey {
        TokenKey::new(&[7; 32])
    }

    #[test]
    fn a_token_says_what_it_was_given_until_it_expires() {
        let token = key().sign(&claims());
        assert_eq!(key().verify(&token, Timestamp(EXPIRES - 1)), Ok(claims()));
        assert_eq!(key().verify(&token, Timestamp(EXPIRES)), Err(TokenFault::Expired(Box::new(claims()))));
    }

    #[test]
    fn without_a_tag_there_is_none() {
        let untagged = Claims { tag: None, ..claims() };
        let token = key().sign(&untagged);
        assert_eq!(key().verify(&token, Timestamp(0)), Ok(untagged));
    }

    #[test]
    fn another_key_or_no_token_is_forged_even_when_expired() {
        let foreign = TokenKey::new(&[8; 32]).sign(&claims());
        for token in ["", ".", "a.b", "a", "e30.", &foreign, &"x".repeat(100_000)] {
            assert_eq!(key().verify(token, Timestamp(EXPIRES)), Err(TokenFault::Forged));
        }
    }

    #[test]
    fn a_signature_cut_short_is_forged() {
        let token = key().sign(&claims());
        for cut in 1..44 {
            assert_eq!(key().verify(&token[..token.len() - cut], Timestamp(0)), Err(TokenFault::Forged));
        }
    }

    proptest! {
        #[test]
        fn any_changed_character_is_noticed(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
            let token = key().sign(&claims());
            let at = at.index(token.len());
            let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
            prop_assume!(changed != token);
            // The last character of each part has bits that carry nothing; base64 refuses them set.
            prop_assert_eq!(key().verify(&changed, Timestamp(0)), Err(TokenFault::Forged));
        }

        #[test]
        fn any_text_is_forged(text in "[ -~]{0,80}") {
            prop_assert_eq!(key().verify(&text, Timestamp(0)), Err(TokenFault::Forged));
        }
    }
}
