//! The rows of a database as JSON, the same for both kinds: what one wrote the other can be given.

use serde_json::{Map, Value, json};

use super::{Database, Kind};

/// A row by its columns. Bytes are `{"text": …}`, or `{"hex": …}` where they are no text.
pub type Row = Map<String, Value>;

impl Database {
    /// Its tables, but for what each kind keeps for itself, and what its index of words is made of.
    pub async fn tables(&self) -> Vec<String> {
        let sql = match self.kind() {
            Kind::Sqlite => "select name from sqlite_master where type = 'table' order by name",
            Kind::Postgres => {
                "select table_name from information_schema.tables where table_schema = 'public' order by 1"
            }
        };
        let mut tables = self.texts(sql).await;
        let own = ["_sqlx", "sqlite_", "words", "vocabulary", "indexed"];
        tables.retain(|table| !own.iter().any(|own| table.starts_with(own)));
        tables
    }

    /// The columns of a table, each with whether it holds bytes.
    async fn columns_of(&self, table: &str) -> Vec<(String, bool)> {
        let sql = match self.kind() {
            Kind::Sqlite => format!("select name || ' ' || lower(type) from pragma_table_info('{table}') order by 1"),
            Kind::Postgres => format!(
                "select column_name || ' ' || data_type from information_schema.columns \
                 where table_schema = 'public' and table_name = '{table}' order by 1"
            ),
        };
        let columns = self.texts(&sql).await;
        let parts = columns.iter().map(|column| column.split_once(' ').unwrap());
        parts.map(|(name, kind)| (name.to_owned(), matches!(kind, "blob" | "bytea"))).collect()
    }

    /// All rows of a table.
    pub async fn rows(&self, table: &str) -> Vec<Row> {
        let columns = self.columns_of(table).await;
        let (object, hex) = match self.kind() {
            Kind::Sqlite => ("json_object", "lower(hex({}))"),
            Kind::Postgres => ("json_build_object", "encode({}, 'hex')"),
        };
        let pair = |(name, bytes): &(String, bool)| match bytes {
            true => format!("'{name}', case when {name} is not null then {} end", hex.replace("{}", name)),
            false => format!("'{name}', {name}"),
        };
        let pairs = columns.iter().map(pair).collect::<Vec<_>>().join(", ");
        let texts = self.texts(&format!("select cast({object}({pairs}) as text) from {table} order by 1")).await;
        let read = |text: &String| {
            let mut row: Row = serde_json::from_str(text).unwrap();
            for (name, _) in columns.iter().filter(|(_, bytes)| *bytes) {
                if let Some(hex) = row[name].as_str() {
                    row[name] = told(hex);
                }
            }
            row
        };
        texts.iter().map(read).collect()
    }

    /// Puts a row into a table.
    pub async fn insert(&self, table: &str, row: &Row) {
        let literal = |value: &Value| match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::String(text) => format!("'{}'", text.replace('\'', "''")),
            Value::Object(bytes) => {
                let hex = match (bytes.get("text").and_then(Value::as_str), bytes.get("hex").and_then(Value::as_str)) {
                    (Some(text), _) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
                    (None, hex) => hex.unwrap().to_owned(),
                };
                match self.kind() {
                    Kind::Sqlite => format!("x'{hex}'"),
                    Kind::Postgres => format!("'\\x{hex}'"),
                }
            }
            Value::Array(_) => panic!("no column holds {value}"),
        };
        let names = row.keys().cloned().collect::<Vec<_>>().join(", ");
        let values = row.values().map(literal).collect::<Vec<_>>().join(", ");
        self.run(&format!("insert into {table} ({names}) values ({values})")).await;
    }

    /// Brings it to the first so many migrations, as the program of that time did.
    pub async fn migrate_to(&self, last: i64) {
        use sqlx::migrate::{Migration, MigrationType, Migrator};
        let folder = match self.kind() {
            Kind::Sqlite => "migrations/sqlite",
            Kind::Postgres => "migrations/postgres",
        };
        let mut migrations = Vec::new();
        for entry in std::fs::read_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap().trim_end_matches(".sql").to_owned();
            let version: i64 = name[..4].parse().unwrap();
            if version <= last {
                let sql = sqlx::AssertSqlSafe(std::fs::read_to_string(entry.path()).unwrap());
                let sql = sqlx::SqlSafeStr::into_sql_str(sql);
                migrations.push(Migration::new(version, name.into(), MigrationType::Simple, sql, false));
            }
        }
        migrations.sort_by_key(|migration| migration.version);
        self.migrate(&Migrator::with_migrations(migrations)).await;
    }
}

/// Bytes that came as hex.
fn told(hex: &str) -> Value {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes = (0..hex.len()).step_by(2).map(digits).collect();
    String::from_utf8(bytes).map_or_else(|_| json!({ "hex": hex }), |text| json!({ "text": text }))
}
