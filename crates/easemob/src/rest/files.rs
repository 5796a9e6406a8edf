//! Files that messages point to: uploading and downloading them (rest 3.3.8, client 7.12).
//!
//! Whoever has an app's id can upload what they like, and browsers open it from this server's own
//! address. So nothing is ever run: types are not guessed, scripts are forbidden, and only pictures,
//! sound and moving pictures are shown rather than saved.

use std::time::Duration;

use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use posthouse_core::port::blobs::Blob;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::time::timeout;

use super::arrival::Arrival;
use super::call::{Call, Reply, Verb};
use crate::error::rest::{Fault, Task, fault};
use crate::rest::uploads::Uploader;

/// How long a file may wait for its turn, and take to arrive: together less than a listener gives a
/// request.
const UPLOAD_WAIT: Duration = Duration::from_secs(5);
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(50);
/// What goes with a file: the fields and the edges between them, in bytes.
const FORM_SLACK: usize = 64 * 1024;
const FILENAME_CHARS_MAX: usize = 255;
const MEDIA_TYPE_BYTES_MAX: usize = 127;
const MEDIA_TYPE_DEFAULT: &str = "application/octet-stream";

// ---- uploading --------------------------------------------------------------------------------------

/// `POST /chatfiles`
pub(super) async fn upload(call: &Call) -> Result<Reply, Fault> {
    if call.verb != Verb::Post {
        return Err(Fault::no_method());
    }
    let busy = || Fault::busy("too many files are being uploaded");
    let uploader = Uploader { app: call.app.id.clone(), client: call.user().cloned() };
    let turn = timeout(UPLOAD_WAIT, call.gateway.uploads().turn(uploader)).await.map_err(|_| busy())?;
    let turn = turn.ok_or_else(busy)?;
    let arrival = Arrival::new(call.take_body());
    let receiving = receive(call, &arrival, call.app.settings.file_bytes_max as usize);
    let received = timeout(UPLOAD_TIME_MAX, receiving).await.map_err(|_| Fault::too_slow())?;
    let upload = match received {
        Ok(upload) => upload,
        Err(_) if arrival.has_paused() => return Err(Fault::too_slow()),
        Err(fault) => {
            // Nothing of it is held any more, so others needn't wait for that.
            drop(turn);
            arrival.read_on().await;
            return Err(fault);
        }
    };

    let restricted = call
        .headers
        .get("restrict-access")
        .is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"true"));
    let random = || format!("{:016x}{:016x}", call.posthouse().random(), call.posthouse().random());
    let blob = Blob {
        id: random(),
        name: upload.name,
        media_type: upload.media_type,
        secret: restricted.then(random),
        at: call.posthouse().now(),
    };
    let (bytes, media_type) = (upload.bytes.len(), blob.media_type.clone());
    let mut entity = json!({
        "uuid": dashed(&blob.id),
        "type": "chatfile",
        "file-metadata": {"content-length": bytes, "content-type": media_type},
    });
    if let Some(secret) = &blob.secret {
        entity["share-secret"] = secret.as_str().into();
    }
    let kept = call.gateway.blobs().put(&call.app.id, blob, upload.bytes).await;
    kept.map_err(|error| fault(Task::File, &error))?;
    // SDKs make the file's address of this one.
    Ok(Reply::of("/chatfiles").with("uri", format!("{}/chatfiles", call.place.base)).entities(vec![entity]))
}

/// A file that has arrived.
struct Upload {
    name: String,
    media_type: String,
    bytes: Bytes,
}

async fn receive(call: &Call, arrival: &Arrival, max: usize) -> Result<Upload, Fault> {
    let nothing = || Fault::argument("file must be provided.");
    let mut request = Request::new(arrival.body());
    if let Some(kind) = call.headers.get(CONTENT_TYPE) {
        request.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    // Axum's own bound is lower than many apps'; the bytes are counted below.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| nothing())?;
    let mut upload = None;
    let mut beside = 0;
    while let Some(mut field) = form.next_field().await.map_err(|_| nothing())? {
        if upload.is_none() && field.name() == Some("file") {
            let name = field.file_name().unwrap_or_default().chars().take(FILENAME_CHARS_MAX).collect();
            let media_type = media_type(field.content_type());
            let bytes = file(&mut field, max).await?;
            upload = Some(Upload { name, media_type, bytes });
            continue;
        }
        // Wishes for thumbnails, which aren't made.
        while let Some(chunk) = field.chunk().await.map_err(|_| nothing())? {
            beside += chunk.len();
            if beside > FORM_SLACK {
                return Err(Fault::file_too_large());
            }
        }
    }
    upload.ok_or_else(nothing)
}

/// The bytes of a file, counted while they arrive.
async fn file(field: &mut Field<'_>, max: usize) -> Result<Bytes, Fault> {
    let broken = || Fault::argument("file must be provided.");
    let mut bytes = BytesMut::new();
    while let Some(chunk) = field.chunk().await.map_err(|_| broken())? {
        if bytes.len() + chunk.len() > max {
            return Err(Fault::file_too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// A media type that can stand in a header.
fn media_type(said: Option<&str>) -> String {
    let is_plain = |said: &&str| {
        said.len() <= MEDIA_TYPE_BYTES_MAX
            && said.split('/').count() == 2
            && said.split('/').all(|part| !part.is_empty())
            && said.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&byte))
    };
    let bare = said.and_then(|said| said.split(';').next()).map(str::trim);
    bare.filter(is_plain).unwrap_or(MEDIA_TYPE_DEFAULT).to_ascii_lowercase()
}

// ---- downloading ------------------------------------------------------------------------------------

/// `GET /chatfiles/{id}`, open to whoever has the file's secret, if it has one: pictures are shown by
/// elements of pages that can send no token.
pub(super) async fn download(call: &Call, id: &str) -> Result<Reply, Fault> {
    let id = bare(id).ok_or_else(Fault::no_file)?;
    let found = call.gateway.blobs().get(&call.app.id, &id).await;
    let found = found.map_err(|error| fault(Task::File, &error))?;
    let (blob, bytes) = found.ok_or_else(Fault::no_file)?;
    if let Some(secret) = &blob.secret {
        let given = header(&call.headers, "share-secret").or_else(|| call.query.get("share-secret"));
        let given = given.unwrap_or_default();
        if !bool::from(given.as_bytes().ct_eq(secret.as_bytes())) {
            return Err(Fault::no_secret());
        }
    }
    // No picture is made of a film, and a picture is its own thumbnail.
    if call.query.is_true("vframe") {
        return Err(Fault::no_file());
    }
    let wants_thumbnail = call.query.is_true("thumbnail")
        || header(&call.headers, "thumbnail").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if wants_thumbnail && !blob.media_type.starts_with("image/") {
        return Err(Fault::no_file());
    }
    Ok(Reply::Raw(content(&blob, bytes)))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn content(blob: &Blob, bytes: Bytes) -> Response {
    let value = |text: &str, otherwise: &'static str| {
        HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(otherwise))
    };
    let headers = [
        (CONTENT_TYPE, value(&blob.media_type, MEDIA_TYPE_DEFAULT)),
        (CONTENT_DISPOSITION, value(&disposition(blob), "attachment")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
        (CACHE_CONTROL, HeaderValue::from_static("private, max-age=86400")),
    ];
    (headers, Body::from(bytes)).into_response()
}

/// Whether the file is shown or saved, and under which name (RFC 6266).
fn disposition(blob: &Blob) -> String {
    let shown = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/heic"]
        .contains(&blob.media_type.as_str())
        || blob.media_type.starts_with("audio/")
        || blob.media_type.starts_with("video/");
    let how = if shown { "inline" } else { "attachment" };
    // Marks of writing direction can make `exe.png` of a name that ends otherwise.
    let turns = |char: &char| matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let name: String = blob
        .name
        .rsplit(['/', '\\'])
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|char| !turns(char))
        .collect();
    if name.is_empty() {
        return how.to_owned();
    }
    let plain: String = name
        .chars()
        .map(
            |char| {
                if char.is_ascii_graphic() && !"\"\\%;".contains(char) || char == ' ' { char } else { '_' }
            },
        )
        .collect();
    let escaped: String = name
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    format!("{how}; filename=\"{plain}\"; filename*=UTF-8''{escaped}")
}

/// An id in the form of a UUID, as answers show it.
fn dashed(id: &str) -> String {
    match (id.get(..8), id.get(8..12), id.get(12..16), id.get(16..20), id.get(20..)) {
        (Some(a), Some(b), Some(c), Some(d), Some(e)) => format!("{a}-{b}-{c}-{d}-{e}"),
        _ => id.to_owned(),
    }
}

/// The id in an address, with or without dashes.
fn bare(id: &str) -> Option<String> {
    let bare: String = id.chars().filter(|char| *char != '-').collect();
    let is_id = bare.len() == 32 && bare.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then_some(bare)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::time::Timestamp;

    use super::*;

    fn blob(name: &str, media_type: &str) -> Blob {
        Blob {
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            secret: None,
            at: Timestamp(0),
        }
    }

    #[test]
    fn ids_come_back_from_their_dashed_form() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(dashed(id), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(bare(&dashed(id)).as_deref(), Some(id));
        for none in ["", "..", "../../secret", "0123456789ABCDEF0123456789ABCDEF", &"a".repeat(33), "猫"] {
            assert_eq!(bare(none), None, "{none}");
        }
    }

    #[test]
    fn a_media_type_that_is_none_is_any_bytes() {
        assert_eq!(media_type(Some("image/PNG")), "image/png");
        assert_eq!(media_type(Some("text/html; charset=utf-8")), "text/html");
        for odd in [None, Some(""), Some("html"), Some("a/b/c"), Some("a/\r\nx"), Some("/"), Some("a/ b")] {
            assert_eq!(media_type(odd), MEDIA_TYPE_DEFAULT, "{odd:?}");
        }
    }

    #[test]
    fn what_browsers_could_run_is_saved_and_not_shown() {
        assert!(disposition(&blob("a.png", "image/png")).starts_with("inline; "));
        for media_type in ["text/html", "image/svg+xml", "application/pdf", "text/javascript"] {
            assert!(disposition(&blob("a", media_type)).starts_with("attachment; "), "{media_type}");
        }
        let headers =
            content(&blob("a.html", "text/html"), Bytes::from_static(b"<script>")).into_parts().0.headers;
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["content-security-policy"], "default-src 'none'; sandbox");
    }

    #[test]
    fn names_of_files_can_not_break_out_of_the_header() {
        let odd = disposition(&blob("../a\"b;\r\nc%汤.txt", "text/plain"));
        assert_eq!(
            odd,
            "attachment; filename=\"a_b___c__.txt\"; filename*=UTF-8''a%22b%3B%0D%0Ac%25%E6%B1%A4.txt"
        );
        assert_eq!(disposition(&blob("", "text/plain")), "attachment");
        assert_eq!(
            disposition(&blob("a\u{202e}gnp.exe", "text/plain")),
            "attachment; filename=\"agnp.exe\"; filename*=UTF-8''agnp.exe"
        );
    }
}
