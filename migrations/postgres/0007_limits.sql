-- What turns have taken of the limits of applications: reserved with the turn, settled with its end. There are rows only
-- where there are limits.

-- One for each scope, measure and window of time, in microseconds; 0 is the window of what is counted while it lasts.
-- `told` is 1 once a turn has said that most of it is used. After `until` nobody needs the row.
create table quota_counters (
    application_id text not null,
    scope text not null,
    scope_id text not null,
    measure text not null,
    start bigint not null,
    used bigint not null,
    told bigint not null default 0,
    until bigint not null,
    primary key (application_id, scope, scope_id, measure, start)
);
create index quota_counters_by_end on quota_counters (until);

-- What an open turn has taken, as JSON.
alter table turns add column holds text;
