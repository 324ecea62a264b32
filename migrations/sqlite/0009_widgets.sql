-- A visitor's ticket dies with the widget they came through.
alter table tickets add column widget text;
