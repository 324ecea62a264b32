-- API keys. `prefix` is what one is found by; `mark` is the pepper's of the whole text, which is kept nowhere.
create table api_keys (
    id text not null primary key,
    application_id text not null,
    prefix text not null,
    mark bytea not null,
    role text not null,
    created_at bigint not null,
    last_used_at bigint,
    expires_at bigint,
    revoked_at bigint
);
create unique index api_keys_by_prefix on api_keys (prefix);
create index api_keys_by_application on api_keys (application_id, created_at, id);
create index api_keys_revoked on api_keys (revoked_at) where revoked_at is not null;
create index api_keys_by_expiry on api_keys (expires_at) where expires_at is not null;

-- Users and visitors, from the first that they did or that was decided about them. `owner_id` is how they own rows.
create table people (
    application_id text not null,
    owner_id text not null,
    kind text not null,
    person_id text not null,
    created_at bigint not null,
    deactivated_at bigint,
    primary key (application_id, owner_id)
);
create index people_by_age on people (application_id, created_at, owner_id);
create index people_deactivated on people (deactivated_at) where deactivated_at is not null;

-- Tickets: whoever has one reads one turn or conversation as its owner. `mark` is the pepper's of the text.
-- It dies with the key it was asked with.
create table tickets (
    mark bytea not null primary key,
    application_id text not null,
    owner_id text not null,
    turn_id text,
    conversation_id text,
    key_id text,
    created_at bigint not null,
    opened_at bigint
);
create index tickets_by_age on tickets (created_at);

-- The key a turn was asked with.
alter table turns add column key_id text;
