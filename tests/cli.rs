//! The program from outside: its exit codes, its one-line errors, its first lines.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is how a test fails")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rcgen::generate_simple_self_signed;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A hang, not a wait.
const HANG: Duration = Duration::from_secs(60);

/// The program in an empty directory, with nothing of ours in its environment.
fn tidegate(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env_clear().current_dir(home).stdin(Stdio::null());
    command
}

fn run(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    finish(tidegate(home, arguments).output().unwrap())
}

fn finish(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    url: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        Self { child, stdout, url }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit code, the rest of its stdout, its stderr.
    fn end(mut self) -> (i32, String, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begin.elapsed() > HANG {
                self.child.kill().unwrap();
                panic!("it does not end");
            }
            std::thread::yield_now();
        };
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status.code().unwrap_or(-1), stdout, stderr)
    }
}

fn one_line(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "one line: {text:?}");
    line
}

#[test]
fn a_setting_that_is_unknown_or_impossible_exits_2_with_one_line() {
    let home = TempDir::new().unwrap();
    for (text, said) in [
        ("[limits]\nmax_boddy_bytes = 1\n", "tidegate: bad.toml: `limits.max_boddy_bytes` is no setting"),
        ("[cluster]\nlease_s = 0\n", "tidegate: bad.toml: `cluster.lease_s` must be at least 1"),
        ("[tls]\ncert_file = \"x\"\n", "tidegate: bad.toml: `tls.key_file` is missing"),
        (
            "[cluster]\nredis_url = \"x\"\n",
            "tidegate: bad.toml: `cluster.redis_url` must be redis://host:port/db, or rediss:// for TLS",
        ),
        ("[[prices]]\nmodel = \"x\"\n", "tidegate: bad.toml: `prices.0` is wrong: missing field `valid_from`"),
        ("= 1\n", "tidegate: bad.toml:1: "),
    ] {
        fs::write(home.path().join("bad.toml"), text).unwrap();
        for arguments in [
            &["serve", "--config", "bad.toml"][..],
            &["--config", "bad.toml"],
            &["config", "check", "bad.toml"],
            &["migrate", "--config", "bad.toml"],
        ] {
            let (code, stdout, stderr) = run(home.path(), arguments);
            assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?} with {text:?}: {stderr}");
            assert!(one_line(&stderr).starts_with(said), "{stderr}");
        }
    }
    let (code, _, stderr) = run(home.path(), &["--config", "absent.toml"]);
    assert_eq!(code, 2);
    assert!(one_line(&stderr).starts_with("tidegate: absent.toml: cannot be read"), "{stderr}");
}

#[test]
fn a_certificate_that_cannot_be_used_exits_2_with_the_setting_and_the_file() {
    let home = TempDir::new().unwrap();
    let names = || ["localhost".to_owned()];
    let (one, other) = (generate_simple_self_signed(names()).unwrap(), generate_simple_self_signed(names()).unwrap());
    let (cert, key) = (one.cert.pem(), one.signing_key.serialize_pem());
    let (no_cert, no_key) =
        ("`tls.cert_file` holds no certificate", "`tls.key_file` holds no private key in PEM (key.pem)");
    let locked = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let torn = &key[..key.len() / 2];
    fs::write(home.path().join("tidegate.toml"), "[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n").unwrap();
    for (cert, key, said) in [
        (None, Some(key.as_str()), "`tls.cert_file` cannot be read (cert.pem): "),
        (Some(cert.as_str()), None, "`tls.key_file` cannot be read (key.pem): "),
        (Some("no PEM"), Some(&key), &format!("{no_cert} in PEM (cert.pem)")),
        (Some(&key), Some(&key), &format!("{no_cert} in PEM (cert.pem)")),
        (Some(broken), Some(&key), &format!("{no_cert} that can be used (cert.pem): ")),
        (Some(&cert), Some("no PEM"), no_key),
        (Some(&cert), Some(&cert), no_key),
        (Some(&cert), Some(torn), "`tls.key_file` is not PEM (key.pem): "),
        (Some(&cert), Some(&locked), "`tls.key_file` is encrypted (key.pem)"),
        (
            Some(&cert),
            Some(&other.signing_key.serialize_pem()),
            "`tls.key_file` does not fit: key.pem is not the key of cert.pem",
        ),
    ] {
        for (name, text) in [("cert.pem", cert), ("key.pem", key)] {
            let path = home.path().join(name);
            match text {
                Some(text) => fs::write(path, text).unwrap(),
                None => drop(fs::remove_file(path)),
            }
        }
        for arguments in [&["--config", "tidegate.toml"][..], &["config", "check", "tidegate.toml"]] {
            let (code, stdout, stderr) = run(home.path(), arguments);
            assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
            assert!(one_line(&stderr).starts_with(&format!("tidegate: {said}")), "{stderr} is not {said}");
        }
    }
    assert!(!home.path().join("tidegate.db").exists());
}

#[test]
fn a_bad_variable_or_flag_exits_2_with_one_line() {
    let home = TempDir::new().unwrap();
    let output = tidegate(home.path(), &["serve"]).env("TIDEGATE_STREAM__HEARTBEAT_S", "often").output();
    let (code, _, stderr) = finish(output.unwrap());
    assert_eq!(code, 2);
    assert!(one_line(&stderr).contains("TIDEGATE_STREAM__HEARTBEAT_S: `stream.heartbeat_s` "), "{stderr}");
    let (code, _, stderr) = run(home.path(), &["--listen", "0.0.0.0:0"]);
    assert_eq!(code, 2);
    assert!(one_line(&stderr).contains("--listen: `listen` "), "{stderr}");
}

#[test]
fn a_command_line_that_cannot_be_read_exits_2() {
    let home = TempDir::new().unwrap();
    for arguments in [&["sreve"][..], &["--lisen", "x"], &["config"], &["config", "check"]] {
        assert_eq!(run(home.path(), arguments).0, 2, "{arguments:?}");
    }
}

#[test]
fn a_shell_completes_its_commands() {
    let home = TempDir::new().unwrap();
    let (code, script, stderr) = run(home.path(), &["completions", "bash"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    fs::write(home.path().join("completions"), script).unwrap();
    let completed = "source ./completions; COMP_WORDS=(tidegate mi); COMP_CWORD=1; _tidegate tidegate mi tidegate; \
        echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash").args(["-c", completed]).current_dir(home.path()).output().unwrap();
    assert_eq!(finish(bash), (0, "migrate\n".to_owned(), String::new()));
    assert_eq!(run(home.path(), &["completions", "none"]).0, 2);
}

#[test]
fn the_example_is_a_file_that_passes_the_check() {
    let home = TempDir::new().unwrap();
    let (code, example, stderr) = run(home.path(), &["config", "example"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    fs::write(home.path().join("example.toml"), example).unwrap();
    let (code, stdout, stderr) = run(home.path(), &["config", "check", "example.toml"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "example.toml: good\n", ""));
}

#[test]
fn an_unknown_variable_is_a_warning_on_stderr() {
    let home = TempDir::new().unwrap();
    fs::write(home.path().join("good.toml"), "").unwrap();
    let output = tidegate(home.path(), &["config", "check", "good.toml"]).env("TIDEGATE_LISTNE", "x").output();
    let (code, _, stderr) = finish(output.unwrap());
    assert_eq!(code, 0);
    assert_eq!(stderr, "warning: TIDEGATE_LISTNE names no setting; the nearest is TIDEGATE_LISTEN\n");

    let mut command = tidegate(home.path(), &["--listen", "127.0.0.1:0"]);
    command.env("TIDEGATE_LISTNE", "x");
    let server = Running::start(command);
    server.signal(Signal::TERM);
    let (code, _, stderr) = server.end();
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("TIDEGATE_LISTNE names no setting"), "{stderr}");
}

#[test]
fn it_serves_without_a_command_and_says_where_and_stops_cleanly() {
    let home = TempDir::new().unwrap();
    for (arguments, signal) in [
        (&["--listen", "127.0.0.1:0"][..], Signal::TERM),
        (&["serve", "--listen", "127.0.0.1:0", "--database-url", "sqlite://own.db"], Signal::INT),
    ] {
        let server = Running::start(tidegate(home.path(), arguments));
        let address = server.url.strip_prefix("http://").unwrap();
        assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{address}");
        std::net::TcpStream::connect(address).unwrap();
        server.signal(signal);
        let url = server.url.clone();
        let (code, stdout, stderr) = server.end();
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.starts_with(&format!("curl --no-buffer {url}/v1/chat/stream ")), "{stdout}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn it_takes_as_many_open_files_as_it_may() {
    let home = TempDir::new().unwrap();
    let server = Running::start(tidegate(home.path(), &["--listen", "127.0.0.1:0"]));
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut columns = line.split_whitespace();
    assert_eq!(columns.next(), columns.next(), "soft and hard: {line}");
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, 0);
}

#[test]
fn a_hangup_does_not_end_it() {
    let home = TempDir::new().unwrap();
    let mut server = Running::start(tidegate(home.path(), &["--listen", "127.0.0.1:0"]));
    let mut stderr = BufReader::new(server.child.stderr.take().unwrap());
    server.signal(Signal::HUP);
    let mut line = String::new();
    while !line.contains("SIGHUP") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended");
    }
    server.signal(Signal::TERM);
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn a_port_that_is_taken_exits_1_with_one_line() {
    let home = TempDir::new().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    // By then the database was made, and a slow disk is logged on stderr too.
    let mut command = tidegate(home.path(), &["--listen", &address]);
    let (code, stdout, stderr) = finish(command.env("RUST_LOG", "error").output().unwrap());
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(one_line(&stderr).starts_with(&format!("tidegate: cannot listen on {address}: ")), "{stderr}");
}

#[test]
fn logs_are_json_where_asked_and_never_on_stdout() {
    let home = TempDir::new().unwrap();
    for (format, is_json) in [("json", true), ("auto", true), ("pretty", false)] {
        let mut command = tidegate(home.path(), &["--listen", "127.0.0.1:0"]);
        command.env("TIDEGATE_LOG__FORMAT", format);
        let server = Running::start(command);
        server.signal(Signal::TERM);
        let (_, stdout, stderr) = server.end();
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        assert!(stderr.contains("told to stop"), "{stderr}");
        for line in stderr.lines() {
            assert_eq!(serde_json::from_str::<serde_json::Value>(line).is_ok(), is_json, "{format}: {line}");
        }
    }
}
