//! The database, and how much room each part of it takes.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tempfile::TempDir;

use crate::{Failed, Size};

/// What the tables are for. What is in none of them is the database's own.
const GROUPS: [(&str, &[&str]); 6] = [
    ("conversations, turns and messages", &["conversations", "turns", "messages", "summaries"]),
    ("journal, for exact replay", &["journal", "tail"]),
    (
        "index of words",
        &["indexed", "words", "words_data", "words_idx", "words_docsize", "words_content", "words_config"],
    ),
    ("usage", &["usage_records", "usage_totals"]),
    ("idempotency keys", &["idempotency_keys"]),
    ("audit log and people", &["audit", "people", "tickets"]),
];

/// A database of the bench's own.
pub struct Database {
    url: String,
    /// The server it is on, if it is on one.
    server: Option<String>,
}

impl Database {
    /// A file.
    pub fn file(home: &TempDir) -> Self {
        Self { url: format!("sqlite://{}", home.path().join("sizes.db").display()), server: None }
    }

    /// One on a server, by the URL of another there.
    pub async fn on(server: &str) -> Result<Self, Failed> {
        let name = format!("sizes_{}", std::process::id());
        let mut connection = PgConnectOptions::from_str(server)?.connect().await?;
        connection.execute(AssertSqlSafe(format!("create database {name}"))).await?;
        let url = server.rsplit_once('/').map_or(server.to_owned(), |(server, _)| format!("{server}/{name}"));
        Ok(Self { url, server: Some(server.to_owned()) })
    }

    /// What goes into `database.url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Drops it, if it is on a server.
    pub async fn drop(self) -> Result<(), Failed> {
        if let (Some(server), Some((_, name))) = (&self.server, self.url.rsplit_once('/')) {
            let mut connection = PgConnectOptions::from_str(server)?.connect().await?;
            connection.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await?;
        }
        Ok(())
    }

    /// Rows and bytes by what they are for.
    pub async fn sizes(&self) -> Result<BTreeMap<&'static str, Size>, Failed> {
        let mut sizes = BTreeMap::new();
        for (group, tables) in GROUPS {
            let size: &mut Size = sizes.entry(group).or_default();
            for table in tables {
                size.bytes += self.bytes(table).await?;
                // What SQLite's index is made of has rows of its own, which nobody means by rows.
                if !table.starts_with("words") {
                    size.rows += self.number(&format!("select count(*) from {table}")).await?;
                }
            }
        }
        Ok(sizes)
    }

    /// The bytes of a table with its indexes.
    async fn bytes(&self, table: &str) -> Result<i64, Failed> {
        let sql = match self.server {
            None => format!(
                "select cast(coalesce(sum(pgsize), 0) as bigint) from dbstat where aggregate = 1 and \
                 (name = '{table}' or name in (select name from sqlite_master where type = 'index' and tbl_name = '{table}'))"
            ),
            Some(_) => format!("select coalesce(pg_total_relation_size(to_regclass('{table}')), 0)::bigint"),
        };
        self.number(&sql).await
    }

    /// Waits until a table has no rows, and gives their room back where that takes a word.
    pub async fn emptied(&self, table: &str) -> Result<(), Failed> {
        self.until(&format!("select count(*) from {table}"), 0).await?;
        if self.server.is_some() {
            self.postgres().await?.execute("vacuum full").await?;
        }
        Ok(())
    }

    /// Waits until a query gives this number.
    pub async fn until(&self, sql: &str, number: i64) -> Result<(), Failed> {
        let begin = Instant::now();
        while self.number(sql).await? != number {
            if begin.elapsed() > Duration::from_secs(120) {
                return Err(format!("waited two minutes for {number} from {sql}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn number(&self, sql: &str) -> Result<i64, Failed> {
        let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        match self.server {
            None => Ok(query.fetch_one(&mut self.sqlite().await?).await?),
            Some(_) => {
                let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
                Ok(query.fetch_one(&mut self.postgres().await?).await?)
            }
        }
    }

    async fn sqlite(&self) -> Result<SqliteConnection, Failed> {
        let options = SqliteConnectOptions::from_str(&self.url)?.busy_timeout(Duration::from_secs(60));
        Ok(options.connect().await?)
    }

    async fn postgres(&self) -> Result<PgConnection, Failed> {
        Ok(PgConnectOptions::from_str(&self.url)?.connect().await?)
    }
}
