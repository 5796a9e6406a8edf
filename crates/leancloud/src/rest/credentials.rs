//! Which app an HTTP request speaks for: `X-LC-Id` with `X-LC-Key` or `X-LC-Sign`, or their older
//! names. The App Key ships in every app, so this keeps apps apart and proves nothing about people.

use std::sync::Arc;

use axum::http::HeaderMap;
use posthouse_core::Posthouse;
use posthouse_core::app::App;
use subtle::ConstantTimeEq;

use super::md5;
use crate::keys;

const ID: [&str; 3] = ["x-lc-id", "x-avoscloud-application-id", "x-uluru-application-id"];
const KEY: [&str; 3] = ["x-lc-key", "x-avoscloud-application-key", "x-uluru-application-key"];
const SIGN: [&str; 2] = ["x-lc-sign", "x-avoscloud-request-sign"];
const MASTER_KEY: [&str; 2] = ["x-avoscloud-master-key", "x-uluru-master-key"];

/// The app whose id the request names and whose key it knows; `None` for everything else.
pub(super) fn app(posthouse: &Posthouse, headers: &HeaderMap) -> Option<Arc<App>> {
    let app = posthouse.app_by_key(keys::APP_ID, text(headers, &ID)?)?;
    let app_key = app.key(keys::APP_KEY);
    let master_key = app.key(keys::MASTER_KEY);
    proves(headers, app_key, master_key).then_some(app)
}

/// Whether the request knows the App Key or, saying so, the Master Key.
fn proves(headers: &HeaderMap, app_key: Option<&str>, master_key: Option<&str>) -> bool {
    if let Some(key) = text(headers, &KEY) {
        return match key.split_once(',') {
            Some((key, level)) if level.trim() == "master" => same(key.trim(), master_key),
            Some(_) => false,
            None => same(key.trim(), app_key),
        };
    }
    if let Some(key) = text(headers, &MASTER_KEY) {
        return same(key.trim(), master_key);
    }
    let Some(sign) = text(headers, &SIGN) else { return false };
    let mut parts = sign.split(',').map(str::trim);
    let (Some(digest), Some(at)) = (parts.next(), parts.next()) else { return false };
    let key = match parts.next() {
        None => app_key,
        Some("master") => master_key,
        Some(_) => return false,
    };
    // Nothing is said anywhere about how old a signature may be, and back ends' clocks are unknown.
    key.is_some_and(|key| {
        let wanted = md5::hex(format!("{at}{key}").as_bytes());
        same(&digest.to_ascii_lowercase(), Some(&wanted))
    })
}

fn same(given: &str, key: Option<&str>) -> bool {
    key.is_some_and(|key| bool::from(given.as_bytes().ct_eq(key.as_bytes())))
}

fn text<'a>(headers: &'a HeaderMap, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| headers.get(*name)?.to_str().ok())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const APP_KEY: &str = "UtOCzqb67d3sN12Kts4URwy8";
    const MASTER: &str = "DyJegPlemooo4X1tg94gQkw1";

    fn knows(name: &'static str, value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        proves(&headers, Some(APP_KEY), Some(MASTER))
    }

    #[test]
    fn keys_are_known_by_old_and_new_names() {
        assert!(knows("x-lc-key", APP_KEY));
        assert!(knows("x-uluru-application-key", APP_KEY));
        assert!(knows("x-lc-key", "DyJegPlemooo4X1tg94gQkw1 , master"));
        assert!(knows("x-avoscloud-master-key", MASTER));
        assert!(!knows("x-lc-key", MASTER), "a master key must say that it is one");
        assert!(!knows("x-lc-key", "UtOCzqb67d3sN12Kts4URwy8,master"));
        assert!(!knows("x-lc-key", ""));
        assert!(!knows("x-lc-id", APP_KEY));
    }

    #[test]
    fn signatures_of_the_official_samples_are_known() {
        assert!(knows("x-lc-sign", "d5bcbb897e19b2f6633c716dfdfaf9be,1453014943466"));
        assert!(knows("x-lc-sign", "D5BCBB897E19B2F6633C716DFDFAF9BE,1453014943466"));
        assert!(knows("x-lc-sign", "e074720658078c898aa0d4b1b82bdf4b,1453014943466,master"));
        assert!(!knows("x-lc-sign", "d5bcbb897e19b2f6633c716dfdfaf9be,1453014943467"));
        assert!(!knows("x-lc-sign", "d5bcbb897e19b2f6633c716dfdfaf9be,1453014943466,master"));
        assert!(!knows("x-lc-sign", "d5bcbb897e19b2f6633c716dfdfaf9be,1453014943466,ax-sig-1"));
        assert!(!knows("x-lc-sign", "d5bcbb897e19b2f6633c716dfdfaf9be"));
        assert!(!knows("x-lc-sign", ",,"));
    }

    #[test]
    fn an_app_without_keys_is_nobodys() {
        let mut headers = HeaderMap::new();
        headers.insert("x-lc-key", HeaderValue::from_static(""));
        assert!(!proves(&headers, None, None));
    }
}
