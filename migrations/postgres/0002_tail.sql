-- Stays empty: here the newest events go to the journal at once, where other replicas find them.
create table tail (
    number bigint not null primary key,
    heads bytea not null,
    lines bytea not null
);
