//! A transaction that may write, on either database: statements are said one by one, and the SQL of each stands once.
//!
//! What needs no answer may wait. PostgreSQL runs it at once all the same; SQLite's writer sends it with what comes
//! next, since there it is the message to its thread that costs.

use futures::TryStreamExt;
use futures::stream::BoxStream;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, Postgres};
use sqlx::{Arguments, Database, Either, Encode, Executor, FromRow, SqlSafeStr, SqlStr, Type};

use super::{Error, Result};

/// A transaction: committed or rolled back by its owner, and rolled back when it is dropped.
pub(super) trait Transaction: Sized {
    /// Of which database.
    type Database: Database;

    /// Begins a statement.
    fn say(&mut self, sql: SqlStr);
    /// The arguments of the statement that was begun last.
    fn arguments(&mut self) -> &mut <Self::Database as Database>::Arguments;
    /// Lets it wait for the next.
    fn later(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// The same; unless it changes something, the transaction fails with [`Error::Unchanged`].
    fn must_change(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// Runs it, and gives the rows it gives and the number of those it changed.
    fn run(&mut self) -> impl Future<Output = Result<(Vec<RowOf<Self>>, u64)>> + Send;
    /// The same for the last one; SQLite's writer commits with it.
    fn run_last(&mut self) -> impl Future<Output = Result<Vec<RowOf<Self>>>> + Send;

    /// A statement, whose values are to be bound.
    fn query(&mut self, sql: impl SqlSafeStr) -> Statement<'_, Self> {
        self.say(sql.into_sql_str());
        Statement { transaction: self, bound: Ok(()) }
    }
}

pub(super) type RowOf<T> = <<T as Transaction>::Database as Database>::Row;

/// A statement that is being said.
#[must_use = "it is run by its last word"]
pub(super) struct Statement<'t, T: Transaction> {
    transaction: &'t mut T,
    bound: std::result::Result<(), BoxDynError>,
}

impl<'t, T: Transaction> Statement<'t, T> {
    /// Its next value.
    pub(super) fn bind<'v, V: Encode<'v, T::Database> + Type<T::Database>>(mut self, value: V) -> Self {
        if self.bound.is_ok() {
            self.bound = self.transaction.arguments().add(value);
        }
        self
    }

    fn bound(self) -> Result<&'t mut T> {
        match self.bound {
            Ok(()) => Ok(self.transaction),
            Err(error) => Err(sqlx::Error::Encode(error).into()),
        }
    }

    /// It may run with the next, or with the commit. It must give no rows: those of all that travels together are taken
    /// for the last one's.
    pub(super) async fn later(self) -> Result<()> {
        self.bound()?.later().await
    }

    /// The same; unless it changes a row, nothing of the transaction stands and it fails with [`Error::Unchanged`], at
    /// the commit at the latest.
    pub(super) async fn must_change(self) -> Result<()> {
        self.bound()?.must_change().await
    }

    /// How many rows it changes.
    pub(super) async fn changes(self) -> Result<u64> {
        let (_, changes) = self.bound()?.run().await?;
        Ok(changes)
    }

    /// The rows it gives.
    pub(super) async fn rows<R: for<'r> FromRow<'r, RowOf<T>>>(self) -> Result<Vec<R>> {
        let (rows, _) = self.bound()?.run().await?;
        Ok(rows.iter().map(R::from_row).collect::<sqlx::Result<_>>()?)
    }

    /// The row it gives, if there is one.
    pub(super) async fn row<R: for<'r> FromRow<'r, RowOf<T>>>(self) -> Result<Option<R>> {
        let (rows, _) = self.bound()?.run().await?;
        Ok(rows.first().map(R::from_row).transpose()?)
    }

    /// The row that it always gives.
    pub(super) async fn one<R: for<'r> FromRow<'r, RowOf<T>>>(self) -> Result<R> {
        Ok(self.row().await?.ok_or(sqlx::Error::RowNotFound)?)
    }

    /// The row that a transaction's last statement gives, if there is one; after it there is only the commit.
    pub(super) async fn last_row<R: for<'r> FromRow<'r, RowOf<T>>>(self) -> Result<Option<R>> {
        let rows = self.bound()?.run_last().await?;
        Ok(rows.first().map(R::from_row).transpose()?)
    }
}

/// A transaction of PostgreSQL.
pub(super) struct PostgresTransaction {
    transaction: sqlx::Transaction<'static, Postgres>,
    sql: SqlStr,
    arguments: PgArguments,
}

impl PostgresTransaction {
    pub(super) fn new(transaction: sqlx::Transaction<'static, Postgres>) -> Self {
        Self { transaction, sql: SqlStr::from_static(""), arguments: PgArguments::default() }
    }

    pub(super) async fn commit(self) -> sqlx::Result<()> {
        self.transaction.commit().await
    }

    pub(super) async fn rollback(self) -> sqlx::Result<()> {
        self.transaction.rollback().await
    }
}

impl Transaction for PostgresTransaction {
    type Database = Postgres;

    fn say(&mut self, sql: SqlStr) {
        self.sql = sql;
    }

    fn arguments(&mut self) -> &mut PgArguments {
        &mut self.arguments
    }

    async fn later(&mut self) -> Result<()> {
        self.run().await?;
        Ok(())
    }

    async fn must_change(&mut self) -> Result<()> {
        let (_, changes) = self.run().await?;
        if changes == 0 { Err(Error::Unchanged) } else { Ok(()) }
    }

    async fn run(&mut self) -> Result<(Vec<PgRow>, u64)> {
        let sql = std::mem::replace(&mut self.sql, SqlStr::from_static(""));
        let query = sqlx::query_with(sql, std::mem::take(&mut self.arguments));
        Ok(answer(self.transaction.fetch_many(query), PgQueryResult::rows_affected).await?)
    }

    async fn run_last(&mut self) -> Result<Vec<PgRow>> {
        let (rows, _) = self.run().await?;
        Ok(rows)
    }
}

/// What a database answers, to its end: the rows, and what `changes` says of the last statement.
pub(super) async fn answer<Q, R>(
    mut parts: BoxStream<'_, sqlx::Result<Either<Q, R>>>,
    changes: fn(&Q) -> u64,
) -> sqlx::Result<(Vec<R>, u64)> {
    let (mut rows, mut changed) = (Vec::new(), 0);
    while let Some(part) = parts.try_next().await? {
        match part {
            Either::Left(done) => changed = changes(&done),
            Either::Right(row) => rows.push(row),
        }
    }
    Ok((rows, changed))
}

/// What a transaction comes to if a row that had to change did not.
pub(super) trait OrUnchanged<T> {
    /// `otherwise`, in that case.
    fn or_unchanged(self, otherwise: T) -> Self;
}

impl<T> OrUnchanged<T> for Result<T> {
    fn or_unchanged(self, otherwise: T) -> Self {
        match self {
            Err(Error::Unchanged) => Ok(otherwise),
            done => done,
        }
    }
}
