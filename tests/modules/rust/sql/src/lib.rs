//! People in a SQLite database in stable memory, by the crate ic-sqlite-vfs.

use ic_sqlite_vfs::db::migrate::Migration;
use ic_sqlite_vfs::{params, Db, DefaultMemoryImpl, MemoryId, MemoryManager};
use std::cell::RefCell;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: "CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER NOT NULL);
          CREATE INDEX person_age ON person (age);",
}];

thread_local! {
    static MANAGER: RefCell<MemoryManager<DefaultMemoryImpl>> = RefCell::new(
        MemoryManager::init_strict(DefaultMemoryImpl::default()).expect("foreign stable memory"));
}

fn open() {
    MANAGER.with_borrow(|it| Db::init(it.get(MemoryId::new(120))).expect("the database opens"));
    Db::migrate(MIGRATIONS).expect("the schema is there");
}

#[ic_cdk::init]
fn init() {
    open();
}

#[ic_cdk::post_upgrade]
fn post_upgrade() {
    open();
}

#[ic_cdk::update]
fn add(name: String, age: u64) -> Result<(), String> {
    Db::update(|it| {
        it.execute("INSERT INTO person (name, age) VALUES (?1, ?2)", params![name, age as i64])
    })
    .map_err(|error| format!("{error:?}"))
}

/// Adds `count` people, in one transaction.
#[ic_cdk::update]
fn fill(count: u64) -> Result<(), String> {
    Db::update(|it| {
        for number in 0..count {
            let name = format!("person {number}");
            let age = (number * 37 % 100) as i64;
            it.execute("INSERT INTO person (name, age) VALUES (?1, ?2)", params![name, age])?;
        }
        Ok(())
    })
    .map_err(|error| format!("{error:?}"))
}

#[ic_cdk::query]
fn count() -> Result<u64, String> {
    Db::query(|it| it.query_row("SELECT count(*) FROM person", params![], |row| row.get::<i64>(0)))
        .map(|found| found as u64)
        .map_err(|error| format!("{error:?}"))
}

#[ic_cdk::query]
fn of_age(age: u64) -> Result<Vec<String>, String> {
    Db::query(|it| {
        it.query_all(
            "SELECT name FROM person WHERE age = ?1 ORDER BY id",
            params![age as i64],
            |row| row.get::<String>(0),
        )
    })
    .map_err(|error| format!("{error:?}"))
}

/// Whatever SQL: the first column of its rows as text.
#[ic_cdk::query]
fn select(sql: String) -> Result<Vec<String>, String> {
    Db::query(|it| it.query_all(&sql, params![], |row| row.get::<String>(0)))
        .map_err(|error| format!("{error:?}"))
}

ic_cdk::export_candid!();
