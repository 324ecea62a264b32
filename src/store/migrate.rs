//! The migrations: the same numbers and names for both databases. A landed one is never edited.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection, Executor};

use super::pool::Pool;

macro_rules! migrations {
    ($($version:literal $name:literal;)*) => {
        const SQLITE: &[(i64, &str, &str)] =
            &[$(($version, $name, include_str!(concat!("../../migrations/sqlite/", $name, ".sql")))),*];
        const POSTGRES: &[(i64, &str, &str)] =
            &[$(($version, $name, include_str!(concat!("../../migrations/postgres/", $name, ".sql")))),*];
    };
}

migrations! {
    1 "0001_spine";
    2 "0002_tail";
    3 "0003_activity";
    4 "0004_lives";
    5 "0005_usage";
    6 "0006_access";
    7 "0007_limits";
    8 "0008_audit";
    9 "0009_widgets";
}

pub(super) async fn apply(pool: &Pool) -> Result<(), sqlx::migrate::MigrateError> {
    match pool {
        Pool::Sqlite { write, .. } => write.migrate(&migrator(SQLITE)).await,
        Pool::Postgres { pool, .. } => {
            // As long as it takes: another replica may be at it.
            let mut connection = pool.acquire().await?.detach();
            connection.execute("set lock_timeout = 0; set statement_timeout = 0").await?;
            migrator(POSTGRES).run(&mut connection).await?;
            Ok(connection.close().await?)
        }
    }
}

fn migrator(all: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = all.iter().map(|&(version, name, sql)| {
        let sql = sqlx::SqlStr::from_static(sql);
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_applied() {
        for (all, folder) in [(SQLITE, "sqlite"), (POSTGRES, "postgres")] {
            let folder = format!("{}/migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
            let entries = std::fs::read_dir(folder).unwrap();
            let mut files: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            files.sort();
            let applied: Vec<String> = all.iter().map(|(_, name, _)| format!("{name}.sql")).collect();
            assert_eq!(applied, files);
        }
    }
}
