-- Text that people and models write is kept as bytes: PostgreSQL's text cannot hold U+0000.
-- JSON is kept as text, where U+0000 is an escape. Times are microseconds since the Unix epoch.

create table conversations (
    id text not null primary key,
    application_id text not null,
    owner_id text not null,
    session_id text,
    title blob,
    state text not null,
    config text not null,
    context text not null,
    metadata text not null,
    turn_count bigint not null,
    live_turn_id text,
    created_at bigint not null,
    last_message_at bigint not null,
    archived_at bigint
);
create unique index conversations_by_session
    on conversations (application_id, owner_id, session_id) where session_id is not null;

-- `number` counts the turns of a conversation. `replica_id` and `epoch` are the turn's lease; every write of
-- the turn carries them. `seq` is the last event, once the turn has ended. `crash_saved` and `crash_resumed`
-- are the numbering around a crash. `stop_by` and `read_at` are how other replicas speak to the owner.
create table turns (
    id text not null primary key,
    application_id text not null,
    owner_id text not null,
    conversation_id text not null,
    number bigint not null,
    status text not null,
    model text not null,
    request text not null,
    user_message_id text not null,
    message_id text not null,
    replica_id text not null,
    epoch bigint not null,
    stop_by text,
    read_at bigint,
    seq bigint not null,
    crash_saved bigint,
    crash_resumed bigint,
    created_at bigint not null,
    started_at bigint,
    finished_at bigint,
    dropped_at bigint
);
create unique index turns_by_number on turns (conversation_id, number);
create index turns_open on turns (replica_id) where finished_at is null;
create index turns_kept on turns (finished_at) where finished_at is not null and dropped_at is null;

-- `position` is twice the turn's number, plus one for the answer. `content_kind` is `text`, or `parts` (JSON).
create table messages (
    id text not null primary key,
    application_id text not null,
    owner_id text not null,
    conversation_id text not null,
    turn_id text not null,
    position bigint not null,
    parent_id text,
    role text not null,
    status text not null,
    seq bigint not null,
    model text,
    content_kind text not null,
    content blob not null,
    reasoning blob,
    sources text not null,
    steps text not null,
    visualizations text not null,
    usage text,
    finished text,
    metadata text not null,
    created_at bigint not null
);
create unique index messages_by_position on messages (conversation_id, position);

-- One row for a turn and a commit: its events `first_seq` to `last_seq`, a JSON line each.
create table journal (
    turn_id text not null,
    first_seq bigint not null,
    last_seq bigint not null,
    application_id text not null,
    owner_id text not null,
    epoch bigint not null,
    lines blob not null,
    primary key (turn_id, first_seq)
);

-- A claim on a key; once what it made is deleted, a tombstone.
create table idempotency_keys (
    application_id text not null,
    owner_id text not null,
    key text not null,
    fingerprint text not null,
    conversation_id text not null,
    turn_id text,
    deleted_at bigint,
    created_at bigint not null,
    expires_at bigint,
    primary key (application_id, owner_id, key)
);
create index idempotency_keys_by_conversation on idempotency_keys (conversation_id);
create index idempotency_keys_by_expiry on idempotency_keys (expires_at) where expires_at is not null;

-- One life of one process. `beat` rises while it lives; `fenced_at` says that another has taken its turns.
create table replicas (
    id text not null primary key,
    beat bigint not null,
    started_at bigint not null,
    fenced_at bigint
);
