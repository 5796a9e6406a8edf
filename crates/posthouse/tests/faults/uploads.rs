//! Files that clients upload, under a power cut: what was answered is there whole, what was not is whole or
//! isn't there.

use futures_util::future::join_all;
use posthouse::adapter::FileBlobs;
use posthouse::peer::easemob::Rest;
use posthouse_core::id::AppId;
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
    let (status, answer) = try_upload(rest, number).await;
    assert_eq!(status, 200, "{answer}");
    answer["entities"][0]["uuid"].as_str().unwrap().replace('-', "")
}

async fn try_upload(rest: &Rest, number: u8) -> (u16, Value) {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{number}\"\r\nContent-Type: image/png\r\n\r\n"
    );
    let mut form = head.into_bytes();
    form.extend_from_slice(&content(number));
    form.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let (status, answer) =
        rest.exchange("POST", "/chatfiles", &[("Content-Type", &*kind)], Some(&form)).await.unwrap();
    (status, serde_json::from_slice(&answer).unwrap())
}

fn rest_of(stage: &Stage) -> Rest {
    let rest = Rest::new(&stage.server().http_url(), stage.app["easemob_appkey"].as_str().unwrap());
    rest.with_token(&stage.token)
}

/// An app's files are in a folder named after it.
fn app_of(stage: &Stage) -> AppId {
    let folder = std::fs::read_dir(stage.watch.data().join("files")).unwrap().next().unwrap().unwrap();
    app_id(folder.file_name().to_str().unwrap())
}

/// Folders that an earlier try made, but whose names it could not bring to the disk, are no reason to believe that
/// they are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_was_not_synced_is_synced_by_the_next_file() {
    // There are 256 folders; after so many tries nearly all of them are there.
    const TRIES: usize = 700;
    let mut stage = Stage::set().await;
    let rest = rest_of(&stage);
    stage.watch.play("sync 5 files 0 -1");
    for _ in 0..TRIES {
        assert_eq!(try_upload(&rest, 0).await.0, 500);
    }
    stage.watch.play("");
    let mut uploaded = Vec::new();
    for number in 0..FILES {
        let id = upload(&rest, number).await;
        uploaded.push((stage.watch.now(), number, id));
    }
    stage.server.take().unwrap().kill();
    let app = app_of(&stage);
    let trace = Trace::read(&stage.watch.trace());
    let mut disk = Disk::new(&trace, &Image::new());
    // The power is cut right after each answer.
    for (acked, number, id) in uploaded {
        disk.forward(trace.records.iter().take_while(|record| record.end <= acked).count());
        let place = scratch();
        cut::write(&disk.image(Fate::Lost), place.path());
        let found = FileBlobs::new(&place.path().join("data")).get(&app, &id).await.unwrap();
        assert!(found.is_some_and(|(_, bytes)| bytes == content(number)), "file {number} is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uploaded_file_is_there_after_a_power_cut() {
    let mut stage = Stage::set().await;
    let rest = rest_of(&stage);
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
    let app = app_of(&stage);
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
