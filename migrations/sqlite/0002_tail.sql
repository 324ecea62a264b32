-- The newest events of live turns, a row for a commit of many turns. What a turn has here moves to the journal once there
-- is enough of it, or with the turn's end; a row is forgotten when all of it has moved. `heads` says what stands in
-- `lines`: on each line the turn, its first seq, its last, and how many bytes. Other processes never look here.
create table tail (
    number bigint not null primary key,
    heads blob not null,
    lines blob not null
);
