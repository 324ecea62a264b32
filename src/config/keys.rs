//! Every setting there is, by its path: what it may hold, its default, and what a person should know of it.

/// What a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number, from this on.
    Count(u64),
    /// A time in seconds, from this on, and at most [`LONGEST_S`].
    Seconds(u64),
    /// A list of texts.
    List,
    /// A table whose keys are the user's own.
    Map,
}

/// The longest time that can be set: a hundred years, far from where arithmetic on times overflows.
pub const LONGEST_S: u64 = 3_155_760_000;

/// What the example shows of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Its default, as TOML.
    Default(&'static str),
    /// It has none: something it could be, as TOML, commented out.
    Sample(&'static str),
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its path; `*` stands for an index.
    pub path: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// What the example shows of it.
    pub shown: Shown,
    /// What a person should know of it.
    pub note: &'static str,
}

impl Key {
    /// Its own name, and the section it is in: empty for the top of the file.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').map_or((self.path, ""), |(section, name)| (name, section))
    }
}

/// Kinds of upstreams that are known and not supported yet.
pub const LATER_KINDS: [&str; 3] = ["anthropic", "gemini", "ollama"];

const fn default(path: &'static str, shape: Shape, toml: &'static str, note: &'static str) -> Key {
    Key { path, shape, shown: Shown::Default(toml), note }
}

const fn sample(path: &'static str, shape: Shape, toml: &'static str, note: &'static str) -> Key {
    Key { path, shape, shown: Shown::Sample(toml), note }
}

use Shape::{Count, Flag, List, Map, Seconds, Text};

/// Every setting, in the order of the example.
#[rustfmt::skip] // A table: one line each.
pub const KEYS: [Key; 111] = [
    default("listen", Text, r#""127.0.0.1:8080""#, "Address and port to listen on; port 0 takes a free one."),
    sample("public_url", Text, r#""https://chat.example""#, "Where others reach it; absent: the bound address."),
    default("default_model", Text, r#""demo""#, "The model where a request names none; one of `upstreams` must serve it."),
    default("instructions", Text, r#""""#, "The system prompt where a conversation has none of its own."),
    sample("tls.cert_file", Text, r#""cert.pem""#, "Speak TLS with this certificate and its chain, in PEM; absent: plain HTTP."),
    sample("tls.key_file", Text, r#""key.pem""#, "The certificate's private key, in PEM, without a password."),
    default("database.url", Text, r#""sqlite://tidegate.db""#, "sqlite://FILE, or postgres://user@host/db."),
    default("cluster.lease_s", Seconds(1), "10", "How long a turn stays with a replica that does not renew it."),
    sample("cluster.redis_url", Text, r#""redis://127.0.0.1:6379""#, "Where replicas pass live turns on to each other and count requests and streams together; absent: others serve what is saved, at most 1 s behind."),
    default("auth.mode", Text, r#""off""#, "Who may call: off is anybody who reaches the port; required asks for a key, a token or a widget."),
    default("auth.allow_public_off", Flag, "false", "Let auth be off on an address that others can reach, under public_url's host."),
    default("auth.pepper_file", Text, r#""pepper""#, "The server's own secret, which keys and tokens are made with; one is made where there is none."),
    default("auth.visitor_token_s", Seconds(60), "2592000", "How long a visitor's token is good, from its last renewal."),
    default("applications.*.name", Text, r#""default""#, "Its name; no two have the same."),
    default("applications.*.visitors", Flag, "true", "Whether visitors may use it; otherwise only signed-in users."),
    sample("applications.*.jwt_secret", Text, r#""…""#, "What its users' tokens are signed with (HS256), here,"),
    sample("applications.*.jwt_secret_env", Text, r#""SHOP_JWT_SECRET""#, "or in an environment variable,"),
    sample("applications.*.jwt_secret_file", Text, r#""shop.secret""#, "or in a file; at most one of the three,"),
    sample("applications.*.jwks_url", Text, r#""https://login.example/jwks.json""#, "or the address of public keys (RS256, ES256, EdDSA)."),
    sample("applications.*.jwt_issuer", Text, r#""https://login.example""#, "The `iss` a token must have."),
    sample("applications.*.jwt_audience", Text, r#""chat""#, "The `aud` a token must have."),
    default("applications.*.retention_days", Count(0), "0", "Days a conversation is kept in which nothing happens, and then erased; 0: for ever."),
    sample("applications.*.widgets.*.key", Text, r#""wk_shop""#, "Its public key, which pages send: `wk_` and letters or digits."),
    sample("applications.*.widgets.*.origins", List, r#"["https://shop.example"]"#, "Exact origins of the pages it stands on."),
    sample("applications.*.widgets.*.models", List, r#"["*"]"#, "The models its visitors may name, as globs; absent: all."),
    default("applications.*.limits.requests_per_minute", Count(0), "0", "Requests a minute of the whole application, by each replica or with cluster.redis_url by all together; beyond: 429 rate_limited. 0, here and below: no limit."),
    default("applications.*.limits.tokens_per_minute", Count(0), "0", "Its tokens a minute: what a turn may come to use is reserved before its call, and settled after."),
    default("applications.*.limits.concurrent_turns", Count(0), "0", "Its open turns, queued ones included."),
    default("applications.*.limits.budget_day_nano_usd", Count(0), "0", "What its turns of a day, in UTC, may cost; beyond: 402 budget_exhausted."),
    default("applications.*.limits.budget_month_nano_usd", Count(0), "0", "The same of a calendar month."),
    default("applications.*.limits.budget_soft_percent", Count(0), "80", "The share of a budget, of any scope, from which on a turn says so, once a day or month; 0: none does."),
    default("applications.*.limits.streams_per_visitor", Count(0), "0", "Open streams of each visitor, counted like requests."),
    default("applications.*.limits.per_key.requests_per_minute", Count(0), "0", "The requests a minute of each API key."),
    default("applications.*.limits.per_key.tokens_per_minute", Count(0), "0", "The tokens a minute of each API key."),
    default("applications.*.limits.per_key.concurrent_turns", Count(0), "0", "The open turns of each API key."),
    default("applications.*.limits.per_key.budget_day_nano_usd", Count(0), "0", "The budget of a day of each API key."),
    default("applications.*.limits.per_key.budget_month_nano_usd", Count(0), "0", "The budget of a month of each API key."),
    default("applications.*.limits.per_user.requests_per_minute", Count(0), "0", "The requests a minute of each signed-in user."),
    default("applications.*.limits.per_user.tokens_per_minute", Count(0), "0", "The tokens a minute of each signed-in user."),
    default("applications.*.limits.per_user.concurrent_turns", Count(0), "0", "The open turns of each signed-in user."),
    default("applications.*.limits.per_user.budget_day_nano_usd", Count(0), "0", "The budget of a day of each signed-in user."),
    default("applications.*.limits.per_user.budget_month_nano_usd", Count(0), "0", "The budget of a month of each signed-in user."),
    default("applications.*.limits.per_user.streams", Count(0), "0", "The open streams of each signed-in user, counted like requests."),
    default("applications.*.limits.per_visitor.requests_per_minute", Count(0), "0", "The requests a minute of each visitor."),
    default("applications.*.limits.per_visitor.tokens_per_minute", Count(0), "0", "The tokens a minute of each visitor."),
    default("applications.*.limits.per_visitor.concurrent_turns", Count(0), "0", "The open turns of each visitor."),
    default("applications.*.limits.per_visitor.budget_day_nano_usd", Count(0), "0", "The budget of a day of each visitor."),
    default("applications.*.limits.per_visitor.budget_month_nano_usd", Count(0), "0", "The budget of a month of each visitor."),
    default("applications.*.limits.per_address.requests_per_minute", Count(0), "0", "The requests a minute of each client's address (of IPv6: each /64), and of those from it that show nothing good."),
    default("applications.*.limits.per_address.tokens_per_minute", Count(0), "0", "The tokens a minute of each client's address."),
    default("applications.*.limits.per_address.concurrent_turns", Count(0), "0", "The open turns of each client's address."),
    default("cors.allowed_origins", List, "[]", "Exact origins whose pages may call, such as \"https://shop.example\"; same-origin always works."),
    default("http.trusted_proxies", List, "[]", "Proxies that stand before the gateway, as addresses or networks such as \"10.0.0.0/8\": whom they name in `Forwarded` or `X-Forwarded-For` is the client."),
    sample("metrics.listen", Text, r#""127.0.0.1:9464""#, "An address of its own for `/metrics`, which then is nowhere else; absent: with everything else."),
    sample("metrics.application", Text, r#""default""#, "The application whose admin keys read `/metrics` where there is no address of its own; absent: those of each do."),
    sample("otel.endpoint", Text, r#""http://127.0.0.1:4318""#, "An OpenTelemetry collector (OTLP over HTTP) that is sent a trace of every turn; absent: none."),
    default("log.format", Text, r#""auto""#, "auto (pretty on a terminal, json elsewhere), pretty or json; on stderr. RUST_LOG sets the level."),
    default("conversations.expire_after_s", Seconds(0), "0", "How long a conversation may be silent before it has ended; 0: for ever."),
    default("stream.durability", Text, r#""relaxed""#, "relaxed: shown at once, saved within 100 ms; strict: saved, then shown."),
    default("stream.on_disconnect", Text, r#""continue""#, "When a turn's last reader leaves: continue, cancel or grace:SECONDS."),
    default("stream.if_busy", Text, r#""reject""#, "A message to a conversation with a live turn: reject, queue or interrupt."),
    default("stream.heartbeat_s", Seconds(1), "10", "Between two signs of life on an open stream."),
    default("stream.retention_s", Seconds(0), "86400", "How long exact replay and idempotency keys are kept after a turn's end."),
    default("limits.max_body_bytes", Count(1), "1048576", "The longest request body; beyond: 413."),
    default("limits.max_answer_bytes", Count(1), "33554432", "The longest answer, with reasoning, steps and sources; then the turn ends: length."),
    default("limits.max_turn_s", Seconds(1), "1800", "The longest turn; then it ends: timeout."),
    default("limits.connect_s", Seconds(1), "10", "The longest an upstream's connection may take to open."),
    default("limits.first_token_s", Seconds(1), "120", "The longest an upstream may think before its first token."),
    default("limits.idle_s", Seconds(1), "60", "The longest an upstream may be silent after that."),
    default("limits.max_live_turns", Count(1), "10000", "Live turns of the process, queued ones included; beyond: 503 too_many_turns."),
    default("limits.queued_turns", Count(0), "8", "Queued turns of a conversation; beyond: 429 queue_full."),
    default("limits.readers_per_turn", Count(1), "2000", "Readers of a turn that has not ended, and followers of a conversation, on each replica; half of them at most may only read. Beyond: 503 too_many_readers."),
    default("limits.reader_stall_s", Seconds(1), "60", "A reader that takes no byte for so long is gone."),
    default("limits.turn_memory_bytes", Count(1), "1048576", "A turn's log and fold in memory; what is older and saved is read from the journal."),
    default("limits.unsaved_s", Seconds(1), "30", "The longest an event may stay unsaved; then the turn ends: failed."),
    default("limits.unsaved_bytes", Count(1), "67108864", "Unsaved events of the whole process; beyond, turns end: failed."),
    default("limits.grace_s", Seconds(0), "30", "How long turns may go on after SIGTERM."),
    default("limits.drain_delay_s", Seconds(0), "0", "Between `/readyz` 503 and the closing of the listener."),
    default("limits.metadata_bytes", Count(2), "16384", "The largest `metadata`, as JSON."),
    default("limits.context_bytes", Count(2), "65536", "The largest `context`, as JSON."),
    default("limits.instructions_bytes", Count(1), "65536", "The longest `config.instructions` of a conversation."),
    default("limits.history_bytes", Count(1), "4194304", "The most of a conversation, newest first, that is read to be sent to a model, which may read less: `window`."),
    default("limits.database_s", Seconds(1), "5", "The longest any one use of the database may take."),
    default("limits.upstream_event_bytes", Count(1), "1048576", "The longest event of an upstream's stream."),
    default("window.tokens", Count(1), "128000", "The tokens of a call, prompt and answer together, of a model that `window.models` does not name and that is not well-known."),
    default("window.models", Map, "{}", "The same by model: a name or a glob = tokens."),
    default("window.answer_tokens", Count(0), "4096", "Of these, kept free for an answer without `max_tokens`; at most a quarter of them."),
    sample("window.summary_model", Text, r#""gpt-4o-mini""#, "A cheaper model that summarises the turns that do not fit any more; absent: they are left out without."),
    default("upstreams.*.name", Text, r#""demo""#, "Its name in logs and metrics; no two have the same."),
    default("upstreams.*.kind", Text, r#""demo""#, "openai (and whatever speaks like it), or demo: built in, offline."),
    sample("upstreams.*.base_url", Text, r#""https://api.openai.com/v1""#, "Where it is; needed for openai."),
    sample("upstreams.*.api_key", Text, r#""sk-…""#, "Its API key, here,"),
    sample("upstreams.*.api_key_env", Text, r#""OPENAI_API_KEY""#, "or in an environment variable,"),
    sample("upstreams.*.api_key_file", Text, r#""openai.key""#, "or in a file; at most one of the three."),
    default("upstreams.*.models", List, r#"["demo"]"#, "The models it serves, as globs; absent: all."),
    default("upstreams.*.rename", Map, "{}", "Our model name = theirs."),
    default("upstreams.*.headers", Map, "{}", "Headers sent along."),
    default("upstreams.*.extra_body", Map, "{}", "Fields set in the request's body, over our own."),
    sample("upstreams.*.proxy", Text, r#""http://127.0.0.1:3128""#, "The proxy to go through; calls then take the general HTTP client."),
    sample("upstreams.*.ca_file", Text, r#""ca.pem""#, "A PEM file of further certificate authorities."),
    default("upstreams.*.http2", Flag, "false", "Speak HTTP/2 from the first byte, even without TLS; calls then take the general HTTP client."),
    sample("upstreams.*.connect_s", Seconds(1), "10", "Instead of `limits.connect_s`."),
    sample("upstreams.*.first_token_s", Seconds(1), "120", "Instead of `limits.first_token_s`."),
    sample("upstreams.*.idle_s", Seconds(1), "60", "Instead of `limits.idle_s`."),
    sample("prices.*.model", Text, r#""gpt-4o*""#, "The models it is for: a name, or a glob."),
    sample("prices.*.valid_from", Text, r#""2026-01-01""#, "The day it holds from, in UTC."),
    sample("prices.*.prompt_nano_usd_per_mtok", Count(0), "2500000000", "A million tokens of the prompt, in nano-USD: here 2.50 USD."),
    sample("prices.*.completion_nano_usd_per_mtok", Count(0), "10000000000", "Of the completion."),
    sample("prices.*.cached_nano_usd_per_mtok", Count(0), "1250000000", "Of the prompt's, those read from the provider's cache; absent: the prompt's."),
    sample("prices.*.cache_write_nano_usd_per_mtok", Count(0), "2500000000", "Of the prompt's, those written to the provider's cache; absent: the prompt's."),
    sample("prices.*.reasoning_nano_usd_per_mtok", Count(0), "10000000000", "Of the completion's, those spent on reasoning; absent: the completion's."),
];
