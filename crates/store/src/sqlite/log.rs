//! SQLite's log of what isn't in a file yet, looked at before SQLite opens it.
//!
//! SQLite takes the first frame of the log that doesn't add up for its end, which is right after a power cut
//! and wrong after damage: then everything acknowledged behind that frame would be gone without a word. The two
//! can be told apart, because each commit is synced before the next one begins: a cut tears the last
//! commit only. Format: sqlite.org/fileformat2.html, "The WAL File Format".

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// A log is read and written again in pieces of this size.
const REWRITTEN_AT_ONCE: usize = 256 * 1024;

/// So many whole commits behind the end of what adds up can't be what a power cut left. (One can: the end
/// of a torn commit, or of one that was refused because its sync failed.)
const COMMITS_AFTER_DAMAGE: u32 = 2;

/// Where the log at `path` is damaged, if it certainly is. A log that isn't there is fine.
pub(super) fn damaged_at(path: &Path) -> io::Result<Option<u64>> {
    match File::open(path) {
        Ok(file) => find_damage(BufReader::with_capacity(REWRITTEN_AT_ONCE, file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn find_damage(mut log: impl Read) -> io::Result<Option<u64>> {
    let mut header = [0; HEADER_BYTES];
    if !fill(&mut log, &mut header)? || header == [0; HEADER_BYTES] {
        return Ok(None);
    }
    let big_endian = match word(&header, 0) {
        0x377F_0682 => false,
        0x377F_0683 => true,
        _ => return Ok(Some(0)),
    };
    // The header lies within one sector: it is there or it isn't.
    if checksum((0, 0), &header[..24], big_endian) != (word(&header, 24), word(&header, 28)) {
        return Ok(Some(0));
    }
    let page_bytes = word(&header, 8) as usize;
    if !(512..=65_536).contains(&page_bytes) {
        return Ok(Some(0));
    }
    let mut before = (word(&header, 24), word(&header, 28));
    let mut page = vec![0; page_bytes];
    let mut frame = [0; FRAME_HEADER_BYTES];
    let mut at = HEADER_BYTES as u64;
    let (mut broken_at, mut resumed, mut commits) = (None, false, 0);
    while fill(&mut log, &mut frame)? && fill(&mut log, &mut page)? {
        let stored = (word(&frame, 16), word(&frame, 20));
        let computed = checksum(checksum(before, &frame[..8], big_endian), &page, big_endian);
        // Frames of an older log, which this one is written over, have other salts.
        let adds_up = frame[8..16] == header[16..24] && computed == stored;
        match (broken_at, adds_up) {
            (None, true) => {}
            (None, false) => broken_at = Some(at),
            (Some(_), true) => {
                resumed = true;
                commits += u32::from(word(&frame, 4) != 0);
                if commits >= COMMITS_AFTER_DAMAGE {
                    return Ok(broken_at);
                }
            }
            // What comes now was left behind by something else.
            (Some(_), false) if resumed => return Ok(None),
            (Some(_), false) => {}
        }
        before = stored;
        at += (FRAME_HEADER_BYTES + page_bytes) as u64;
    }
    Ok(None)
}

/// Writes the log again as it is, and syncs it.
///
/// When a sync fails, the system forgets that what it covered isn't on the disk: the next sync succeeds
/// without it, and whoever opens the file meanwhile reads it from memory as if it were there. What a process
/// that met such a failure has left in the log, this one or one before it, may therefore be taken for kept. Bytes
/// that are written anew are synced anew.
pub(super) fn rewrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut piece = vec![0; REWRITTEN_AT_ONCE];
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let read = file.read(&mut piece)?;
        if read == 0 {
            return file.sync_data();
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&piece[..read])?;
        at += read as u64;
    }
}

/// Reads as many bytes as `into` has; `false` if there are fewer.
fn fill(log: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(into) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// SQLite's running checksum over pairs of words, in the byte order that the log's first word names.
fn checksum((mut one, mut two): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let number = |word: &[u8]| {
        let word = [word[0], word[1], word[2], word[3]];
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        one = one.wrapping_add(number(&pair[..4])).wrapping_add(two);
        two = two.wrapping_add(number(&pair[4..])).wrapping_add(one);
    }
    (one, two)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;

    /// The log of ten commits, each of some pages, whose file is still open.
    fn ten_commits(dir: &TempDir) -> (Connection, Vec<u8>) {
        let file = dir.path().join("a.db");
        let db = Connection::open(&file).unwrap();
        db.execute_batch("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x BLOB)")
            .unwrap();
        for _ in 0..9 {
            db.execute("INSERT INTO t VALUES (randomblob(9000))", []).unwrap();
        }
        let log = std::fs::read(dir.path().join("a.db-wal")).unwrap();
        (db, log)
    }

    #[test]
    fn a_good_log_and_a_torn_last_commit_are_no_damage() {
        let dir = TempDir::new().unwrap();
        let (_db, log) = ten_commits(&dir);
        assert_eq!(find_damage(&log[..]).unwrap(), None);
        for end in [0, 20, 32, 100, log.len() / 2, log.len() - 5_000] {
            assert_eq!(find_damage(&log[..end]).unwrap(), None, "cut off at {end}");
        }
        let frames = (log.len() - HEADER_BYTES) / (FRAME_HEADER_BYTES + 4_096);
        for lost in frames - 3..frames {
            let mut torn = log.clone();
            let at = HEADER_BYTES + lost * (FRAME_HEADER_BYTES + 4_096);
            torn[at..at + 512].fill(0);
            assert_eq!(find_damage(&torn[..]).unwrap(), None, "frame {lost} of {frames}");
        }
        assert_eq!(damaged_at(&dir.path().join("none")).unwrap(), None);
    }

    #[test]
    fn what_is_damaged_before_the_last_commits_is_found() {
        let dir = TempDir::new().unwrap();
        let (_db, log) = ten_commits(&dir);
        let end = log.len() - 8 * (FRAME_HEADER_BYTES + 4_096);
        for at in (0..end).step_by(611) {
            // Bytes 4 to 8 of a frame that isn't a commit's last: also then the sum doesn't add up.
            let mut bad = log.clone();
            bad[at] ^= 0x10;
            let found = find_damage(&bad[..]).unwrap();
            assert!(found.is_some_and(|found| found <= at as u64), "byte {at}: {found:?}");
        }
    }

    #[test]
    fn a_log_that_is_written_over_an_older_one_is_no_damage() {
        let dir = TempDir::new().unwrap();
        let (db, old) = ten_commits(&dir);
        db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        db.execute("INSERT INTO t VALUES (1)", []).unwrap();
        let log = std::fs::read(dir.path().join("a.db-wal")).unwrap();
        assert!(log.len() == old.len() && log != old);
        assert_eq!(find_damage(&log[..]).unwrap(), None);
    }

    #[test]
    fn a_rewritten_log_is_the_same() {
        let dir = TempDir::new().unwrap();
        let (_db, log) = ten_commits(&dir);
        rewrite(&dir.path().join("a.db-wal")).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a.db-wal")).unwrap(), log);
    }
}
