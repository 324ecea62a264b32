//! What a database holds, looked through for what should not be in it.

use super::{Database, Kind};

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// All that the database holds, as it lies there.
pub struct Kept {
    /// Every value of every column of every table, in hex, after where it stands.
    values: Vec<String>,
    /// On SQLite, the bytes of the file and of its log.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

impl Kept {
    /// Reads it by the catalogue, so that a table that is new is in it.
    pub async fn read(database: &Database) -> Self {
        let (columns, hexed) = match database.kind() {
            Kind::Sqlite => (
                "select m.name || '.' || c.name from sqlite_master m join pragma_table_info(m.name) c \
                 where m.type = 'table'",
                "lower(hex({}))",
            ),
            Kind::Postgres => (
                "select table_name || '.' || column_name || case when data_type = 'bytea' then '!' else '' end \
                 from information_schema.columns where table_schema = 'public'",
                "encode(convert_to(cast({} as text), 'UTF8'), 'hex')",
            ),
        };
        let select = |place: &String| {
            let (table, column) = place.split_once('.').unwrap();
            let (column, hexed) = match column.strip_suffix('!') {
                Some(column) => (column, "encode({}, 'hex')"),
                None => (column, hexed),
            };
            let column = format!("\"{column}\"");
            let value = hexed.replace("{}", &column);
            format!("select '{table}: ' || {value} from \"{table}\" where {column} is not null")
        };
        let columns = database.texts(columns).await;
        assert!(columns.len() > 100, "the catalogue names too little: {columns:?}");
        let all: Vec<String> = columns.iter().map(select).collect();
        let values = database.texts(&all.join(" union all ")).await;
        let mut files = Vec::new();
        if database.kind() == Kind::Sqlite {
            for name in ["tidegate.db", "tidegate.db-wal"] {
                files.push((name, std::fs::read(database.folder().join(name)).unwrap_or_default()));
            }
        }
        Self { values, files }
    }

    /// Where a text stands.
    pub fn places(&self, text: &str) -> Vec<&str> {
        let needle = hex(text);
        let values = self.values.iter().filter_map(|value| value.split_once(": "));
        let mut places: Vec<&str> =
            values.filter(|(_, value)| value.contains(&needle)).map(|(table, _)| table).collect();
        places.dedup();
        let holds = |bytes: &[u8]| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        places.extend(self.files.iter().filter(|(_, bytes)| holds(bytes)).map(|(name, _)| *name));
        places
    }

    /// Fails where one of these stands anywhere.
    pub fn assert_nothing_of<'t>(&self, texts: impl IntoIterator<Item = &'t str>) {
        for text in texts {
            assert_eq!(self.places(text), Vec::<&str>::new(), "{text}");
        }
    }
}
