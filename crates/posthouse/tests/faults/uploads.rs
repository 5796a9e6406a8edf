//! Files that clients upload, under a power cut: what was answered is there whole, what was not is whole or
//! isn't there.

use futures_util::future::join_all;
use posthouse::adapter::FileBlobs;
use posthouse::peer::easemob::Rest;
use posthouse_core::port::blobs::Blobs as _;
use posthouse_testkit::disk::cut::{self, Disk, Fate, Image};
use posthouse_testkit::disk::scratch;
use posthouse_testkit::disk::trace::Trace;
use posthouse_testkit::store_suite::app_id;
use serde_json::Value;

use super::Stage;

const BOUNDARY: &str = "----WebKitFormBoundary7MA4YWxkTrZu0gW";
const FILES: u8 = 12;

fn content(number: u8) -> Vec<u8> {
    (0..20_000_u32).map(|at| at.to_le_bytes()[0] ^ number).collect()
}

/// Uploads one file; gives its id.
async fn upload(rest: &Rest, number: u8) -> String {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{number}\"\r\nContent-Type: image/png\r\n\r\n"
    );
    let mut form = head.into_bytes();
    form.extend_from_slice(&content(number));
    form.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let (status, answer) =
        rest.exchange("POST", "/chatfiles", &[("Content-Type", &*kind)], Some(&form)).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer["entities"][0]["uuid"].as_str().unwrap().replace('-', "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uploaded_file_is_there_after_a_power_cut() {
    let mut stage = Stage::set().await;
    let rest = Rest::new(&stage.server().http_url(), stage.app["easemob_appkey"].as_str().unwrap());
    let rest = rest.with_token(&stage.token);
    let began = stage.watch.now();
    let watch = &stage.watch;
    let uploads = (0..FILES).map(|number| {
        let rest = &rest;
        async move {
            let id = upload(rest, number).await;
            (watch.now(), number, id)
        }
    });
    let uploaded = join_all(uploads).await;
    stage.server.take().unwrap().kill();
    // An app's files are in a folder named after it.
    let folder = std::fs::read_dir(stage.watch.data().join("files")).unwrap().next().unwrap().unwrap();
    let app = app_id(folder.file_name().to_str().unwrap());
    let trace = Trace::read(&stage.watch.trace());
    let mut disk = Disk::new(&trace, &Image::new());
    for record in 0..=trace.records.len() {
        disk.forward(record);
        if disk.end() < began {
            continue;
        }
        for fate in [Fate::Lost, Fate::Kept, Fate::Drawn(record as u64)] {
            let place = scratch();
            cut::write(&disk.image(fate), place.path());
            let files = FileBlobs::new(&place.path().join("data"));
            for (acked, number, id) in &uploaded {
                let found = files.get(&app, id).await;
                let found = found.unwrap_or_else(|error| panic!("record {record}, {fate:?}: {error}"));
                assert!(
                    found.is_some() || *acked > disk.end(),
                    "record {record}, {fate:?}: an uploaded file is lost"
                );
                assert!(found.is_none_or(|(_, bytes)| bytes == content(*number)), "half a file is served");
            }
        }
    }
}
