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
);
create index audit_by_time on audit (application_id, at, id);
create index audit_by_actor on audit (application_id, actor_id, at, id) where actor_id is not null;
create index audit_by_whom on audit (application_id, acting_for, at, id) where acting_for is not null;
create index audit_by_object on audit (application_id, object_id, at, id) where object_id is not null;
-- What may go: rows of an application from before a time, and none of the last 30 days.
create table audit_permits (
    application_id text not null,
    before bigint not null
);
create function audit_stays() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and exists (select 1 from audit_permits p
        where p.application_id = old.application_id
        and old.at < least(p.before, ((extract(epoch from clock_timestamp()) - 30 * 86400) * 1000000)::bigint)) then
        return old;
    end if;
    if tg_op = 'UPDATE' and new.id = old.id and new.application_id = old.application_id and new.at = old.at
        and new.actor_kind = old.actor_kind and new.action = old.action
        and new.object_kind is not distinct from old.object_kind
        and new.result = old.result and new.times = old.times
        and new.request_id is not distinct from old.request_id
        and (new.actor_id is not distinct from old.actor_id or substr(new.actor_id, 1, 5) = 'gone_')
        and (new.acting_for is not distinct from old.acting_for
            or substr(new.acting_for, strpos(new.acting_for, ':') + 1, 5) = 'gone_')
        and (new.object_id is not distinct from old.object_id or substr(new.object_id, 1, 5) = 'gone_')
        and (new.address is not distinct from old.address or new.address is null) then
        return new;
    end if;
    raise exception 'the audit log is append-only';
end $$;
create trigger audit_stays before delete or update on audit for each row execute function audit_stays();
create trigger audit_lasts before truncate on audit for each statement execute function audit_stays();

-- Somebody who is being forgotten, since when, and what stands for them in the audit log.
alter table people add column forgetting_at bigint;
alter table people add column pseudonym text;
create index people_forgotten on people (forgetting_at) where forgetting_at is not null;
