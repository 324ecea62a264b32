//! A database of the test's own.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::str::FromStr;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tempfile::TempDir;

use super::Proxy;

/// Which database a target's stories are told on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    Sqlite,
    /// A database on the server at `TIDEGATE_TEST_POSTGRES_URL`.
    Postgres,
}

enum Place {
    File { home: TempDir, path: PathBuf },
    Server { url: url::Url, name: String },
}

/// A database of the test's own, empty at first. Dropped, it is gone.
pub struct Database(Place);

/// Nobody else may write while this lives: a transaction that holds SQLite's write lock, or every table.
pub enum Block {
    /// SQLite.
    File { _connection: SqliteConnection },
    /// PostgreSQL.
    Server { _connection: PgConnection },
}

impl Database {
    /// One of the target's kind.
    pub async fn fresh() -> Self {
        Self::of(crate::DATABASE)
    }

    /// One of this kind.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => {
                let home = TempDir::new().unwrap();
                let path = home.path().join("tidegate.db");
                Self(Place::File { home, path })
            }
            Kind::Postgres => {
                let Ok(server) = std::env::var("TIDEGATE_TEST_POSTGRES_URL") else {
                    panic!("TIDEGATE_TEST_POSTGRES_URL is not set: run scripts/test, which starts a server");
                };
                Self::on(&server)
            }
        }
    }

    /// One on the PostgreSQL server at this URL.
    pub fn on(server: &str) -> Self {
        let mut url = url::Url::parse(server).expect("a PostgreSQL server's URL");
        let name = format!("story_{:016x}", fastrand::u64(..));
        psql(&url, &format!("create database {name}"));
        url.set_path(&name);
        Self(Place::Server { url, name })
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Place::File { .. } => Kind::Sqlite,
            Place::Server { .. } => Kind::Postgres,
        }
    }

    /// What goes into `database.url`.
    pub fn url(&self) -> String {
        match &self.0 {
            Place::File { path, .. } => format!("sqlite://{}", path.display()),
            Place::Server { url, .. } => url.to_string(),
        }
    }

    /// Where its server listens; PostgreSQL only.
    pub fn server(&self) -> std::net::SocketAddr {
        let Place::Server { url, .. } = &self.0 else { panic!("SQLite has no server") };
        let host = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        host.parse().expect("TIDEGATE_TEST_POSTGRES_URL names an IP address")
    }

    /// The same database by way of a proxy; PostgreSQL only.
    pub fn through(&self, proxy: &Proxy) -> String {
        let Place::Server { url, .. } = &self.0 else { panic!("SQLite has no server") };
        let mut url = url.clone();
        url.set_ip_host(proxy.address().ip()).unwrap();
        url.set_port(Some(proxy.address().port())).unwrap();
        url.to_string()
    }

    /// The first column of a query, which must be text (`cast(count(*) as text)`), past the gateway.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        match &self.0 {
            Place::File { .. } => {
                let mut connection = self.file().await;
                sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap()
            }
            Place::Server { url, .. } => psql(url, sql).lines().map(str::to_owned).collect(),
        }
    }

    /// The same for whole numbers (`select count(*) from turns`).
    pub async fn numbers(&self, sql: &str) -> Vec<i64> {
        match &self.0 {
            Place::File { .. } => {
                let mut connection = self.file().await;
                sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap()
            }
            Place::Server { url, .. } => psql(url, sql).lines().map(|line| line.parse().unwrap()).collect(),
        }
    }

    /// Runs statements past the gateway.
    pub async fn run(&self, sql: &str) {
        match &self.0 {
            Place::File { .. } => {
                self.file().await.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
            }
            Place::Server { url, .. } => {
                psql(url, sql);
            }
        }
    }

    /// Whether the database refuses a statement.
    pub async fn refuses(&self, sql: &str) -> bool {
        match &self.0 {
            Place::File { .. } => self.file().await.execute(AssertSqlSafe(sql.to_owned())).await.is_err(),
            Place::Server { url, .. } => !ask_psql(url, sql).status.success(),
        }
    }

    /// Lets nobody write until the guard is dropped; everybody may read.
    pub async fn block(&self) -> Block {
        self.block_tables("conversations, turns, messages, journal, idempotency_keys, replicas").await
    }

    /// Lets nobody write to these tables (on SQLite to any) until the guard is dropped.
    pub async fn block_tables(&self, tables: &str) -> Block {
        match &self.0 {
            Place::File { .. } => {
                let mut connection = self.file().await;
                connection.execute("begin immediate").await.unwrap();
                Block::File { _connection: connection }
            }
            Place::Server { url, .. } => {
                let mut connection = PgConnectOptions::from_str(url.as_str()).unwrap().connect().await.unwrap();
                let lock = format!("begin; lock table {tables} in exclusive mode");
                while let Err(error) = connection.execute(AssertSqlSafe(lock.clone())).await {
                    let code = error.as_database_error().and_then(|error| error.code());
                    // The gateway takes some of them in another order.
                    assert_eq!(code.as_deref(), Some("40P01"), "{error}");
                    connection.execute("rollback").await.unwrap();
                }
                Block::Server { _connection: connection }
            }
        }
    }

    /// Keeps the rows that a query locks (on SQLite everything) until the guard is dropped.
    pub async fn hold(&self, query: &str) -> Block {
        match &self.0 {
            Place::File { .. } => self.block().await,
            Place::Server { url, .. } => {
                let mut connection = PgConnectOptions::from_str(url.as_str()).unwrap().connect().await.unwrap();
                connection.execute(AssertSqlSafe(format!("begin; {query}"))).await.unwrap();
                Block::Server { _connection: connection }
            }
        }
    }

    /// Applies migrations.
    pub(super) async fn migrate(&self, migrator: &Migrator) {
        match &self.0 {
            Place::File { .. } => {
                let options = SqliteConnectOptions::from_str(&self.url()).unwrap().create_if_missing(true);
                let mut connection = options.connect().await.unwrap();
                migrator.run(&mut connection).await.unwrap();
            }
            Place::Server { url, .. } => {
                let mut connection = PgConnectOptions::from_str(url.as_str()).unwrap().connect().await.unwrap();
                migrator.run(&mut connection).await.unwrap();
            }
        }
    }

    async fn file(&self) -> SqliteConnection {
        let Place::File { .. } = &self.0 else { panic!("not a file: {}", self.url()) };
        SqliteConnectOptions::from_str(&self.url()).unwrap().connect().await.unwrap()
    }

    /// The folder of the file; SQLite only.
    pub fn folder(&self) -> &std::path::Path {
        let Place::File { home, .. } = &self.0 else { panic!("PostgreSQL has no file of ours") };
        home.path()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Place::Server { url, name } = &self.0 else { return };
        let mut server = url.clone();
        server.set_path("postgres");
        let drop = format!("drop database {name} with (force)");
        let dropped = Command::new("psql").args(["-X", "-q", "-c", &drop, server.as_str()]).status();
        if !dropped.is_ok_and(|status| status.success()) {
            eprintln!("the database {name} could not be dropped");
        }
    }
}

fn psql(url: &url::Url, sql: &str) -> String {
    let output = ask_psql(url, sql);
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ask_psql(url: &url::Url, sql: &str) -> Output {
    let arguments = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, url.as_str()];
    Command::new("psql").args(arguments).output().expect("psql is installed")
}
