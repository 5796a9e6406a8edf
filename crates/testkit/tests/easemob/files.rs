//! Files: uploading, downloading, and who may (rest 3.3.8, client 7.12).

use posthouse::peer::easemob::Rest;
use posthouse_testkit::server::TestServer;
use serde_json::Value;

use crate::stage::{app_key, other_app, refused, rest, rest_of, user};

const BOUNDARY: &str = "----WebKitFormBoundary7MA4YWxkTrZu0gW";

/// A form as browsers send it.
fn form(field: &str, name: &str, kind: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n"
    );
    let mut form = head.into_bytes();
    form.extend_from_slice(bytes);
    form.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    form
}

async fn send(rest: &Rest, headers: &[(&str, &str)], form: &[u8]) -> (u16, Value) {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let mut all = vec![("Content-Type", &*kind), ("Accept", "*/*")];
    all.extend(headers);
    let (status, answer) =
        rest.exchange("POST", "/chatfiles?chat-type=CHAT&chat-target=bob", &all, Some(form)).await.unwrap();
    (status, serde_json::from_slice(&answer).expect("every answer is JSON"))
}

/// Uploads a file; its id and its secret.
async fn upload(rest: &Rest, headers: &[(&str, &str)], kind: &str, bytes: &[u8]) -> (String, Option<String>) {
    let (status, answer) = send(rest, headers, &form("file", "猫.png", kind, bytes)).await;
    assert_eq!(status, 200, "{answer}");
    let entity = &answer["entities"][0];
    assert_eq!(entity["type"], "chatfile");
    assert_eq!(entity["file-metadata"]["content-length"], bytes.len());
    (entity["uuid"].as_str().unwrap().to_owned(), entity["share-secret"].as_str().map(str::to_owned))
}

async fn fetch(rest: &Rest, path: &str, headers: &[(&str, &str)]) -> (u16, Vec<u8>) {
    rest.exchange("GET", &format!("/chatfiles/{path}"), headers, None).await.unwrap()
}

#[tokio::test]
async fn a_file_comes_back_as_it_went() {
    let server = TestServer::start().await;
    let alices = user(&server, "alice").await;
    let open = rest(&server);
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (status, answer) =
        send(&alices, &[], &form("file", "a.bin", "application/octet-stream", &bytes)).await;
    assert_eq!(status, 200, "{answer}");
    let base = app_key(&server).replace('#', "/");
    assert_eq!(answer["uri"], format!("{}/{base}/chatfiles", server.http_url()));
    let id = answer["entities"][0]["uuid"].as_str().unwrap();
    assert!(answer["entities"][0]["share-secret"].is_null());
    // `<img src>` sends no token.
    for path in [id.to_owned(), format!("{id}?em-redirect=true")] {
        assert_eq!(fetch(&open, &path, &[]).await, (200, bytes.clone()));
    }
    let (empty, _) = upload(&alices, &[], "text/plain", b"").await;
    assert_eq!(fetch(&open, &empty, &[]).await, (200, Vec::new()));
    let server = server.restart().await;
    assert_eq!(fetch(&rest(&server), id, &[]).await, (200, bytes));
}

#[tokio::test]
async fn a_restricted_file_opens_to_its_secret() {
    let server = TestServer::start().await;
    let alices = user(&server, "alice").await;
    let open = rest(&server);
    let (id, secret) = upload(&alices, &[("restrict-access", "true")], "image/png", b"png").await;
    let secret = secret.unwrap();
    assert_eq!(fetch(&open, &format!("{id}?em-redirect=true&share-secret={secret}"), &[]).await.0, 200);
    assert_eq!(fetch(&open, &id, &[("share-secret", &secret)]).await, (200, b"png".to_vec()));
    for (path, headers) in [
        (id.clone(), vec![]),
        (format!("{id}?share-secret=x"), vec![]),
        (format!("{id}?share-secret="), vec![]),
        (id.clone(), vec![("share-secret", "x")]),
    ] {
        let (status, body) = fetch(&open, &path, &headers).await;
        let json: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &json["error_description"]), (403, &"chatfile no permission".into()), "{path}");
    }
}

#[tokio::test]
async fn pictures_are_their_own_thumbnails_and_films_have_none() {
    let server = TestServer::start().await;
    let alices = user(&server, "alice").await;
    let open = rest(&server);
    let (picture, _) =
        upload(&alices, &[("thumbnail-width", "170"), ("thumbnail-height", "170")], "image/png", b"png")
            .await;
    assert_eq!(
        fetch(&open, &format!("{picture}?em-redirect=true&thumbnail=true"), &[]).await,
        (200, b"png".to_vec())
    );
    let (film, _) = upload(&alices, &[], "video/mp4", b"mp4").await;
    for path in [format!("{film}?vframe=true"), format!("{film}?thumbnail=true")] {
        let (status, body) = fetch(&open, &path, &[]).await;
        assert_eq!(status, 404);
        assert!(serde_json::from_slice::<Value>(&body).unwrap().is_object());
    }
}

#[tokio::test]
async fn files_have_a_size_and_an_uploader() {
    let mut server = TestServer::start().await;
    server.set(&[("file_bytes_max", "1000")]).await;
    let alices = user(&server, "alice").await;
    upload(&alices, &[], "text/plain", &[b'x'; 1_000]).await;
    let (status, answer) = send(&alices, &[], &form("file", "a", "text/plain", &[b'x'; 1_001])).await;
    assert!(status == 400 || status == 413, "{status}");
    assert_eq!(answer["error_code"], 14_403);
    let (status, answer) = send(&rest(&server), &[], &form("file", "a", "text/plain", b"x")).await;
    assert_eq!((status, &answer["error_description"]), (401, &"Unable to authenticate (OAuth)".into()));
    for bad in [form("other", "a", "text/plain", b"x"), b"nonsense".to_vec(), Vec::new()] {
        let (status, answer) = send(&alices, &[], &bad).await;
        assert_eq!((status, &answer["error_description"]), (400, &"file must be provided.".into()));
    }
    let (status, _) = alices
        .exchange("POST", "/chatfiles", &[("Content-Type", "application/json")], Some(b"{}"))
        .await
        .unwrap();
    assert_eq!(status, 400);
}

#[tokio::test]
async fn only_files_that_are_there_and_of_the_app_are_found() {
    let server = TestServer::start().await;
    let alices = user(&server, "alice").await;
    let (id, _) = upload(&alices, &[], "text/plain", b"x").await;
    let foreign = rest_of(&server, &other_app(&server).await);
    for (rest, path) in [
        (&foreign, &*id),
        (&alices, "00000000-0000-0000-0000-000000000000"),
        (&alices, "x"),
        (&alices, "..%2f..%2ftoken.key"),
        (&alices, "%2e%2e"),
    ] {
        let (status, body) = fetch(rest, path, &[]).await;
        assert_eq!(status, 404, "{path}");
        let json: Value = serde_json::from_slice(&body).unwrap();
        assert!(json["error_description"].is_string());
    }
    assert_eq!(refused(&alices, "PUT", &format!("/chatfiles/{id}"), None).await.0 / 100, 4);
    assert_eq!(fetch(&rest(&server), &id, &[]).await.0, 200);
}
