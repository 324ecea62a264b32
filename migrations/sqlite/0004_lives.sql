-- `resumed_at` counts as activity, beside `last_message_at`. `expired_at` says that silence ended a conversation.
alter table conversations add column archive_reason blob;
alter table conversations add column resumed_at bigint not null default 0;
alter table conversations add column expired_at bigint;
-- What somebody thought of an answer, as JSON.
alter table messages add column feedback text;

-- The title as it is sorted: in lower case.
alter table conversations add column sort_title blob not null default x'';
update conversations set sort_title = coalesce(title, cast('new conversation' as blob));
-- An index for each order of the list; `archived_at` is in it, so that what is put away is passed over without reading it.
drop index conversations_by_activity;
create index conversations_by_activity
    on conversations (application_id, owner_id, last_message_at, id, archived_at);
create index conversations_by_creation on conversations (application_id, owner_id, created_at, id, archived_at);
create index conversations_by_title on conversations (application_id, owner_id, sort_title, id, archived_at);

-- What a search finds: titles (without a message) and messages. `words` has each different word once, marked as its owner's.
-- They are kept by `words` alone.
create table indexed (
    number integer not null primary key,
    conversation_id text not null references conversations (id) on delete cascade,
    message_id text references messages (id) on delete cascade,
    words text not null
);
create unique index indexed_messages on indexed (message_id) where message_id is not null;
create unique index indexed_titles on indexed (conversation_id) where message_id is null;
create index indexed_by_conversation on indexed (conversation_id, number);
-- Its tokens are our words: the signs between them are none of its own. Beginnings of one, two or three signs behind the mark of
-- 13 have lists of their own; for longer ones the words that begin so are looked up in `vocabulary`.
create virtual table words using fts5 (
    marked, content = '', contentless_delete = 1, detail = none, prefix = '14 15 16', tokenize = "ascii tokenchars '_'"
);
create virtual table vocabulary using fts5vocab (words, row);
create trigger indexed_comes after insert on indexed begin
    insert into words (rowid, marked) values (new.number, new.words);
    update indexed set words = '' where number = new.number;
end;
create trigger indexed_goes after delete on indexed begin
    delete from words where rowid = old.number;
end;
