//! `GET /v1/usage`: what calls of models used and cost, as JSON or CSV.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::json;
use super::app::App;
use super::asker::Asker;
use super::csv::Table;
use super::problem::Problem;
use super::query::Query;
use super::schema::refusals;
use crate::domain::clock::Timestamp;
use crate::domain::period::Period;
use crate::domain::sums::Sums;
use crate::store::usage::{Column, Group, Wanted};

/// The most rows of one answer.
const MOST_ROWS: usize = 10_000;

/// The query of `GET /v1/usage`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// The first day, in `tz`; or a moment on a quarter of an hour. Absent: 30 days with the last.
    #[param(example = "2026-11-01")]
    from: Option<String>,
    /// The last day, in `tz`, which is in it; or a moment on a quarter of an hour, which is not. Absent: today. At most 366
    /// days in all.
    #[param(example = "2026-11-30")]
    to: Option<String>,
    /// What there is a row for, in this order: some of `day`, `model`, `user`, `assistant` and `key`, with commas between.
    /// Absent: `day`. Empty: there are no rows, but totals. Keys are told only to a key that acts for nobody; to anybody else all calls
    /// are of none.
    #[param(pattern = "^((day|model|user|assistant|key)(,(day|model|user|assistant|key))*)?$")]
    group_by: Option<String>,
    /// The time zone of days, by its name in the IANA database. Absent: UTC.
    #[param(example = "Europe/Berlin")]
    tz: Option<String>,
    /// How it is written.
    #[param(inline)]
    format: Option<Format>,
}

/// How usage is written.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One object; where it is absent.
    Json,
    /// The rows, under the names of their columns (RFC 4180).
    Csv,
}

/// What calls used together.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub struct Used {
    /// Calls of models that an upstream took.
    calls: u64,
    /// Tokens of the prompts, cached and written ones included.
    prompt_tokens: u64,
    /// Tokens of the completions, reasoning included.
    completion_tokens: u64,
    /// Of the prompts', those read from a provider's cache.
    cached_tokens: u64,
    /// Of the prompts', those written to a provider's cache.
    cache_write_tokens: u64,
    /// Of the completions', those spent on reasoning.
    reasoning_tokens: u64,
    /// What the calls cost whose price is known, in nano-USD.
    cost_nano_usd: u64,
    /// Calls whose price is not known.
    unpriced_calls: u64,
    /// Calls whose tokens were counted by the gateway, because the upstream did not say.
    estimated_calls: u64,
}

impl From<Sums> for Used {
    fn from(sums: Sums) -> Self {
        Self {
            calls: sums.calls,
            prompt_tokens: sums.prompt_tokens,
            completion_tokens: sums.completion_tokens,
            cached_tokens: sums.cached_tokens,
            cache_write_tokens: sums.cache_write_tokens,
            reasoning_tokens: sums.reasoning_tokens,
            cost_nano_usd: sums.cost_nano_usd,
            unpriced_calls: sums.unpriced_calls,
            estimated_calls: sums.estimated_calls,
        }
    }
}

/// What was used in a period.
#[derive(Serialize, ToSchema)]
struct Usages {
    /// When the period begins.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// When it is over.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// The time zone of days.
    tz: String,
    /// Over all of it.
    totals: Used,
    /// By what was asked for, in its order; only where there were calls.
    rows: Vec<Row>,
}

/// What was used by one group of calls. It has the fields that were asked for in `group_by`.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageRow)]
struct Row {
    /// The day, in `tz`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, format = Date)]
    day: Option<String>,
    /// The model that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    model: Option<String>,
    /// The user or visitor; null for what was asked for nobody: by a service or admin key on its own behalf, or with auth off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<String>)]
    user: Option<Option<String>>,
    /// The assistant; null for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<String>)]
    assistant: Option<Option<String>>,
    /// The API key; null for none, and where the caller is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<String>)]
    key: Option<Option<String>>,
    #[serde(flatten)]
    used: Used,
}

/// What was used
///
/// Totals and rows of one's own calls of models, for a key those of its application, by day where nothing else is asked for. A call counts in the day in which
/// it was made, at the price of that moment, also when its conversation is deleted.
#[utoipa::path(
    get,
    path = "/v1/usage",
    tag = "Usage",
    operation_id = "get_usage",
    params(Asked),
    responses(
        (status = 200, description = "What was used.", content((Usages = "application/json"), (String = "text/csv"))),
        refusals::OfUsage
    )
)]
pub async fn get(
    State(app): State<App>,
    Asker(caller): Asker,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let columns = columns(asked.group_by.as_deref())?;
    let (from, to, tz) = (asked.from.as_deref(), asked.to.as_deref(), asked.tz.as_deref());
    let period =
        Period::read(from, to, tz, app.turns.now()).map_err(|unclear| Problem::field(unclear.field, unclear.must))?;
    // Which keys a service acts with is no business of those it acts for.
    let told: Vec<Column> =
        columns.iter().copied().filter(|column| *column != Column::Key || caller.sees_all()).collect();
    let wanted = Wanted { columns: &told, period: &period, most: MOST_ROWS, whole: caller.sees_all() };
    let Some(sums) = app.turns.store.usage(&caller.owner, wanted).await? else {
        let most = format!("gives more than {MOST_ROWS} rows: ask for less, or for a shorter period");
        return Err(Problem::field("group_by", most));
    };
    Ok(match asked.format.unwrap_or(Format::Json) {
        Format::Json => {
            let (from, to) = period.bounds();
            let totals = sums.values().fold(Sums::default(), |all, sums| all.plus(*sums)).into();
            let rows = if columns.is_empty() { Vec::new() } else { ordered(&columns, sums) };
            let rows = rows.into_iter().map(|(group, sums)| row(&columns, group, sums)).collect();
            let (from, to) = (Timestamp::from_micros(from), Timestamp::from_micros(to));
            json(StatusCode::OK, &Usages { from, to, tz: period.zone().to_owned(), totals, rows })
        }
        Format::Csv => {
            let mut table = Table::new(columns.iter().map(|column| column.as_str()).chain(Sums::NAMES));
            for (group, sums) in ordered(&columns, sums) {
                let names = columns.iter().map(|column| group.get(*column).unwrap_or_default());
                table.row(names.chain(sums.to_list().map(|sum| sum.to_string())));
            }
            let headers = [
                (CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
                (CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""),
            ];
            (headers, table.into_text()).into_response()
        }
    })
}

/// The rows, by their columns from the first to the last.
fn ordered(columns: &[Column], sums: BTreeMap<Group, Sums>) -> Vec<(Group, Sums)> {
    let mut rows: Vec<(Group, Sums)> = sums.into_iter().collect();
    rows.sort_by_cached_key(|(group, _)| columns.iter().map(|column| group.get(*column)).collect::<Vec<_>>());
    rows
}

fn row(columns: &[Column], group: Group, sums: Sums) -> Row {
    let of = |column| columns.contains(&column).then(|| group.get(column));
    Row {
        day: of(Column::Day).flatten(),
        model: of(Column::Model).flatten(),
        user: of(Column::User),
        assistant: of(Column::Assistant),
        key: of(Column::Key),
        used: sums.into(),
    }
}

/// Reads `group_by`.
fn columns(text: Option<&str>) -> Result<Vec<Column>, Problem> {
    let mut columns = Vec::new();
    for name in text.unwrap_or("day").split(',').filter(|_| text != Some("")) {
        let wrong = || Problem::field("group_by", "must be some of day, model, user, assistant and key");
        let column = Column::parse(name).ok_or_else(wrong)?;
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    Ok(columns)
}
