//! `tidegate chat`, as a shell has it.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Certificate, Foreign, Gate, Scene, Script, assert_stamps, eventually, program};

/// A running `tidegate chat`.
struct Chat {
    program: Foreign,
    home: TempDir,
}

impl Chat {
    /// Starts it with a question in its pipe.
    fn ask(scene: &Scene, question: &str, more: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(["chat", "--url", &scene.gateway.url()]).args(more);
        Self::start(command, question)
    }

    fn start(mut command: Command, question: &str) -> Self {
        let home = TempDir::new().unwrap();
        let file = |name: &str| File::create(home.path().join(name)).unwrap();
        command.stdin(Stdio::piped()).stdout(file("out")).stderr(file("err"));
        let mut program = Foreign::start(&mut command);
        program.child.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
        Self { program, home }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.path().join(name)).unwrap()
    }

    async fn says(&self, end: &str) {
        eventually("the answer", async || self.read("out").ends_with(end).then_some(())).await;
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.program.child), Signal::INT).unwrap();
    }

    /// Its exit code, what it wrote, and what it said beside that.
    async fn end(mut self) -> (i32, String, String) {
        let status = eventually("its end", async || self.program.child.try_wait().unwrap()).await;
        (status.code().unwrap_or(-1), self.read("out"), self.read("err"))
    }
}

/// The newest message of the only conversation.
async fn saved(scene: &Scene) -> Value {
    let list = scene.client.get("/v1/conversations").await.expect(200);
    let [conversation] = list["data"].as_array().unwrap().as_slice() else { panic!("{list}") };
    let path = format!("/v1/conversations/{}/messages", conversation["id"].as_str().unwrap());
    scene.client.get(&path).await.expect(200)["data"].as_array().unwrap().last().unwrap().clone()
}

#[tokio::test]
async fn in_a_pipe_the_answer_is_all_there_is_on_standard_output() {
    let fake = vec!["test-model"];
    let scene = Scene::with(|setup| setup.demo().set("upstreams.0.models", fake).set("default_model", "demo")).await;
    let (code, out, err) = Chat::ask(&scene, "Think, and show me a table.\n", &[]).end().await;
    let message = saved(&scene).await;
    assert_eq!((code, out), (0, format!("{}\n", message["content"].as_str().unwrap())));
    for said in ["· demo …", "    · Search the library …", "Height of the tide today", "[1] ", "https://example.com/"]
    {
        assert!(err.contains(said), "{said}: {err}");
    }
    assert!(!err.contains('\u{1b}'), "{err}");
    let id = message["conversation_id"].as_str().unwrap();
    let (code, out, _) = Chat::ask(&scene, "And now?", &["--conversation", id]).end().await;
    assert!(code == 0 && out.contains("saw 2 earlier messages"), "{out}");
}

#[tokio::test]
async fn a_gateway_that_is_killed_under_it_is_asked_no_second_time() {
    let mut scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().role().stamped(40).gate(&gate).stamped(40).finish("stop").done());
    let chat = Chat::ask(&scene, "go", &[]);
    chat.says("[39]").await;
    scene.gateway.kill();
    scene.gateway.restart().await;
    let (code, out, err) = chat.end().await;
    let message = saved(&scene).await;
    assert_eq!((code, &message["status"]), (1, &json!("interrupted")));
    assert!(out.starts_with(message["content"].as_str().unwrap()), "{out}");
    assert!(err.contains("picking it up again") && err.ends_with("tidegate: the answer is interrupted\n"), "{err}");
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_yet_is_waited_for() {
    let mut scene = Scene::new().await;
    scene.upstream.push(Script::new().role().stamped(9).finish("stop").done());
    scene.gateway.kill();
    let chat = Chat::ask(&scene, "go", &[]);
    eventually("it to wait", async || chat.read("err").contains("Nobody answers there").then_some(())).await;
    scene.gateway.restart().await;
    let (code, out, _) = chat.end().await;
    assert_eq!((code, assert_stamps(out.trim_end())), (0, 9));
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test]
async fn an_interrupt_stops_the_turn_and_a_second_one_leaves() {
    let scene = Scene::new().await;
    scene.upstream.push(Script::new().role().stamped(5).hang());
    let chat = Chat::ask(&scene, "go", &[]);
    chat.says("[4]").await;
    chat.interrupt();
    let (code, out, err) = chat.end().await;
    assert_eq!((code, assert_stamps(out.trim_end())), (1, 5));
    assert!(err.ends_with("tidegate: the answer is stopped\n"), "{err}");
    assert_eq!(saved(&scene).await["stopped_by"], "request");

    // Where stopping takes long it can be left.
    scene.upstream.push(Script::new().role().stamped(5).hang());
    let chat = Chat::ask(&scene, "go", &[]);
    chat.says("[4]").await;
    scene.gateway.freeze();
    chat.interrupt();
    eventually("it to stop", async || chat.read("err").contains("Stopping").then_some(())).await;
    chat.interrupt();
    assert_eq!(chat.end().await.0, 0);
    scene.gateway.thaw();
}

#[tokio::test]
async fn what_it_cannot_ask_is_one_line_and_exit_1() {
    let scene = Scene::new().await;
    for (question, more, said) in [
        (" \n", &[][..], "tidegate: standard input holds no question\n"),
        (
            "go",
            &["--conversation", "conv_00000000000000000000000000000000"],
            "tidegate: There is no such conversation.\n",
        ),
        ("go", &["--url", "ftp://127.0.0.1"], "tidegate: `--url`: must begin with http:// or https://\n"),
    ] {
        let mut command = Command::new(program());
        command.arg("chat").args(more);
        if !more.contains(&"--url") {
            command.args(["--url", &scene.gateway.url()]);
        }
        let (code, out, err) = Chat::start(command, question).end().await;
        assert_eq!((code, out.as_str(), err.as_str()), (1, "", said));
    }
}

#[tokio::test]
async fn a_gateway_that_is_not_who_it_should_be_is_named_and_not_asked_again() {
    let certificate = Certificate::fresh();
    let scene = Scene::with(|setup| setup.tls(&certificate)).await;
    let (code, out, err) = Chat::ask(&scene, "go", &[]).end().await;
    assert_eq!((code, &*out), (1, ""), "{err}");
    assert!(err.contains("certificate") && err.lines().count() == 1, "{err}");
    // Without TLS it is told what the port speaks.
    let mut command = Command::new(program());
    command.args(["chat", "--url", &scene.gateway.url().replace("https", "http")]);
    let (code, _, err) = Chat::start(command, "go").end().await;
    assert_eq!(code, 1);
    assert!(err.contains("speaks TLS"), "{err}");
    assert_eq!(scene.upstream.calls().len(), 0);
}

#[tokio::test]
async fn a_terminal_gets_colours_and_nothing_that_controls_it() {
    let scene = Scene::new().await;
    scene.upstream.push(Script::new().role().delta("safe \u{1b}]0;evil\u{7} \u{9b}31m end").finish("stop").done());
    let mut command = Command::new("script");
    let chat = format!("{} chat --url {}", program().display(), scene.gateway.url());
    command.args(["--quiet", "--return", "--command", &chat, "/dev/null"]);
    let (code, out, _) = Chat::start(command, "go\n\u{4}").end().await;
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("safe \u{fffd}]0;evil\u{fffd} \u{fffd}31m end") && out.contains("\u{1b}[2m"), "{out:?}");
    assert!(out.contains(" --conversation conv_"), "{out:?}");
}

#[tokio::test]
async fn it_shows_the_key_in_a_file_where_the_gateway_asks_who_calls() {
    let scene = Scene::closed().await;
    scene.upstream.always(Script::answer(&["Yes."]));
    let key = scene.gateway.key("shop", "service").text;
    let file = scene.gateway.home().join("key");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let (code, out, err) = Chat::ask(&scene, "Am I let in?", &["--token-file", file.to_str().unwrap()]).end().await;
    assert_eq!((code, out.trim()), (0, "Yes."), "{err}");
    let (code, out, err) = Chat::ask(&scene, "And I?", &[]).end().await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("Say who you are"), "{err}");
    let (code, _, err) = Chat::ask(&scene, "And I?", &["--token-file", "nowhere"]).end().await;
    assert!(code == 1 && err.contains("`--token-file`: nowhere"), "{err}");
}
