//! Both databases are brought to the same tables.

use std::time::Duration;

use tidegate::domain::stream::Durability;
use tidegate::meter::Meter;
use tidegate::store::Store;

use crate::support::{Database, Kind};

/// Every column there is: table, name, whether it may be null, and its type by SQLite's name.
async fn columns(kind: Kind) -> Vec<String> {
    let database = Database::of(kind);
    Store::beside(&database.url(), Duration::from_secs(10)).await.unwrap().close().await;
    // A second time changes nothing, and a server finds nothing left to do.
    Store::beside(&database.url(), Duration::from_secs(10)).await.unwrap().close().await;
    Store::open(&database.url(), Durability::Strict, Duration::from_secs(10), Meter::default())
        .await
        .unwrap()
        .close()
        .await;
    let sql = match kind {
        Kind::Sqlite => {
            "select t.name || '.' || c.name || ' ' || c.\"notnull\" || ' ' || \
             case lower(c.type) when 'integer' then 'bigint' else lower(c.type) end \
             from sqlite_master t join pragma_table_info(t.name) c where t.type = 'table' order by 1"
        }
        Kind::Postgres => {
            "select table_name || '.' || column_name || ' ' || case is_nullable when 'NO' then 1 else 0 end || ' ' || \
             case data_type when 'bytea' then 'blob' else data_type end \
             from information_schema.columns where table_schema = 'public' order by 1"
        }
    };
    let mut columns = database.texts(sql).await;
    // What each keeps for itself, and what its index of words is made of.
    let own = ["_sqlx", "sqlite_", "words", "vocabulary", "indexed.lexemes"];
    columns.retain(|column| !own.iter().any(|own| column.starts_with(own)));
    columns.sort();
    columns
}

#[tokio::test]
async fn both_databases_have_the_same_tables_and_columns() {
    let (one, other) = (columns(Kind::Sqlite).await, columns(Kind::Postgres).await);
    assert_eq!(one, other);
    assert!(one.iter().any(|column| column == "journal.lines 1 blob"), "{one:?}");
}
