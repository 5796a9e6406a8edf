//! Tenants. Few, seldom changed, and changed from another process as well: the command line works
//! beside a running server, which notices by the revision.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use posthouse_core::app::App;
use posthouse_core::error::{Error, Result};
use posthouse_core::id::AppId;
use posthouse_core::port::store::Apps;
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::open::{OpenError, Role, check_library, make_dir};
use super::rows::{Work, uint, unreadable};
use super::shards::FileKey;
use super::writer::{Outcome, Tx};
use super::{SqliteStore, open_main};

#[async_trait]
impl Apps for SqliteStore {
    async fn apps_since(&self, revision: u64) -> Result<Option<(u64, Vec<App>)>> {
        let found = self
            .read(move |reader| {
                let Some(main) = reader.snapshot(FileKey::Main)? else { return Ok(None) };
                let Some(apps) = apps_since(&main, revision)? else { return Ok(None) };
                Ok(Some((apps, short_keys(&main)?)))
            })
            .await?;
        Ok(found.map(|(apps, keys)| {
            // Whoever knows an app has its key: a crowd at the first moment need not ask for it one by one.
            self.app_keys.write().unwrap_or_else(PoisonError::into_inner).extend(keys);
            apps
        }))
    }

    async fn add_app(&self, app: App, unique_keys: &'static [&'static str]) -> Result<bool> {
        let id = app.id.clone();
        let added = self.write_apps(move |tx| add(tx.db, &app, unique_keys)).await?;
        self.app_key(&id).await?;
        Ok(added)
    }

    async fn replace_app(&self, app: App, unique_keys: &'static [&'static str]) -> Result<bool> {
        self.write_apps(move |tx| replace(tx.db, &app, unique_keys)).await
    }
}

impl SqliteStore {
    async fn write_apps<F>(&self, work: F) -> Result<bool>
    where
        F: FnOnce(&mut Tx<'_>) -> Work<bool> + Send + 'static,
    {
        self.write_main(move |tx| work(tx).map(Outcome::Unchanged)).await
    }
}

/// The apps of a data directory, for a process beside the server: it takes no lock, never
/// checkpoints, and knows nothing of conversations. Blocks the calling thread for milliseconds.
#[derive(Debug)]
pub struct SqliteApps {
    db: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the apps of the data directory `dir`, making an empty one where there is none.
    pub fn open_for_apps(dir: &Path) -> std::result::Result<SqliteApps, OpenError> {
        check_library()?;
        make_dir(dir)?;
        Ok(SqliteApps { db: Mutex::new(open_main(dir, Role::Visitor)?) })
    }
}

impl SqliteApps {
    fn write(&self, work: impl FnOnce(&Connection) -> Work<bool>) -> Result<bool> {
        let failed = |error: rusqlite::Error| Error::from(super::rows::Failure::from(error));
        let mut db = self.db();
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let done = work(&tx)?;
        tx.commit().map_err(failed)?;
        Ok(done)
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic drops its transaction, which rolls back.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Apps for SqliteApps {
    async fn apps_since(&self, revision: u64) -> Result<Option<(u64, Vec<App>)>> {
        Ok(apps_since(&self.db(), revision)?)
    }

    async fn add_app(&self, app: App, unique_keys: &'static [&'static str]) -> Result<bool> {
        self.write(|db| add(db, &app, unique_keys))
    }

    async fn replace_app(&self, app: App, unique_keys: &'static [&'static str]) -> Result<bool> {
        self.write(|db| replace(db, &app, unique_keys))
    }
}

/// One row read when nothing has changed.
fn apps_since(db: &Connection, revision: u64) -> Work<Option<(u64, Vec<App>)>> {
    let number: i64 = db.prepare_cached("SELECT number FROM revision")?.query_row([], |row| row.get(0))?;
    if uint(number) == revision {
        return Ok(None);
    }
    Ok(Some((uint(number), all(db)?)))
}

fn all(db: &Connection) -> Work<Vec<App>> {
    let mut statement =
        db.prepare_cached("SELECT id, name, keys, settings, created_at FROM app ORDER BY key")?;
    let apps = statement.query_map([], |row| {
        let wrong = |column: usize| move |error: serde_json::Error| unreadable(column, error.to_string());
        Ok(App {
            id: AppId::parse(row.get_ref(0)?.as_str()?).map_err(|error| unreadable(0, error.to_string()))?,
            name: row.get(1)?,
            keys: serde_json::from_str(row.get_ref(2)?.as_str()?).map_err(wrong(2))?,
            settings: serde_json::from_str(row.get_ref(3)?.as_str()?).map_err(wrong(3))?,
            created_at: Timestamp(row.get(4)?),
        })
    })?;
    Ok(apps.collect::<rusqlite::Result<_>>()?)
}

fn short_keys(db: &Connection) -> Work<Vec<(AppId, i64)>> {
    let mut statement = db.prepare_cached("SELECT id, key FROM app")?;
    let keys = statement.query_map([], |row| {
        let id = AppId::parse(row.get_ref(0)?.as_str()?).map_err(|error| unreadable(0, error.to_string()))?;
        Ok((id, row.get(1)?))
    })?;
    Ok(keys.collect::<rusqlite::Result<_>>()?)
}

fn add(db: &Connection, app: &App, unique_keys: &[&str]) -> Work<bool> {
    let taken = all(db)?
        .iter()
        .any(|other| other.id == app.id || other.name == app.name || share_key(other, app, unique_keys));
    if taken {
        return Ok(false);
    }
    let (keys, settings) = texts(app)?;
    db.prepare_cached("INSERT INTO app (id, name, keys, settings, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((app.id.as_str(), &app.name, keys, settings, app.created_at.0))?;
    bump(db)?;
    Ok(true)
}

fn replace(db: &Connection, app: &App, unique_keys: &[&str]) -> Work<bool> {
    let key: Option<i64> = db
        .prepare_cached("SELECT key FROM app WHERE id = ?1")?
        .query_row([app.id.as_str()], |row| row.get(0))
        .optional()?;
    let Some(key) = key else { return Ok(false) };
    if all(db)?.iter().any(|other| other.id != app.id && share_key(other, app, unique_keys)) {
        return Ok(false);
    }
    let (keys, settings) = texts(app)?;
    db.prepare_cached("UPDATE app SET keys = ?2, settings = ?3 WHERE key = ?1")?
        .execute((key, keys, settings))?;
    bump(db)?;
    Ok(true)
}

fn share_key(a: &App, b: &App, names: &[&str]) -> bool {
    names.iter().any(|name| a.key(name).is_some() && a.key(name) == b.key(name))
}

fn texts(app: &App) -> Work<(String, String)> {
    let wrong = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    Ok((
        serde_json::to_string(&app.keys).map_err(wrong)?,
        serde_json::to_string(&app.settings).map_err(wrong)?,
    ))
}

fn bump(db: &Connection) -> Work<()> {
    db.prepare_cached("UPDATE revision SET number = number + 1")?.execute([])?;
    Ok(())
}
