//! The list of a user with 100,000 conversations, and the search in it: the first page, beside the bare query. `benches/README.md`
//! says how to run it and how to read it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tidegate::domain::clock::Clock;
use tidegate::domain::conversation::Silence;
use tidegate::domain::owner::Owner;
use tidegate::domain::stream::Durability;
use tidegate::domain::words::Sought;
use tidegate::meter::Meter;
use tidegate::store::Store;
use tidegate::store::indexing::mark;
use tidegate::store::listing::{Filter, Sort};

type Failed = Box<dyn std::error::Error>;

const CONVERSATIONS: usize = 100_000;
const ROUNDS: usize = 200;
/// Every so many conversations have a word: in their title, or in one of their two messages.
const EVERY: [(&str, usize); 7] = [
    ("everywhere", 1),
    ("half", 2),
    ("fifth", 5),
    ("twentieth", 20),
    ("hundredth", 100),
    ("thousandth", 1000),
    ("once", CONVERSATIONS),
];
const SEARCHES: [&str; 11] = [
    "everywhere",
    "half",
    "fifth",
    "twentieth",
    "hundredth",
    "thousandth",
    "once",
    "nowhere",
    "everywhere hundredth",
    "t",
    "half fifth twenti",
];

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        let _ = writeln!(io::stderr(), "to be run by `cargo bench --bench list`");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(Failed::from).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "list: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failed> {
    let home = tempfile::tempdir()?;
    let file = format!("sqlite://{}", home.path().join("list.db").display());
    measure("SQLite", &file).await?;
    match std::env::var("TIDEGATE_TEST_POSTGRES_URL") {
        Ok(server) => {
            let name = format!("list_{}", std::process::id());
            let mut connection = PgConnectOptions::from_str(&server)?.connect().await?;
            connection.execute(AssertSqlSafe(format!("create database {name}"))).await?;
            let url = server.rsplit_once('/').map_or(server.clone(), |(server, _)| format!("{server}/{name}"));
            let measured = measure("PostgreSQL", &url).await;
            connection.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await?;
            measured
        }
        Err(_) => {
            say("PostgreSQL: TIDEGATE_TEST_POSTGRES_URL is not set, so it is left out")?;
            Ok(())
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Runs statements past the store.
async fn past(url: &str, sql: String) -> Result<(), Failed> {
    if url.starts_with("sqlite") {
        let mut connection =
            SqliteConnectOptions::from_str(url)?.busy_timeout(Duration::from_secs(60)).connect().await?;
        connection.execute(AssertSqlSafe(sql)).await?;
        connection.close().await?;
    } else {
        PgConnectOptions::from_str(url)?.connect().await?.execute(AssertSqlSafe(sql)).await?;
    }
    Ok(())
}

/// Fills a database: each conversation has a title and two messages, and words as [`EVERY`] says.
async fn fill(url: &str, owner: &Owner) -> Result<(), Failed> {
    let postgres = !url.starts_with("sqlite");
    let number =
        if postgres { "lpad(n::text, 32, '0')" } else { "substr('00000000000000000000000000000000' || n, -32)" };
    let bytes =
        |text: &str| if postgres { format!("convert_to({text}, 'UTF8')") } else { format!("cast({text} as blob)") };
    let numbers = format!("with recursive n (n) as (select 1 union all select n + 1 from n where n < {CONVERSATIONS})");
    let (application, owner_id) = (&owner.application_id, &owner.owner_id);
    // The place of a word moves, so that some are in titles and some in messages.
    let words = |place: usize, mark: &str| {
        let word = |(word, every): &(&str, usize)| {
            format!("case when n % {every} = 0 and n / {every} % 3 = {place} then ' {mark}{word}' else '' end")
        };
        EVERY.iter().map(word).collect::<Vec<_>>().join(" || ")
    };
    let mark = mark(owner);
    let title = format!("'Conversation ' || n || {}", words(0, ""));
    let mut sql = format!(
        "{numbers} insert into conversations (id, application_id, owner_id, state, config, context, metadata, turn_count, \
         created_at, last_message_at, title, sort_title, archived_at) select 'conv_' || {number}, '{application}', '{owner_id}', \
         'active', '{{}}', '{{}}', '{{}}', 1, n, n + 1000000, {}, {}, case when n % 9 = 1 then n else null end from n; ",
        bytes(&title),
        bytes(&format!("lower({title})")),
    );
    let filler = "word".repeat(5);
    for (place, role) in [(1, "user"), (2, "assistant")] {
        let text = format!("'{}' || {}", format!("{filler} ").repeat(40), words(place, ""));
        sql.push_str(&format!(
            "{numbers} insert into messages (id, application_id, owner_id, conversation_id, turn_id, position, role, status, seq, \
             content_kind, content, sources, steps, visualizations, metadata, created_at) select 'msg_{place}' || {number}, \
             '{application}', '{owner_id}', 'conv_' || {number}, 'turn_' || {number}, {place} + 1, '{role}', 'completed', 0, 'text', \
             {}, '[]', '[]', '[]', '{{}}', n from n; ",
            bytes(&text),
        ));
    }
    for (place, message) in
        [(0, "null".to_owned()), (1, format!("'msg_1' || {number}")), (2, format!("'msg_2' || {number}"))]
    {
        let (more, none) = if postgres { (", lexemes", ", ''") } else { ("", "") };
        sql.push_str(&format!(
            "{numbers} insert into indexed (conversation_id, message_id, words{more}) select 'conv_' || {number}, {message}, \
             '{mark}conversation' || {}{none} from n; ",
            words(place, &mark),
        ));
    }
    sql.push_str(if postgres { "vacuum analyze" } else { "analyze" });
    for statement in sql.split("; ") {
        past(url, statement.to_owned()).await?;
    }
    Ok(())
}

async fn measure(name: &str, url: &str) -> Result<(), Failed> {
    let owner = Owner::local();
    let store = Store::open(url, Durability::Relaxed, Duration::from_secs(60), Meter::default()).await?;
    let begun = Instant::now();
    fill(url, &owner).await?;
    // As the program does when it has looked through everything.
    let mut begin = true;
    while store.tidy_index(std::mem::take(&mut begin)).await? {}
    say(&format!(
        "\n{name} {}: {CONVERSATIONS} conversations of one user, filled in {:.0} s; the first 20, in ms\n",
        store.ping().await?,
        begun.elapsed().as_secs_f64()
    ))?;
    say("| what | came | p50 | p99 |\n|---|--:|--:|--:|")?;
    bare(url, &owner).await?;
    let filter = |sort, descending| Filter {
        state: None,
        archived: false,
        sort,
        descending,
        from: None,
        limit: 20,
        silence: Silence::new(Clock::System.now(), 0),
    };
    for (label, filter) in [
        ("list by activity", filter(Sort::Activity, true)),
        ("list by making", filter(Sort::Created, true)),
        ("list by title", filter(Sort::Title, false)),
        ("list by activity, with archived ones", Filter { archived: true, ..filter(Sort::Activity, true) }),
    ] {
        let times = times(async || Ok(store.conversations(&owner, &filter).await?.conversations.len())).await?;
        row(label, times)?;
    }
    for query in SEARCHES {
        let sought = Sought::read(query).ok_or("a search has words")?;
        let filter = filter(Sort::Activity, true);
        let times = times(async || Ok(store.search(&owner, &sought, &filter).await?.conversations.len())).await?;
        row(&format!("search `{query}`"), times)?;
    }
    store.close().await;
    Ok(())
}

/// The same page of the list, asked of the database itself.
async fn bare(url: &str, owner: &Owner) -> Result<(), Failed> {
    const PAGE: &str = "select * from conversations where application_id = $1 and owner_id = $2 and archived_at is null \
        order by last_message_at desc, id desc limit 21";
    let (application, owner_id) = (owner.application_id.to_string(), owner.owner_id.to_string());
    let label = "the bare query";
    if url.starts_with("sqlite") {
        let mut connection = SqliteConnectOptions::from_str(url)?.connect().await?;
        let times = times(async || {
            Ok(sqlx::query(PAGE).bind(&application).bind(&owner_id).fetch_all(&mut connection).await?.len() - 1)
        })
        .await?;
        row(label, times)?;
    } else {
        let mut connection = PgConnectOptions::from_str(url)?.connect().await?;
        let times = times(async || {
            Ok(sqlx::query(PAGE).bind(&application).bind(&owner_id).fetch_all(&mut connection).await?.len() - 1)
        })
        .await?;
        row(label, times)?;
    }
    Ok(())
}

/// How long each of many rounds took, sorted, and how many came.
async fn times(mut ask: impl AsyncFnMut() -> Result<usize, Failed>) -> Result<(usize, Vec<Duration>), Failed> {
    let mut times = Vec::with_capacity(ROUNDS);
    let mut came = 0;
    for round in 0..ROUNDS + ROUNDS / 10 {
        let begun = Instant::now();
        came = ask().await?;
        // The first warm up.
        if round >= ROUNDS / 10 {
            times.push(begun.elapsed());
        }
    }
    times.sort();
    Ok((came, times))
}

fn row(label: &str, (came, times): (usize, Vec<Duration>)) -> io::Result<()> {
    let at = |percent: usize| {
        let time =
            times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default();
        time.as_secs_f64() * 1000.0
    };
    say(&format!("| {label} | {came} | {:.2} | {:.2} |", at(50), at(99)))
}
