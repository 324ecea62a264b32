-- One row for each call of a model that an upstream took. Once its conversation is erased it stays, without the ids of
-- conversation, turn, step and owner. `ended` is how the call did. Times in milliseconds; what is null is not known.
create table usage_records (
    id text not null primary key,
    application_id text not null,
    owner_id text,
    conversation_id text,
    turn_id text,
    step_id text,
    assistant_id text,
    key_id text,
    model text not null,
    answered_by text,
    upstream text,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    cached_tokens bigint,
    cache_write_tokens bigint,
    reasoning_tokens bigint,
    cost_nano_usd bigint,
    basis text not null,
    ended text not null,
    first_token_ms bigint,
    duration_ms bigint,
    created_at bigint not null
);
create index usage_records_by_turn on usage_records (conversation_id, turn_id) where conversation_id is not null;

-- The same, added up: for each day in UTC (`span` 86400), and for each quarter of an hour (`span` 900), of which the days
-- of every time zone are made. `start` is in microseconds. Empty texts stand for none.
-- What several connections add up at the same time is spread over some shards.
create table usage_totals (
    application_id text not null,
    owner_id text not null,
    span bigint not null,
    start bigint not null,
    model text not null,
    assistant_id text not null,
    key_id text not null,
    shard bigint not null,
    calls bigint not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    cached_tokens bigint not null,
    cache_write_tokens bigint not null,
    reasoning_tokens bigint not null,
    cost_nano_usd bigint not null,
    unpriced_calls bigint not null,
    estimated_calls bigint not null,
    primary key (application_id, owner_id, span, start, model, assistant_id, key_id, shard)
);

-- What was said in a conversation up to and with the message `through`, in short: for models that do not read all of it.
create table summaries (
    conversation_id text not null,
    through text not null,
    application_id text not null,
    owner_id text not null,
    content bytea not null,
    created_at bigint not null,
    primary key (conversation_id, through)
);
