//! Leases: which replica has which turns, and how replicas speak to each other about them.
//!
//! A replica lives as long as its `beat` rises. One that stands still is fenced: it can journal nothing more, and
//! once its turns have changed hands it can end none of them.

use sqlx::AssertSqlSafe;

use super::audit::{OK, insert_deed};
use super::pool::{Done, read, write};
use super::transaction::Transaction;
use super::{Error, Result, Store};
use crate::domain::audit::Deed;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ReplicaId, TurnId};
use crate::domain::json;
use crate::domain::owner::Owner;
use crate::domain::turn::StoppedBy;

/// Who takes turns of dead replicas holds this lock of PostgreSQL.
const ADOPTING: i64 = 0x7469_6461;

/// The open turns of those that are fenced or gone; `$1` is who asks.
const LEFT: &str = "finished_at is null and replica_id <> $1 and not exists (select 1 from replicas r \
    where r.id = turns.replica_id and r.fenced_at is null)";

/// Another replica, as the database last saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: ReplicaId,
    /// Rises while it lives.
    pub beat: u64,
}

/// What [`Store::touch`] came to. What it was to tell of besides has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// These were told of.
    pub told: Vec<TurnId>,
    /// These are open, and somebody else had their rows.
    pub untold: Vec<TurnId>,
}

/// What another replica wants of one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The turn.
    pub turn_id: TurnId,
    /// It is to be stopped.
    pub stop: Option<StoppedBy>,
    /// Changes while somebody reads it elsewhere.
    pub read_at: Option<i64>,
    /// It is queued, and its time has come.
    pub due: bool,
}

impl Store {
    /// Enters a replica that has just started.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn enter(&self, replica: &ReplicaId, now: Timestamp) -> Result<()> {
        write!(self, conn => {
            conn.query("insert into replicas (id, beat, started_at) values ($1, 1, $2) on conflict (id) do nothing")
                .bind(replica.as_str())
                .bind(now.as_micros())
                .later()
                .await?;
            Ok(Done::Commit(()))
        })
    }

    /// Removes a replica that has no turns left.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn leave(&self, replica: &ReplicaId) -> Result<()> {
        write!(self, conn => {
            conn.query(
                "delete from replicas where id = $1 and not exists \
                 (select 1 from turns where turns.replica_id = $1 and turns.finished_at is null)",
            )
            .bind(replica.as_str())
            .later()
            .await?;
            Ok(Done::Commit(()))
        })
    }

    /// Every other replica that is not fenced.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn peers(&self, me: &ReplicaId) -> Result<Vec<Peer>> {
        read!(self, first, conn => {
            let rows: Vec<(String, i64)> =
                sqlx::query_as("select id, beat from replicas where id <> $1 and fenced_at is null")
                    .bind(me.as_str())
                    .fetch_all(conn)
                    .await?;
            Ok(rows.into_iter().map(|(id, beat)| Peer { id: id.into(), beat: beat.unsigned_abs() }).collect())
        })
    }

    /// Fences a peer that has not moved since it was seen: nothing more of it is journalled. Says whether it was so.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn fence(&self, peer: &Peer, now: Timestamp) -> Result<bool> {
        write!(self, first, conn => {
            let fenced = conn.query(
                "update replicas set fenced_at = $1 where id = $2 and beat = $3 and fenced_at is null",
            )
            .bind(now.as_micros())
            .bind(peer.id.as_str())
            .bind(peer.beat.cast_signed())
            .changes()
            .await?;
            Ok(Done::Commit(fenced > 0))
        })
    }

    /// Takes every open turn whose replica is fenced or gone, those included that it admitted before it knew.
    /// Says how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn adopt(&self, me: &ReplicaId) -> Result<u64> {
        if self.is_shared() {
            // Nearly always there is nothing to take: no lock for that.
            let any: Option<i32> = read!(self, first, conn => {
                let left = AssertSqlSafe(format!("select 1 from turns where {LEFT} limit 1"));
                Ok(sqlx::query_scalar(left).bind(me.as_str()).fetch_optional(conn).await?)
            })?;
            if any.is_none() {
                return Ok(0);
            }
        }
        write!(self, first, conn => {
            if self.is_shared() {
                // One after the other: whoever waits for a row that another has just taken does not look again whether its replica is
                // alive (postgresql.org/docs/current/transaction-iso.html, section 13.2.1: what is looked at again is the row alone).
                conn.query("select pg_advisory_xact_lock($1)").bind(ADOPTING).later().await?;
            }
            // Whoever reads one of them elsewhere is written down anew.
            let take = format!("update turns set replica_id = $1, epoch = epoch + 1, read_at = null where {LEFT}");
            let take = AssertSqlSafe(take);
            let adopted = conn.query(take).bind(me.as_str()).changes().await?;
            Ok(Done::Commit(adopted))
        })
    }

    /// Forgets up to `limit` replicas that were fenced before `before` and have no turns left.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_replicas(&self, before: Timestamp, limit: u32) -> Result<u64> {
        write!(self, conn => {
            let forgotten = conn.query(
                "delete from replicas where id in (select r.id from replicas r where r.fenced_at <= $1 \
                 and not exists (select 1 from turns where turns.replica_id = r.id \
                 and turns.finished_at is null) limit $2)",
            )
            .bind(before.as_micros())
            .bind(i64::from(limit))
            .changes()
            .await?;
            Ok(Done::Commit(forgotten))
        })
    }

    /// What other replicas want of this one's turns.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn requests(&self, me: &ReplicaId) -> Result<Vec<Request>> {
        read!(self, first, conn => {
            let rows: Vec<(String, Option<String>, Option<i64>, i64)> = sqlx::query_as(
                "select t.id, t.stop_by, t.read_at, \
                 case when t.status = 'queued' and c.live_turn_id = t.id then cast(1 as bigint) \
                 else cast(0 as bigint) end \
                 from turns t join conversations c on c.id = t.conversation_id \
                 where t.replica_id = $1 and t.finished_at is null and (t.stop_by is not null \
                 or t.read_at is not null or (t.status = 'queued' and c.live_turn_id = t.id))",
            )
            .bind(me.as_str())
            .fetch_all(conn)
            .await?;
            let mut requests = Vec::with_capacity(rows.len());
            for (id, stop, read_at, due) in rows {
                let stop = match stop {
                    Some(name) => Some(StoppedBy::parse(&name).ok_or(Error::Corrupt("turns.stop_by"))?),
                    None => None,
                };
                requests.push(Request { turn_id: id.into(), stop, read_at, due: due == 1 });
            }
            Ok(requests)
        })
    }

    /// Asks the replica that has an open turn to stop it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn request_stop(&self, owner: &Owner, turn: &TurnId, by: StoppedBy, deed: Option<&Deed>) -> Result<()> {
        write!(self, conn => {
            let asked = conn
                .query(
                    "update turns set stop_by = $1 where id = $2 and application_id = $3 and owner_id = $4 \
                     and finished_at is null and stop_by is null",
                )
                .bind(by.as_str())
                .bind(turn.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .changes()
                .await?;
            if let Some(deed) = deed.filter(|_| asked > 0) {
                insert_deed!(conn, deed, OK).later().await?;
            }
            Ok(Done::Commit(()))
        })
    }

    /// Tells the replicas that have these turns that somebody reads them here who may. A row that somebody else has at this moment is not
    /// waited for.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn touch(&self, turns: &[TurnId], now: Timestamp) -> Result<Touched> {
        let ids: Vec<&str> = turns.iter().map(TurnId::as_str).collect();
        let ids = json::to_string(&ids);
        let listed = if self.is_shared() { "json_array_elements_text(cast($1 as json))" } else { "json_each($1)" };
        let open = format!("select id from turns where id in (select value from {listed}) and finished_at is null");
        let free = self.unless_locked();
        write!(self, first, conn => {
            let touch = format!("update turns set read_at = $2 where id in ({open} {free}) returning id");
            let touch = conn.query(AssertSqlSafe(touch)).bind(ids.as_str()).bind(now.as_micros());
            let told: Vec<(String,)> = touch.rows().await?;
            let told: Vec<TurnId> = told.into_iter().map(|(id,)| id.into()).collect();
            let mut untold = Vec::new();
            if told.len() < turns.len() {
                let open: Vec<(String,)> = conn.query(AssertSqlSafe(open.clone())).bind(ids.as_str()).rows().await?;
                untold = open.into_iter().map(|(id,)| id.into()).filter(|id| !told.contains(id)).collect();
            }
            Ok(Done::Commit(Touched { told, untold }))
        })
    }
}
