//! Where spells are kept: in this process, or in an SQLite file that several instances share.
//!
//! Owns both storages and the first two spells, which are written once in the life of a storage: a deleted spell does not come
//! back. Calls block (a file is read, another instance may hold the lock); the API makes them on threads for that.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};

use super::Spell;

/// Most spells of a storage: what a client sends must not fill the memory.
pub const MAX_SPELLS: u32 = 10_000;

/// How long a call waits for another instance that is writing: far longer than any write takes.
const BUSY: Duration = Duration::from_secs(5);
/// How long the start waits for other instances that open the same file.
const OPENING: Duration = Duration::from_secs(15);
/// The layout of the file, in its `user_version`; 0 is a file without one.
const LAYOUT: i64 = 1;

/// Which storage, as `--database` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// `memory`: gone with the process, and its own.
    Memory,
    /// `sqlite:FILE`: shared with every instance that names the same file.
    Sqlite(PathBuf),
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Database, String> {
        match text.split_once(':') {
            None if text == "memory" => Ok(Database::Memory),
            Some(("sqlite", file)) if !file.is_empty() => Ok(Database::Sqlite(file.into())),
            _ => Err("expected `memory` or `sqlite:FILE`".to_owned()),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Memory => f.write_str("memory"),
            Database::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
        }
    }
}

/// Why a storage did not do what it was asked for.
#[derive(Debug)]
pub enum StoreError {
    /// Another instance held the lock for longer than a call waits; it may work in a moment.
    Busy(String),
    /// The file or what is in it.
    Broken(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (StoreError::Busy(why) | StoreError::Broken(why)) = self;
        f.write_str(why)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::Busy(format!("the database is busy: {error}"))
            }
            _ => StoreError::Broken(format!("the database failed: {error}")),
        }
    }
}

/// What became of a spell that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is stored.
    New,
    /// There is one with its id, which stays as it was.
    Known,
    /// There are [`MAX_SPELLS`].
    Full,
}

/// A storage, used by all requests at once.
pub enum Store {
    /// Of this process alone.
    Memory(Mutex<BTreeMap<u32, Spell>>),
    /// Shared through a file.
    Sqlite(Mutex<Connection>),
}

impl Store {
    /// Opens a storage; a new one has the first two spells.
    ///
    /// # Errors
    /// When the file cannot be opened or created, is no database of spells, or stays locked by others.
    pub fn open(database: &Database) -> Result<Store, StoreError> {
        match database {
            Database::Memory => {
                let spells = Spell::first_two().into_iter().map(|spell| (spell.id, spell));
                Ok(Store::Memory(Mutex::new(spells.collect())))
            }
            Database::Sqlite(file) => Ok(Store::Sqlite(Mutex::new(open_patiently(file)?))),
        }
    }

    /// All spells, by id.
    ///
    /// # Errors
    /// When the database fails or stays locked.
    pub fn list(&self) -> Result<Vec<Spell>, StoreError> {
        match self {
            Store::Memory(spells) => Ok(lock(spells).values().cloned().collect()),
            Store::Sqlite(connection) => {
                let connection = lock(connection);
                let mut query =
                    connection.prepare("SELECT id, name, description FROM spells ORDER BY id")?;
                let spells = query.query_map([], spell_of)?.collect::<Result<_, _>>()?;
                Ok(spells)
            }
        }
    }

    /// One spell, if there is one with this id.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn get(&self, id: u32) -> Result<Option<Spell>, StoreError> {
        match self {
            Store::Memory(spells) => Ok(lock(spells).get(&id).cloned()),
            Store::Sqlite(connection) => Ok(lock(connection)
                .query_row("SELECT id, name, description FROM spells WHERE id = ?1", [id], spell_of)
                .optional()?),
        }
    }

    /// Adds a spell unless its id is known.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn add(&self, spell: &Spell) -> Result<Added, StoreError> {
        match self {
            Store::Memory(spells) => Ok(add_to_map(&mut lock(spells), spell)),
            Store::Sqlite(connection) => Ok(add_to_table(&mut lock(connection), spell)?),
        }
    }

    /// Deletes a spell; false if there was none.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn delete(&self, id: u32) -> Result<bool, StoreError> {
        match self {
            Store::Memory(spells) => Ok(lock(spells).remove(&id).is_some()),
            Store::Sqlite(connection) => {
                Ok(lock(connection).execute("DELETE FROM spells WHERE id = ?1", [id])? > 0)
            }
        }
    }
}

/// A panic under the lock leaves nothing half done here, so the value is still good.
fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add_to_map(spells: &mut BTreeMap<u32, Spell>, spell: &Spell) -> Added {
    if spells.contains_key(&spell.id) {
        Added::Known
    } else if spells.len() >= MAX_SPELLS as usize {
        Added::Full
    } else {
        spells.insert(spell.id, spell.clone());
        Added::New
    }
}

/// One transaction that takes the lock for writing first: what it has read stays true until it writes.
fn add_to_table(connection: &mut Connection, spell: &Spell) -> rusqlite::Result<Added> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let count: u32 = transaction.query_row("SELECT count(*) FROM spells", [], |row| row.get(0))?;
    let known = transaction
        .query_row("SELECT 1 FROM spells WHERE id = ?1", [spell.id], |_| Ok(()))
        .optional()?
        .is_some();
    if known {
        return Ok(Added::Known);
    }
    if count >= MAX_SPELLS {
        return Ok(Added::Full);
    }
    insert(&transaction, spell)?;
    transaction.commit()?;
    Ok(Added::New)
}

fn insert(connection: &Connection, spell: &Spell) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO spells (id, name, description) VALUES (?1, ?2, ?3)",
        params![spell.id, spell.name, spell.description],
    )?;
    Ok(())
}

fn spell_of(row: &Row<'_>) -> rusqlite::Result<Spell> {
    Ok(Spell { id: row.get(0)?, name: row.get(1)?, description: row.get(2)? })
}

/// Opens the file, trying again while other instances do the same: changing the journal's mode takes the whole
/// file for a moment, and SQLite does not wait for that by its busy timeout.
fn open_patiently(file: &Path) -> Result<Connection, StoreError> {
    let deadline = Instant::now() + OPENING;
    loop {
        match open(file).map_err(|error| named(error, file)) {
            Err(StoreError::Busy(_)) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

fn named(error: StoreError, file: &Path) -> StoreError {
    match error {
        StoreError::Busy(why) => StoreError::Busy(format!("{}: {why}", file.display())),
        StoreError::Broken(why) => StoreError::Broken(format!("{}: {why}", file.display())),
    }
}

fn open(file: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(file)?;
    connection.busy_timeout(BUSY)?;
    // With a write-ahead log readers and a writer do not wait for one another.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "normal")?;
    prepare(&mut connection)?;
    Ok(connection)
}

/// Makes the table and the first spells, once: of several instances that start together the first takes the lock,
/// and the others find the layout's number.
fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let layout: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if layout == LAYOUT {
        return Ok(());
    }
    if layout != 0 {
        return Err(StoreError::Broken(format!(
            "its layout is number {layout}, this program knows number {LAYOUT}: take another file"
        )));
    }
    transaction.execute_batch(
        "CREATE TABLE spells (id INTEGER PRIMARY KEY, name TEXT NOT NULL, description TEXT NOT NULL)",
    )?;
    for spell in Spell::first_two() {
        insert(&transaction, &spell)?;
    }
    transaction.pragma_update(None, "user_version", LAYOUT)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spell(id: u32) -> Spell {
        Spell { id, name: format!("Spell {id}"), description: "new".to_owned() }
    }

    fn in_file(folder: &tempfile::TempDir) -> Store {
        Store::open(&Database::Sqlite(folder.path().join("spells.db"))).unwrap()
    }

    fn ids(store: &Store) -> Vec<u32> {
        store.list().unwrap().iter().map(|spell| spell.id).collect()
    }

    #[test]
    fn both_storages_add_find_and_delete_alike() {
        let folder = tempfile::tempdir().unwrap();
        for store in [Store::open(&Database::Memory).unwrap(), in_file(&folder)] {
            assert_eq!(ids(&store), [1, 2]);
            assert_eq!(store.add(&spell(3)).unwrap(), Added::New);
            assert_eq!(store.add(&spell(2)).unwrap(), Added::Known);
            assert_eq!(store.get(2).unwrap().unwrap().name, "Expelliarmus");
            assert_eq!(store.get(3).unwrap(), Some(spell(3)));
            assert!(store.delete(1).unwrap());
            assert!(!store.delete(1).unwrap());
            assert_eq!(store.get(1).unwrap(), None);
            assert_eq!(ids(&store), [2, 3]);
        }
    }

    #[test]
    fn a_deleted_spell_does_not_come_back_when_the_file_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(in_file(&folder).delete(1).unwrap());
        assert_eq!(ids(&in_file(&folder)), [2]);
    }

    #[test]
    fn a_full_storage_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let in_file = in_file(&folder);
        if let Store::Sqlite(connection) = &in_file {
            let fill = format!(
                "WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < {MAX_SPELLS}) \
                 INSERT INTO spells SELECT i, 'x', '' FROM n"
            );
            lock(connection).execute_batch(&fill).unwrap();
        }
        let in_memory = Store::open(&Database::Memory).unwrap();
        let last = MAX_SPELLS;
        for id in 3..=last {
            in_memory.add(&spell(id)).unwrap();
        }
        for store in [in_memory, in_file] {
            assert_eq!(store.add(&spell(last + 1)).unwrap(), Added::Full);
            assert_eq!(store.add(&spell(last)).unwrap(), Added::Known);
        }
    }

    #[test]
    fn refuses_a_file_that_is_no_database_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notes.txt");
        std::fs::write(&file, "not a database, but long enough to look at: ".repeat(50)).unwrap();
        let error = Store::open(&Database::Sqlite(file)).err().unwrap();
        assert!(matches!(error, StoreError::Broken(_)), "{error}");
        assert!(error.to_string().contains("notes.txt"), "{error}");
    }

    #[test]
    fn refuses_a_file_of_a_layout_it_does_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("spells.db");
        Connection::open(&file).unwrap().pragma_update(None, "user_version", 7).unwrap();
        let error = Store::open(&Database::Sqlite(file)).err().unwrap();
        assert!(error.to_string().contains("number 7"), "{error}");
    }

    #[test]
    fn a_database_is_named_memory_or_sqlite_and_a_file() {
        assert_eq!("memory".parse(), Ok(Database::Memory));
        assert_eq!("sqlite:a:b.db".parse(), Ok(Database::Sqlite("a:b.db".into())));
        for wrong in ["", "sqlite", "sqlite:", "postgres:x", "memory:"] {
            assert!(wrong.parse::<Database>().is_err(), "{wrong}");
        }
    }
}
