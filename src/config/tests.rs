use std::collections::BTreeSet;

use serde::de::value::Error as Refused;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

use super::example::example;
use super::keys::KEYS;
use super::load::File;
use super::*;
use crate::domain::quota::{AddressQuota, Quota, Quotas, UserQuota};
use crate::domain::stream::Durability;
use crate::domain::turn::OnDisconnect;
use crate::identity::settings::Widget;

const NOTHING: [(&str, &str); 0] = [];
/// As short as a secret may be.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn file(text: &str) -> File {
    File { name: "tidegate.toml".to_owned(), text: text.to_owned() }
}

fn from_file(text: &str) -> Result<Config, String> {
    load(Some(&file(text)), NOTHING, Flags::default()).map(|loaded| loaded.config).map_err(|error| error.to_string())
}

fn from_environment<const N: usize>(variables: [(&str, &str); N]) -> Result<Config, String> {
    load(None, variables, Flags::default()).map(|loaded| loaded.config).map_err(|error| error.to_string())
}

/// The line that refuses a file, without the file's name.
fn refusal(text: &str) -> String {
    let line = from_file(text).unwrap_err();
    assert!(!line.contains('\n'), "one line: {line:?}");
    line.strip_prefix("tidegate.toml: ").unwrap_or_else(|| panic!("names the file: {line}")).to_owned()
}

#[track_caller]
fn refused(text: &str, setting: &str, why: &str) {
    let line = refusal(text);
    assert!(line.starts_with(&format!("`{setting}` ")) && line.contains(why), "{text:?} gives {line:?}");
}

const OPENAI: &str = "[[upstreams]]\nname = \"local\"\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\n";

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(from_environment([]).unwrap(), Config::default());
    assert_eq!(from_file("").unwrap(), Config::default());
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let text = file("listen = \"127.0.0.1:1\"\ninstructions = \"file\"\n[database]\nurl = \"sqlite://file.db\"\n");
    let environment = [("TIDEGATE_LISTEN", "127.0.0.1:2"), ("TIDEGATE_DATABASE__URL", "sqlite://environment.db")];
    let flags = Flags { listen: Some("127.0.0.1:3".to_owned()), database_url: None };
    let config = load(Some(&text), environment, flags).unwrap().config;
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.database.url, "sqlite://environment.db");
    assert_eq!(config.instructions, "file");
    assert_eq!(config.default_model, "demo");
}

#[test]
fn the_environment_is_read_as_each_key_expects() {
    let config = from_environment([
        ("TIDEGATE_LIMITS__MAX_BODY_BYTES", "2048"),
        ("TIDEGATE_AUTH__ALLOW_PUBLIC_OFF", "true"),
        ("TIDEGATE_INSTRUCTIONS", "3"),
        ("TIDEGATE_STREAM__DURABILITY", "strict"),
        ("TIDEGATE_STREAM__ON_DISCONNECT", "grace:5"),
        ("TIDEGATE_CORS__ALLOWED_ORIGINS", "https://a.example, https://b.example"),
    ])
    .unwrap();
    assert_eq!(config.limits.max_body_bytes, 2048);
    assert!(config.auth.allow_public_off);
    assert_eq!(config.instructions, "3");
    assert_eq!(config.stream.durability, Durability::Strict);
    assert_eq!(config.stream.on_disconnect, OnDisconnect::parse("grace:5").unwrap());
    assert_eq!(config.cors.allowed_origins, ["https://a.example", "https://b.example"]);
}

#[test]
fn a_list_in_the_environment_may_be_json_and_a_glob_in_brackets_is_not() {
    for (text, models) in
        [(r#"["demo","a,b"]"#, vec!["demo", "a,b"]), ("[d]emo", vec!["[d]emo"]), ("demo,x", vec!["demo", "x"])]
    {
        let upstream = [
            ("TIDEGATE_UPSTREAMS__0__NAME", "d"),
            ("TIDEGATE_UPSTREAMS__0__KIND", "demo"),
            ("TIDEGATE_UPSTREAMS__0__MODELS", text),
        ];
        assert_eq!(from_environment(upstream).unwrap().upstreams[0].models, models);
    }
}

#[test]
fn lists_in_the_environment_are_set_by_index_in_the_order_of_numbers() {
    let mut variables = vec![
        ("TIDEGATE_UPSTREAMS__0__NAME".to_owned(), "first"),
        ("TIDEGATE_UPSTREAMS__0__KIND".to_owned(), "openai"),
        ("TIDEGATE_UPSTREAMS__0__BASE_URL".to_owned(), "http://127.0.0.1:9/v1"),
        ("TIDEGATE_UPSTREAMS__0__HEADERS".to_owned(), r#"{"x-team":"tide"}"#),
        ("TIDEGATE_UPSTREAMS__0__EXTRA_BODY".to_owned(), r#"{"top_k":3}"#),
        ("TIDEGATE_UPSTREAMS__1__NAME".to_owned(), "second"),
        ("TIDEGATE_UPSTREAMS__1__KIND".to_owned(), "demo"),
    ];
    variables.extend((0..12).map(|index| (format!("TIDEGATE_UPSTREAMS__1__MODELS__{index}"), "demo")));
    let config = load(None, variables, Flags::default()).unwrap().config;
    assert_eq!(config.upstreams[0].name, "first");
    assert_eq!(config.upstreams[0].headers["x-team"].reveal(), "tide");
    assert_eq!(config.upstreams[0].extra_body["top_k"], 3);
    assert_eq!(config.upstreams[1].models.len(), 12);
}

#[test]
fn the_environment_changes_one_upstream_of_the_file_and_leaves_the_rest() {
    let text = file(OPENAI);
    let environment = [("TIDEGATE_UPSTREAMS__0__BASE_URL", "http://127.0.0.1:10/v1")];
    let config = load(Some(&text), environment, Flags::default()).unwrap().config;
    assert_eq!(config.upstreams[0].name, "local");
    assert_eq!(config.upstreams[0].base_url.as_deref(), Some("http://127.0.0.1:10/v1"));
}

#[test]
fn an_unknown_variable_is_a_warning_that_names_the_nearest() {
    let environment = [("TIDEGATE_LIMITS__MAX_BODDY_BYTES", "1"), ("TIDEGATE_listen", "x"), ("PATH", "/bin")];
    let mut warnings = load(None, environment, Flags::default()).unwrap().warnings;
    warnings.sort();
    assert_eq!(
        warnings[0],
        "TIDEGATE_LIMITS__MAX_BODDY_BYTES names no setting; the nearest is TIDEGATE_LIMITS__MAX_BODY_BYTES"
    );
    assert_eq!(warnings[1], "TIDEGATE_listen names no setting; the nearest is TIDEGATE_LISTEN");
    assert_eq!(warnings.len(), 2);
}

#[test]
fn a_bad_value_in_a_variable_names_the_variable() {
    for (variable, value, setting) in [
        ("TIDEGATE_LIMITS__GRACE_S", "soon", "limits.grace_s"),
        ("TIDEGATE_LIMITS__GRACE_S", "", "limits.grace_s"),
        ("TIDEGATE_LIMITS__MAX_TURN_S", "0", "limits.max_turn_s"),
        ("TIDEGATE_LIMITS__QUEUED_TURNS", "4294967296", "limits.queued_turns"),
        ("TIDEGATE_STREAM__DURABILITY", "lax", "stream.durability"),
        ("TIDEGATE_AUTH__ALLOW_PUBLIC_OFF", "yes", "auth.allow_public_off"),
        ("TIDEGATE_LISTEN", "here", "listen"),
        ("TIDEGATE_DATABASE__URL", "mysql://x", "database.url"),
        ("TIDEGATE_CORS__ALLOWED_ORIGINS", "https://a.example/", "cors.allowed_origins.0"),
        ("TIDEGATE_DEFAULT_MODEL", "gpt", "default_model"),
        ("TIDEGATE_UPSTREAMS__1__NAME", "late", "upstreams.1.name"),
        ("TIDEGATE_UPSTREAMS__0__KIND", "gemini", "upstreams.0.kind"),
        ("TIDEGATE_UPSTREAMS__0__HEADERS", "x", "upstreams.0.headers"),
        ("TIDEGATE_CLUSTER__REDIS_URL", "http://x", "cluster.redis_url"),
    ] {
        let line = from_environment([(variable, value)]).unwrap_err();
        assert!(line.starts_with(&format!("{variable}: `{setting}` ")), "{variable}={value} gives {line}");
    }
    let line = from_environment([("TIDEGATE_CLUSTER__REDIS_URL", "redis://:p4ss@x/first")]).unwrap_err();
    assert!(line.contains("must be redis://") && !line.contains("p4ss"), "{line}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let environment = [(OsStr::new("TIDEGATE_INSTRUCTIONS"), OsStr::from_bytes(b"\xff"))];
    let error = load(None, environment, Flags::default()).unwrap_err();
    assert_eq!(error.to_string(), "TIDEGATE_INSTRUCTIONS: is not UTF-8");
}

#[test]
fn a_bad_flag_is_named() {
    let flags = Flags { listen: Some("8080".to_owned()), database_url: None };
    let line = load(None, NOTHING, flags).unwrap_err().to_string();
    assert_eq!(line, "--listen: `listen` must be an address and a port, such as 127.0.0.1:8080");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for (text, unknown, nearest) in [
        ("[limits]\nmax_boddy_bytes = 1", "limits.max_boddy_bytes", "limits.max_body_bytes"),
        ("max_body_bytes = 1", "max_body_bytes", "limits.max_body_bytes"),
        ("listne = \"x\"", "listne", "listen"),
        ("[stream]\nheartbeat = 1", "stream.heartbeat", "stream.heartbeat_s"),
        ("[databse]\nurl = \"x\"", "databse", "database"),
        ("[limit]\ngrace_s = 1", "limit", "limits"),
        ("[[upstream]]\nname = \"x\"", "upstream", "upstreams"),
        ("\"limits.grace_s\" = 1", "limits.grace_s", "limits.grace_s"),
    ] {
        let expected = format!("`{unknown}` is no setting; the nearest is `{nearest}`");
        assert_eq!(refusal(text), expected, "{text:?}");
    }
    let second = format!("{OPENAI}{}base_ulr = \"x\"\n", OPENAI.replace("local", "other"));
    assert_eq!(refusal(&second), "`upstreams.1.base_ulr` is no setting; the nearest is `upstreams.1.base_url`");
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_the_line() {
    let line = from_file("listen = \"127.0.0.1:1\"\n\nlimits = [\n").unwrap_err();
    assert!(line.starts_with("tidegate.toml:") && !line.contains('\n'), "{line}");
    let line = from_file("\nlisten = 1\nlisten = 2\n").unwrap_err();
    assert!(line.starts_with("tidegate.toml:3: "), "{line}");
}

#[test]
fn impossible_settings_are_refused_by_name() {
    refused("listen = \"nowhere\"", "listen", "address and a port");
    refused("listen = 8080", "listen", "text");
    refused("listen = \"0.0.0.0:8080\"", "listen", "auth.allow_public_off");
    refused("public_url = \"chat.example\"", "public_url", "address");
    refused("public_url = \"ftp://chat.example\"", "public_url", "http");
    refused("default_model = \"gpt\"", "default_model", "no upstream serves");
    refused("[cluster]\nlease_s = 0", "cluster.lease_s", "at least 1");
    refused("[stream]\nheartbeat_s = 0", "stream.heartbeat_s", "at least 1");
    refused("[stream]\nheartbeat_s = 99999999999999", "stream.heartbeat_s", "at most");
    refused("[stream]\non_disconnect = \"maybe\"", "stream.on_disconnect", "grace:SECONDS");
    refused("[stream]\nif_busy = \"wait\"", "stream.if_busy", "interrupt");
    refused("[limits]\nunsaved_s = 0", "limits.unsaved_s", "at least 1");
    refused("[limits]\nunsaved_s = -1", "limits.unsaved_s", "at least 1");
    refused("[limits]\nunsaved_s = 1.5", "limits.unsaved_s", "whole number");
    refused("limits = 1", "limits", "table");
    refused("upstreams = 1", "upstreams", "[[upstreams]]");
    refused("[database]\nurl = \"mysql://u:hush@h/d\"", "database.url", "sqlite");
    refused("[database]\nurl = \"sqlite://\"", "database.url", "sqlite");
    refused("[log]\nformat = \"xml\"", "log.format", "json");
    refused("[auth]\nmode = \"maybe\"", "auth.mode", "required");
    refused("[auth]\nvisitor_token_s = 59", "auth.visitor_token_s", "at least 60");
    refused("[auth]\nmode = \"on\"", "auth.mode", "off");
    refused("[cors]\nallowed_origins = [\"*\"]", "cors.allowed_origins.0", "exact origin");
    refused("[cors]\nallowed_origins = [\"null\"]", "cors.allowed_origins.0", "exact origin");
    refused("[cors]\nallowed_origins = [\"https://A.example/\"]", "cors.allowed_origins.0", "`https://a.example`");
    refused("[cors]\nallowed_origins = [\"https://a.example:443\"]", "cors.allowed_origins.0", "`https://a.example`");
}

#[test]
fn impossible_upstreams_are_refused_by_name() {
    let with = |line: &str| format!("{OPENAI}{line}\n");
    let kind = |kind: &str| OPENAI.replace("openai", kind);
    refused(&format!("{OPENAI}{OPENAI}"), "upstreams.1.name", "taken");
    refused(&OPENAI.replace("local", ""), "upstreams.0.name", "visible");
    refused("[[upstreams]]\nname = \"a\"\nkind = \"openai\"", "upstreams.0.base_url", "missing");
    refused("[[upstreams]]\nname = \"a\"", "upstreams.0", "kind");
    refused(&with("models = []"), "upstreams.0.models", "empty");
    refused(&with("models = [\"a[\"]"), "upstreams.0.models.0", "no glob");
    refused(&with("models = [\"gpt-*\"]"), "default_model", "(gpt-*)");
    refused(&with("connect_s = 0"), "upstreams.0.connect_s", "at least 1");
    refused(&with("headers = { \"a b\" = \"c\" }"), "upstreams.0.headers.a b", "no header");
    refused(&with("proxy = \"socks5://127.0.0.1:1\""), "upstreams.0.proxy", "http");
    refused(&OPENAI.replace("http://", "http://user:hush@"), "upstreams.0.base_url", "password");
    for later in ["anthropic", "gemini", "ollama"] {
        refused(&kind(later), "upstreams.0.kind", &format!("`{later}` is not supported yet"));
    }
    refused(&kind("smoke"), "upstreams.0.kind", "openai");
}

#[test]
fn what_is_empty_is_as_if_it_were_absent() {
    let neutral = "applications = []\nprices = []\n[tls]\n[cluster]\nredis_url = \"\"\n[metrics]\nlisten = \"\"\n\
        [otel]\nendpoint = \"\"\n[conversations]\nexpire_after_s = 0\n\
        [http]\ntrusted_proxies = []\n";
    assert_eq!(from_file(neutral).unwrap(), Config::default());
}

#[test]
fn limits_are_numbers_for_each_scope_and_never_without_effect() {
    let limits = |mode: &str, lines: &str| {
        format!("[auth]\nmode = \"{mode}\"\n[[applications]]\nname = \"shop\"\n[applications.limits]\n{lines}\n")
    };
    let config = from_file(&limits("required", "requests_per_minute = 5\n[applications.limits.per_user]\nstreams = 2"));
    let quotas = &config.unwrap().applications[0].limits;
    assert_eq!((quotas.requests_per_minute, quotas.per_user.streams, quotas.budget_soft_percent), (5, 2, 80));
    let variable = [("TIDEGATE_APPLICATIONS__0__LIMITS__PER_ADDRESS__REQUESTS_PER_MINUTE", "7")];
    assert_eq!(from_environment(variable).unwrap().applications[0].limits.per_address.requests_per_minute, 7);
    let at = |key: &str| format!("applications.0.limits.{key}");
    refused(&limits("required", "concurrent_turns = -1"), &at("concurrent_turns"), "at least 0");
    refused(&limits("required", "tokens_per_minute = \"many\""), &at("tokens_per_minute"), "whole number");
    refused(&limits("required", "budget_soft_percent = 101"), &at("budget_soft_percent"), "at most 100");
    refused(&limits("required", "[applications.limits.per_key]\nstreams = 1"), &at("per_key.streams"), "is no setting");
    // With auth off there is one application, and nobody in it is known.
    refused(&limits("off", "requests_per_minute = 5"), &at("requests_per_minute"), "auth is off");
    let default = limits("off", "requests_per_minute = 5").replace("shop", "default");
    assert_eq!(from_file(&default).unwrap().applications[0].limits.requests_per_minute, 5);
    for line in ["streams_per_visitor = 1", "[applications.limits.per_key]\nconcurrent_turns = 1"] {
        let key = line.rsplit(['.', ']', '\n']).next().unwrap().split(' ').next().unwrap();
        let table = if line.contains("per_key") { "per_key." } else { "" };
        let text = limits("off", line).replace("shop", "default");
        refused(&text, &at(&format!("{table}{key}")), "auth is off");
    }
}

#[test]
fn a_window_is_tokens_by_model() {
    let config = from_file("[window]\ntokens = 9\nmodels = { \"llama-*\" = 8192, small = 5 }").unwrap();
    assert_eq!((config.window.tokens, config.window.models["llama-*"]), (9, 8192));
    let variable = [("TIDEGATE_WINDOW__MODELS", r#"{"a.b*":7}"#)];
    assert_eq!(from_environment(variable).unwrap().window.models["a.b*"], 7);
    refused("[window]\nsummary_model = \"gpt\"", "window.summary_model", "no upstream serves");
    refused("[window]\ntokens = 0", "window.tokens", "at least 1");
    refused("[window]\nmodels = { a = 0 }", "window.models.a", "at least 1");
    refused("[window]\nmodels = { a = \"b\" }", "window.models.a", "wrong");
    refused("[window]\nmodels = { \"a[\" = 1 }", "window.models", "no glob");
}

#[test]
fn a_price_is_whole_or_refused_by_name() {
    let price = |line: &str| {
        format!("[[prices]]\nmodel = \"gpt-*\"\nvalid_from = \"2026-01-01\"\nprompt_nano_usd_per_mtok = 1\n{line}\n")
    };
    let whole = price("completion_nano_usd_per_mtok = 2");
    let config = from_file(&whole).unwrap();
    assert_eq!((config.prices[0].model.as_str(), config.prices[0].completion_nano_usd_per_mtok), ("gpt-*", 2));
    refused(&price(""), "prices.0", "completion_nano_usd_per_mtok");
    refused(&whole.replace("2026-01-01", "soon"), "prices.0.valid_from", "must be a day");
    refused(&whole.replace("gpt-*", "gpt-["), "prices.0.model", "no glob");
    refused(&whole.replace("= 2", "= 2.5"), "prices.0.completion_nano_usd_per_mtok", "whole number");
    refused(&whole.replace("= 2", "= 10000000000001"), "prices.0.completion_nano_usd_per_mtok", "at most");
    refused(&format!("{whole}{whole}"), "prices.1.valid_from", "a second time");
}

#[test]
fn tls_takes_a_certificate_and_a_key() {
    let config = from_file("[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"").unwrap();
    assert_eq!(config.tls.files(), Some((Path::new("cert.pem"), Path::new("key.pem"))));
    refused("[tls]\ncert_file = \"cert.pem\"", "tls.key_file", "is missing");
    refused("[tls]\nkey_file = \"key.pem\"\ncert_file = \"\"", "tls.cert_file", "is missing");
}

#[test]
fn auth_may_be_off_on_loopback_and_where_it_is_allowed() {
    for listen in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        from_file(&format!("listen = \"{listen}\"")).unwrap();
    }
    from_file("listen = \"0.0.0.0:1\"\n[auth]\nallow_public_off = true").unwrap();
}

#[test]
fn the_default_model_stays_where_an_upstream_serves_it() {
    assert_eq!(from_file(OPENAI).unwrap().default_model, "demo");
    let named = format!("default_model = \"org/gpt-4o\"\n{OPENAI}models = [\"org*\"]\n");
    assert_eq!(from_file(&named).unwrap().default_model, "org/gpt-4o");
}

#[test]
fn empty_is_absent_where_a_setting_has_no_default() {
    let text = format!("public_url = \"\"\n{OPENAI}api_key = \"\"\nproxy = \"\"\n");
    let config = from_file(&text).unwrap();
    assert_eq!(config.public_url, None);
    assert_eq!(config.upstreams[0].api_key, None);
    assert_eq!(config.upstreams[0].proxy, None);
    assert_eq!(from_file("public_url = \"https://a.example/\"").unwrap().public_url.unwrap(), "https://a.example");
}

#[test]
fn an_api_key_comes_from_the_environment_or_a_file() {
    let key = |config: Config| config.upstreams[0].api_key.as_ref().map(|key| key.reveal().to_owned());
    let by_name = file(&format!("{OPENAI}api_key_env = \"THE_KEY\"\n"));
    let config = load(Some(&by_name), [("THE_KEY", "sk-1\n")], Flags::default()).unwrap().config;
    assert_eq!(key(config).as_deref(), Some("sk-1"));
    let config = load(Some(&by_name), [("THE_KEY", "")], Flags::default()).unwrap().config;
    assert_eq!(key(config), None);
    refused(&by_name.text, "upstreams.0.api_key_env", "`THE_KEY`, which is not set");

    let held = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(held.path(), "sk-2\n").unwrap();
    let by_file = format!("{OPENAI}api_key_file = {:?}\n", held.path());
    assert_eq!(key(from_file(&by_file).unwrap()).as_deref(), Some("sk-2"));
    refused(&format!("{by_file}api_key = \"x\"\n"), "upstreams.0.api_key", "more than once");
    refused(&format!("{OPENAI}api_key_file = \"/no/such\"\n"), "upstreams.0.api_key_file", "cannot be read");
}

#[test]
fn applications_are_each_of_one_name_and_each_widget_of_one_key() {
    let text = format!(
        "[[applications]]\nname = \"shop\"\njwt_secret = \" {SECRET} \"\n[[applications.widgets]]\nkey = \"wk_1\"\n\
         origins = [\"https://shop.example\"]\n[[applications]]\nname = \"bank\"\nvisitors = false\n",
    );
    let config = from_file(&text);
    let [shop, bank] = config.unwrap().applications.try_into().unwrap();
    assert_eq!((shop.jwt_secret, shop.visitors, shop.widgets.len()), (Some(SECRET.into()), true, 1));
    assert_eq!((bank.name.as_str(), bank.visitors, bank.widgets.len()), ("bank", false, 0));
    let one = |rest: &str| format!("[[applications]]\nname = \"a\"\n{rest}");
    let widget = |key: &str, rest: &str| format!("[[applications.widgets]]\nkey = \"{key}\"\n{rest}\n");
    let twice = format!("{}{}", widget("wk_1", ""), widget("wk_1", ""));
    refused(&format!("{}{}", one(""), one("")), "applications.1.name", "taken");
    refused(&one(&twice), "applications.0.widgets.1.key", "taken");
    refused(&one(&widget("key", "")), "applications.0.widgets.0.key", "`wk_`");
    refused(&one(&widget("wk_1", "origins = [\"*\"]")), "applications.0.widgets.0.origins.0", "exact origin");
    refused(&one(&widget("wk_1", "models = [\"[\"]")), "applications.0.widgets.0.models.0", "glob");
    refused(&one("jwks_url = \"ftp://x\""), "applications.0.jwks_url", "http");
    refused(&one("jwks_url = \"https://x\"\njwt_secret = \"s\""), "applications.0.jwt_secret", "keep one");
    let twins = format!("[[applications]]\nname = \"b\"\njwt_secret = \"{SECRET}\"\njwt_audience = \"x\"\n");
    let shares = |rest: &str| format!("{}{twins}", one(&format!("jwt_secret = \"{SECRET}\"\n{rest}\n")));
    refused(&shares("jwt_audience = \"x\""), "applications.1.jwt_audience", "the same signer");
    assert!(from_file(&shares("jwt_audience = \"y\"")).is_ok());
    refused(&one("jwt_secret_env = \"NOT_SET_AT_ALL\""), "applications.0.jwt_secret_env", "not set");
    // By its bytes, and by the setting that has it.
    refused(&one(&format!("jwt_secret = \"{}\"", &SECRET[1..])), "applications.0.jwt_secret", "fewer than 32 bytes");
    let held = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(held.path(), format!("  {}\n", &SECRET[1..])).unwrap();
    refused(&one(&format!("jwt_secret_file = {:?}", held.path())), "applications.0.jwt_secret_file", "fewer than 32");
}

#[test]
fn secrets_are_not_printed() {
    let text = format!(
        "[database]\nurl = \"postgres://user:hush@host/db\"\n{OPENAI}api_key = \"hush\"\n\
         headers = {{ x-key = \"hush\" }}\nproxy = \"http://user:hush@127.0.0.1:1\"\n\
         [[applications]]\njwt_secret = \"hush, and hush again, and once more\"\n"
    );
    let printed = format!("{:?}", from_file(&text).unwrap());
    assert!(!printed.contains("hush"), "{printed}");
    for wrong in ["[database]\nurl = \"mysql://user:hush@host/db\"", "[database]\nurl = [\"hush\"]"] {
        assert!(!refusal(wrong).contains("hush"));
    }
}

#[test]
fn the_example_is_the_default() {
    assert_eq!(from_file(&example()).unwrap(), Config::default());
}

#[test]
fn what_the_example_comments_out_is_known_and_of_the_right_type() {
    let example = example();
    let all = example.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
        Some(_) | None => format!("{line}\n"),
    });
    let tree: toml::Table = all.collect::<String>().parse().unwrap();
    assert_eq!(tree::check(&tree), Ok(()));
    let upstream = tree["upstreams"][0].as_table().unwrap();
    assert_eq!(upstream.len(), fields::<Settings>().len());
}

#[test]
fn every_field_has_its_key_and_every_supported_key_its_field() {
    let sections = [
        ("tls.", fields::<Tls>()),
        ("database.", fields::<Database>()),
        ("cluster.", fields::<Cluster>()),
        ("auth.", fields::<Auth>()),
        ("cors.", fields::<Cors>()),
        ("http.", fields::<Http>()),
        ("metrics.", fields::<Metrics>()),
        ("otel.", fields::<Otel>()),
        ("log.", fields::<Log>()),
        ("conversations.", fields::<Conversations>()),
        ("stream.", fields::<Stream>()),
        ("limits.", fields::<Limits>()),
        ("applications.*.", fields::<Application>()),
        ("applications.*.widgets.*.", fields::<Widget>()),
        ("applications.*.limits.", fields::<Quotas>()),
        ("applications.*.limits.per_key.", fields::<Quota>()),
        ("applications.*.limits.per_user.", fields::<UserQuota>()),
        ("applications.*.limits.per_visitor.", fields::<Quota>()),
        ("applications.*.limits.per_address.", fields::<AddressQuota>()),
        ("window.", fields::<Window>()),
        ("upstreams.*.", fields::<Settings>()),
        ("prices.*.", fields::<Price>()),
    ];
    let is_section = |name: &str| sections.iter().any(|(section, _)| section.split('.').next() == Some(name));
    let top = fields::<Config>().into_iter().filter(|name| !is_section(name)).map(str::to_owned);
    let nested = sections.iter().flat_map(|(section, names)| names.iter().map(move |name| format!("{section}{name}")));
    let is_table = |name: &str| name.starts_with("applications.*.limits.per_") && name.matches('.').count() == 3;
    let is_own = |name: &String| !matches!(name.as_str(), "applications.*.widgets" | "applications.*.limits");
    let fields = top.chain(nested).filter(|name| is_own(name) && !is_table(name));
    let fields: BTreeSet<String> = fields.collect();
    let keys: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(fields, keys);
}

/// The names of a struct's fields, as serde reads them.
fn fields<T: for<'de> Deserialize<'de>>() -> Vec<&'static str> {
    struct Names<'a>(&'a mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = Refused;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
            Err(Refused::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Refused> {
            self.0.extend(fields);
            Err(Refused::custom("that is all"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names = Vec::new();
    assert!(T::deserialize(Names(&mut names)).is_err());
    assert!(!names.is_empty());
    names
}
