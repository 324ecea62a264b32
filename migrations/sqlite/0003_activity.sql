-- An owner's conversations are listed by what was active last.
create index conversations_by_activity on conversations (application_id, owner_id, last_message_at, id);
