-- Who did what, when, from where, and with what result. A row is written with what it tells of, and stays as it is: a
-- person who is forgotten becomes a pseudonym in it and loses their address, and what is past its time goes where a
-- permit for it lies beside, within one transaction. `acting_for` is whom a key acts for, by how they own rows; `times`
-- how often the same was refused.
create table audit (
    id text not null primary key,
    application_id text not null,
    at bigint not null,
    actor_kind text not null,
    actor_id text,
    acting_for text,
    action text not null,
    object_kind text,
    object_id text,
    result text not null,
    times bigint not null,
    address text,
    request_id text
) without rowid;
create index audit_by_time on audit (application_id, at, id);
create index audit_by_actor on audit (application_id, actor_id, at, id) where actor_id is not null;
create index audit_by_whom on audit (application_id, acting_for, at, id) where acting_for is not null;
create index audit_by_object on audit (application_id, object_id, at, id) where object_id is not null;
-- What may go: rows of an application from before a time, and none of the last 30 days.
create table audit_permits (
    application_id text not null,
    before bigint not null
);
create trigger audit_stays before delete on audit
when not exists (select 1 from audit_permits p where p.application_id = old.application_id
    and old.at < min(p.before, (unixepoch() - 30 * 86400) * 1000000))
begin
    select raise(abort, 'the audit log is append-only');
end;
-- A row that is there stays, also where `replace` would put another in its place, which is no delete to a trigger.
create trigger audit_is_once before insert on audit
when exists (select 1 from audit a where a.id = new.id)
begin
    select raise(ignore);
end;
create trigger audit_stands before update on audit
when not coalesce(
    new.id = old.id and new.application_id = old.application_id and new.at = old.at
    and new.actor_kind = old.actor_kind and new.action = old.action and new.object_kind is old.object_kind
    and new.result = old.result and new.times = old.times and new.request_id is old.request_id
    and (new.actor_id is old.actor_id or substr(new.actor_id, 1, 5) = 'gone_')
    and (new.acting_for is old.acting_for or substr(new.acting_for, instr(new.acting_for, ':') + 1, 5) = 'gone_')
    and (new.object_id is old.object_id or substr(new.object_id, 1, 5) = 'gone_')
    and (new.address is old.address or new.address is null),
    false
)
begin
    select raise(abort, 'the audit log is append-only');
end;

-- Somebody who is being forgotten, since when, and what stands for them in the audit log.
alter table people add column forgetting_at bigint;
alter table people add column pseudonym text;
create index people_forgotten on people (forgetting_at) where forgetting_at is not null;
