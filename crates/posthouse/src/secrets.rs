//! The server's own secret, made at first start.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::adapter::SystemChance;

const FILE: &str = "secret";
const UNFINISHED: &str = "secret.new";

/// The key that signs session tokens: read from the data directory, or made there, readable by its
/// owner only. Tokens stay valid over restarts because it stays.
pub fn token_key(data: &Path) -> std::io::Result<[u8; 32]> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    let path = data.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(text.trim()).ok_or_else(|| {
            std::io::Error::other(format!(
                "{} doesn't hold 64 hex digits; restore it, or delete it (everybody logs in anew then)",
                path.display()
            ))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = SystemChance.key();
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            write_whole(data, &path, &hex)?;
            Ok(key)
        }
        Err(error) => Err(std::io::Error::other(format!("{}: {error}", path.display()))),
    }
}

/// Under another name first: half a secret, as a power cut may leave it, would stop every later start.
fn write_whole(data: &Path, path: &Path, hex: &str) -> std::io::Result<()> {
    let unfinished = data.join(UNFINISHED);
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{hex}")?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    std::fs::File::open(data)?.sync_all()
}

fn parse(hex: &str) -> Option<[u8; 32]> {
    let bytes = hex.as_bytes();
    if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_is_the_owners_alone() {
        let data = tempfile::tempdir().unwrap();
        let key = token_key(data.path()).unwrap();
        assert_eq!(token_key(data.path()).unwrap(), key);
        let mode = std::fs::metadata(data.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(data.path().join(FILE), "short").unwrap();
        assert!(token_key(data.path()).unwrap_err().to_string().contains("64 hex digits"));
    }
}
