//! `Dockerfile` and `compose.yaml`: linted, since no engine is needed for that, and run as far as they name this program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Database, Gateway, Kind, Redis};
use crate::{content, file, longest_end, path, settings};

/// The instructions of the Dockerfile: word and rest, each on one line.
fn instructions() -> Vec<(String, String)> {
    let text = file("Dockerfile").replace("\\\n", "");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parts = lines.map(|line| line.split_once(' ').unwrap());
    parts.map(|(word, rest)| (word.to_owned(), rest.trim().to_owned())).collect()
}

/// What one of them says that is there once, or last.
#[track_caller]
fn last(word: &str) -> String {
    let found = instructions().into_iter().rfind(|(name, _)| name == word);
    found.unwrap_or_else(|| panic!("no {word}")).1
}

/// A list of words as JSON.
fn words(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap()
}

/// The Compose file, with its anchors put in place.
fn compose() -> Value {
    let script = "import json, ruamel.yaml, sys; json.dump(ruamel.yaml.YAML(typ='safe').load(sys.stdin), sys.stdout)";
    let read = std::fs::File::open(path("deploy/compose.yaml")).unwrap();
    // check-jsonschema's own Python has what it reads YAML with.
    serde_json::from_str(&content(Command::new("python3").args(["-c", script]).stdin(read))).unwrap()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

/// The services that are replicas of ours.
fn replicas(compose: &Value) -> Vec<(&str, &Value)> {
    let services = compose["services"].as_object().unwrap().iter();
    services.filter(|(_, service)| service["image"] == "tidegate").map(|(name, it)| (name.as_str(), it)).collect()
}

/// What Compose makes of `${NAME:-default}` and `${NAME:?why}`.
fn filled(text: &str, variables: &BTreeMap<&str, &str>) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (inside, after) = rest.split_once('}').unwrap();
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside.split_once(":?").map_or(inside, |(name, _)| name), None),
    };
    let value = variables.get(name).copied().or(default).unwrap_or_else(|| panic!("{name} has no value"));
    format!("{before}{value}{}", filled(after, variables))
}

/// The variables of a replica, with its secrets in a folder of the test's.
fn variables(service: &Value, secrets: &Path) -> Vec<(String, String)> {
    let given = BTreeMap::from([("SITE", "chat.example")]);
    let here = |value: &str| value.replace("/run/secrets", secrets.to_str().unwrap());
    let image = instructions().into_iter().filter(|(word, _)| word == "ENV").map(|(_, pair)| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    let own = service["environment"].as_object().unwrap().iter();
    let own = own.map(|(name, value)| (name.clone(), here(&filled(value.as_str().unwrap(), &given))));
    image.chain(own).collect()
}

/// A folder with every secret the Compose file names.
fn secrets(compose: &Value) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in keys(&compose["secrets"]) {
        std::fs::write(folder.path().join(name), "0123456789abcdef0123456789abcdef").unwrap();
    }
    folder
}

#[test]
fn linters_find_nothing_in_the_dockerfile_and_the_compose_file() {
    let hadolint = ["--no-color", "--failure-threshold", "style"];
    assert_eq!(content(Command::new("hadolint").args(hadolint).arg(path("deploy/Dockerfile"))), "");
    let schema = ["--builtin-schema", "vendor.compose-spec"];
    content(Command::new("check-jsonschema").args(schema).arg(path("deploy/compose.yaml")));
}

#[test]
fn the_image_is_built_with_this_rust_from_these_sources_and_runs_as_nobody() {
    let manifest: toml::Table = std::fs::read_to_string(path("Cargo.toml")).unwrap().parse().unwrap();
    let rust = manifest["package"]["rust-version"].as_str().unwrap();
    let stages: Vec<String> =
        instructions().into_iter().filter(|(word, _)| word == "FROM").map(|(_, from)| from).collect();
    assert_eq!(stages, [format!("rust:{rust}-bookworm AS build"), "debian:bookworm-slim".to_owned()]);
    let (user, group) = last("USER").split_once(':').map(|(user, group)| (user.to_owned(), group.to_owned())).unwrap();
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
    assert_eq!(last("STOPSIGNAL"), "SIGTERM");

    // The sources that reach the engine are a whole package, by the lock that is kept.
    let sources = TempDir::new().unwrap();
    let allowed = file("Dockerfile.dockerignore");
    let allowed: Vec<&str> = allowed.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for name in &allowed {
        content(Command::new("cp").arg("-r").arg(path(name)).arg(sources.path()));
    }
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--format-version", "1", "--locked", "--quiet"]);
    content(metadata.current_dir(sources.path()));
    let mut named = Command::new("grep");
    named.args(["-rhoE", r#"include_(str|bytes)!\((concat!\()?"[^"]+"#, "src"]).current_dir(path("."));
    for line in content(&mut named).lines() {
        let (_, name) = line.split_once('"').unwrap();
        let outside = name.rsplit("../").next().unwrap().split('/').next().unwrap();
        let inside = !name.starts_with("..") || allowed.contains(&outside) || path("src").join(outside).exists();
        assert!(inside, "{name} does not reach the engine");
    }
}

#[test]
fn what_the_compose_file_names_is_there() {
    let compose = compose();
    let services = keys(&compose["services"]);
    assert_eq!(replicas(&compose).len(), 3);
    for (name, service) in compose["services"].as_object().unwrap() {
        assert!(keys(&service["depends_on"]).is_subset(&services), "{name}");
        assert!(list(&service["networks"]).iter().all(|network| compose["networks"].get(network).is_some()), "{name}");
        let secrets: BTreeSet<&str> = list(&service["secrets"]).into_iter().collect();
        assert!(secrets.is_subset(&keys(&compose["secrets"])), "{name}");
        for value in service["environment"].as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str()) {
            if let Some(secret) = value.strip_prefix("/run/secrets/") {
                assert!(secrets.contains(secret), "{name} does not get the secret {secret}");
            }
        }
        for volume in list(&service["volumes"]) {
            let from = volume.split(':').next().unwrap();
            let there = match from.strip_prefix("./") {
                Some(file) => path("deploy").join(file).is_file(),
                None => compose["volumes"].get(from).is_some(),
            };
            assert!(there, "{name} has no {from}");
        }
        assert_eq!(service.get("ports").is_some(), name == "proxy", "{name}: only the proxy is open to others");
        let pinned = service["image"].as_str().unwrap();
        assert!(pinned == "tidegate" || pinned.contains(':'), "{pinned}: which version?");
    }
    let build = &replicas(&compose)[0].1["build"];
    assert!(path("deploy").join(build["context"].as_str().unwrap()).join("Cargo.toml").is_file());
    assert_eq!(build["dockerfile"], "deploy/Dockerfile");
    let port = last("EXPOSE");
    let listed = replicas(&compose).into_iter().map(|(name, _)| format!("{name}:{port}")).collect::<Vec<_>>();
    assert_eq!(compose["services"]["proxy"]["environment"]["REPLICAS"], listed.join(" "));
}

#[test]
fn the_settings_of_the_replicas_are_known_and_they_have_time_to_end() {
    let compose = compose();
    let folder = secrets(&compose);
    for (name, service) in replicas(&compose) {
        let config = settings(&file("tidegate.toml"), &variables(service, folder.path()));
        assert_eq!(config.listen.port().to_string(), last("EXPOSE"), "{name}");
        assert!(config.database.url.starts_with("postgres://"), "{name}");
        let others = [&config.database.url, config.cluster.redis_url.as_ref().unwrap()];
        for url in others.map(|url| url::Url::parse(url).unwrap()) {
            assert!(service["depends_on"].get(url.host_str().unwrap()).is_some(), "{name}: {url}");
        }
        let grace = service["stop_grace_period"].as_str().unwrap().strip_suffix('s').unwrap();
        assert!(Duration::from_secs(grace.parse().unwrap()) > longest_end(&config), "{name}");
        let subnet = &compose["networks"]["front"]["ipam"]["config"][0]["subnet"];
        assert_eq!(service["environment"]["TIDEGATE_HTTP__TRUSTED_PROXIES"], *subnet, "{name}");
    }
}

#[tokio::test]
async fn the_image_starts_the_program_and_knows_whether_it_lives() {
    let compose = compose();
    let (folder, database, redis) = (secrets(&compose), Database::of(Kind::Postgres), Redis::start());
    let (_, service) = replicas(&compose)[0];
    assert_eq!(words(&last("ENTRYPOINT")), ["/usr/local/bin/tidegate"]);
    assert_eq!(words(&last("CMD")), ["serve"]);
    // What the support starts: `serve --config FILE`.
    let command = list(&service["command"]);
    assert_eq!((command[..2].to_vec(), command.len()), (vec!["serve", "--config"], 3));
    let mounted = format!("./tidegate.toml:{}:ro", command[2]);
    assert!(list(&service["volumes"]).contains(&mounted.as_str()), "{mounted}");

    let mut setup = Gateway::on(&database).text_of(&file("tidegate.toml"));
    for (name, value) in variables(service, folder.path()) {
        setup = setup.env(&name, &value);
    }
    let setup = setup.env("TIDEGATE_CLUSTER__REDIS_URL", &redis.url());
    let setup = setup.env("TIDEGATE_DATABASE__URL", &database.url()).env("TIDEGATE_LIMITS__DRAIN_DELAY_S", "0");
    let setup = setup.env("TIDEGATE_LISTEN", "127.0.0.1:0").env("TIDEGATE_METRICS__LISTEN", "127.0.0.1:0");
    let mut gateway = setup.start().await;
    let (_, asks) =
        last("HEALTHCHECK").split_once("CMD ").map(|(flags, asks)| (flags.to_owned(), asks.to_owned())).unwrap();
    let asks = words(&asks).into_iter().map(|word| {
        let port = last("EXPOSE");
        word.replace(&format!("/{port} "), &format!("/{} ", gateway.address().port()))
    });
    let asks: Vec<String> = asks.collect();
    let lives = || Command::new(&asks[0]).args(&asks[1..]).output().unwrap().status.success();
    assert!(lives(), "{asks:?}");
    gateway.terminate();
    assert!(gateway.exit().await.success(), "{}", gateway.log());
    assert!(!lives());
}
