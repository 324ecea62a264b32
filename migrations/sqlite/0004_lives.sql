-- `resumed_at` counts as activity, beside `last_message_at`. `expired_at` says that silence ended a conversation.
alter table conversations add column archive_reason blob;
alter table conversations add column resumed_at bigint not null default 0;
alter table conversations add column expired_at bigint;
-- What somebody thought of an answer, as JSON.
alter table messages add column feedback text;
