//! The audit log. A row is written in the transaction of what it tells of; the database lets nobody change it.

use sqlx::Row;

use super::pool::{Done, read, write};
use super::transaction::Transaction;
use super::{Error, Result, Store};
use crate::domain::audit::{Action, ActorKind, Deed};
use crate::domain::clock::Timestamp;
use crate::domain::ids::AuditId;

/// The result of what was done.
pub const OK: &str = "ok";

/// A row as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: AuditId,
    /// When.
    pub at: Timestamp,
    /// What did it.
    pub actor_kind: ActorKind,
    /// A key's id, or a person's own.
    pub actor_id: Option<String>,
    /// The person a key acted for, by how they own rows.
    pub acting_for: Option<String>,
    /// What was done.
    pub action: String,
    /// What to: its kind.
    pub object_kind: Option<String>,
    /// Its id.
    pub object_id: Option<String>,
    /// [`OK`], or the code of the refusal.
    pub result: String,
    /// How often, within about a minute.
    pub times: u64,
    /// The client's address.
    pub address: Option<String>,
    /// The request.
    pub request_id: Option<String>,
}

/// Which rows are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By this actor, or on their behalf.
    pub actor: Option<String>,
    /// This action.
    pub action: Option<Action>,
    /// Done to this object.
    pub object: Option<String>,
    /// Not before this.
    pub from: Option<Timestamp>,
}

/// The statement that writes a row; written again it changes nothing. Where whoever acts is being forgotten it has what stands for
/// them, and nobody where they have been.
macro_rules! insert_deed {
    ($conn:expr, $deed:expr, $result:expr) => {{
        let deed: &$crate::domain::audit::Deed = $deed;
        let (object, acting) = (deed.object.as_ref(), deed.acting.as_ref());
        $conn
            .query(concat!(
                "insert into audit (id, application_id, at, actor_kind, actor_id, acting_for, action, object_kind, \
                 object_id, result, times, address, request_id) select $1, $2, $3, $4, \
                 case when s.stands or $4 = 'key' then $5 when $5 is null then null else s.pseudonym end, \
                 case when s.stands or $6 is null then $6 else s.kind || ':' || s.pseudonym end, $7, $8, $9, $10, 1, \
                 case when s.stands or $4 = 'key' then $11 else null end, $12 from (select ",
                $crate::store::people::stands!("$2", "$13", "$14", "$15"),
                " as stands, g.pseudonym, g.kind from (select 1 as one) l left join people g on g.application_id = $2 \
                 and g.owner_id = $13 and g.forgetting_at is not null) s where true on conflict (id) do nothing",
            ))
            .bind(deed.id.as_str())
            .bind(&*deed.application)
            .bind(deed.at.as_micros())
            .bind(deed.actor.kind.as_str())
            .bind(deed.actor.id.as_deref())
            .bind(deed.actor.acting_for.as_deref())
            .bind(deed.action.as_str())
            .bind(object.map(|object| object.kind))
            .bind(object.map(|object| &*object.id))
            .bind($result)
            .bind(deed.whence.address.as_deref())
            .bind(deed.whence.request_id.as_ref().map($crate::domain::ids::RequestId::as_str))
            .bind(acting.map(|acting| &*acting.owner.owner_id))
            .bind(acting.and_then(|acting| acting.known_since).map($crate::domain::clock::Timestamp::as_micros))
            .bind(acting.map(|acting| acting.let_in.as_micros()))
    }};
}

pub(super) use insert_deed;

macro_rules! entry_row {
    ($row:expr) => {{
        let row = $row;
        Entry {
            id: row.try_get::<String, _>("id")?.into(),
            at: Timestamp::from_micros(row.try_get("at")?),
            actor_kind: ActorKind::parse(row.try_get("actor_kind")?).ok_or(Error::Corrupt("audit.actor_kind"))?,
            actor_id: row.try_get("actor_id")?,
            acting_for: row.try_get("acting_for")?,
            action: row.try_get("action")?,
            object_kind: row.try_get("object_kind")?,
            object_id: row.try_get("object_id")?,
            result: row.try_get("result")?,
            times: row.try_get::<i64, _>("times")?.unsigned_abs(),
            address: row.try_get("address")?,
            request_id: row.try_get("request_id")?,
        }
    }};
}

impl Store {
    /// Writes what has no transaction of its own: what was handed out, and what was refused.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn note(&self, deed: &Deed, result: &str) -> Result<()> {
        write!(self, conn => {
            insert_deed!(conn, deed, result).later().await?;
            Ok(Done::Commit(()))
        })
    }

    /// Writes that what the row `first` tells of was done `times` times more by then. Who did it is as that row has it:
    /// they may have been forgotten meanwhile.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn note_again(&self, first: &AuditId, times: u64, now: Timestamp) -> Result<()> {
        let id = AuditId::new(now);
        write!(self, conn => {
            conn.query(
                "insert into audit (id, application_id, at, actor_kind, actor_id, acting_for, action, object_kind, \
                 object_id, result, times, address) select $1, application_id, $2, actor_kind, actor_id, acting_for, \
                 action, object_kind, object_id, result, $3, address from audit where id = $4",
            )
            .bind(id.as_str())
            .bind(now.as_micros())
            .bind(times.cast_signed())
            .bind(first.as_str())
            .later()
            .await?;
            Ok(Done::Commit(()))
        })
    }

    /// The rows of an application before `before` (when, and which), the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn audit(
        &self,
        application: &str,
        filter: &Filter,
        before: (Timestamp, &str),
        limit: u32,
    ) -> Result<Vec<Entry>> {
        let asked = |is: bool, condition: &'static str, none: &'static str| if is { condition } else { none };
        let sql = format!(
            "select * from audit where application_id = $1 and (at, id) < ($2, $3) and at >= $4 and {} and {} and {} \
             order by at desc, id desc limit $10",
            asked(
                filter.actor.is_some(),
                "(actor_id = $5 or acting_for in ($6, $7))",
                "($5 = '' or $6 = '' or $7 = '')"
            ),
            asked(filter.action.is_some(), "action = $8", "$8 = ''"),
            asked(filter.object.is_some(), "object_id = $9", "$9 = ''"),
        );
        let actor = filter.actor.as_deref().unwrap_or_default();
        read!(self, conn => {
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(application)
                .bind(before.0.as_micros())
                .bind(before.1)
                .bind(filter.from.map_or(0, Timestamp::as_micros))
                .bind(actor)
                .bind(format!("user:{actor}"))
                .bind(format!("visitor:{actor}"))
                .bind(filter.action.map_or("", Action::as_str))
                .bind(filter.object.as_deref().unwrap_or_default())
                .bind(i64::from(limit))
                .fetch_all(conn)
                .await?;
            rows.into_iter().map(|row| Ok(entry_row!(row))).collect()
        })
    }

    /// Drops up to `limit` rows of an application from before `before`; says how many.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn drop_audit(&self, application: &str, before: Timestamp, limit: u32) -> Result<u64> {
        write!(self, conn => {
            conn.query("insert into audit_permits (application_id, before) values ($1, $2)")
                .bind(application)
                .bind(before.as_micros())
                .later()
                .await?;
            let dropped = conn
                .query(
                    "delete from audit where id in (select id from audit where application_id = $1 and at < $2 \
                     order by at, id limit $3)",
                )
                .bind(application)
                .bind(before.as_micros())
                .bind(i64::from(limit))
                .changes()
                .await?;
            conn.query("delete from audit_permits where application_id = $1 and before = $2")
                .bind(application)
                .bind(before.as_micros())
                .later()
                .await?;
            Ok(Done::Commit(dropped))
        })
    }
}
