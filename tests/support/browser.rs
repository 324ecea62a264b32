//! Headless Chromium, driven through chromedriver.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use fantoccini::ClientBuilder;
use fantoccini::wd::WebDriverCompatibleCommand;
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{eventually, within};

/// A browser of the test's own, with an empty profile. Dropped, it is gone.
pub struct Browser {
    /// The page; a script in it is run with `execute`.
    pub page: fantoccini::Client,
    driver: Child,
    _home: TempDir,
}

impl Browser {
    /// Starts chromedriver on a free port, and a browser through it.
    pub async fn start() -> Self {
        let home = TempDir::new().unwrap();
        let log = home.path().join("chromedriver.log");
        let spawn = || {
            Command::new("chromedriver")
                .arg("--port=0")
                .stdin(Stdio::null())
                .stdout(File::create(&log).unwrap())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .expect("chromedriver is installed: run scripts/test, which installs it")
        };
        let mut driver = spawn();
        let port = eventually("chromedriver to listen", async || {
            // It takes a port that is free on IPv4, and gives up when that one is not free on IPv6.
            if driver.try_wait().unwrap().is_some() {
                driver = spawn();
            }
            let said = std::fs::read_to_string(&log).ok()?;
            let (_, after) = said.split_once("successfully on port ")?;
            after.split_once('.')?.0.parse::<u16>().ok()
        })
        .await;
        let profile = format!("--user-data-dir={}", home.path().join("profile").display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            &profile,
        ];
        let wanted = json!({
            "browserName": "chrome", "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"},
        });
        let Value::Object(wanted) = wanted else { unreachable!() };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let connecting = builder.capabilities(wanted).connect(&format!("http://127.0.0.1:{port}")).await;
        let page = connecting.expect("chromedriver starts a browser");
        Self { page, driver, _home: home }
    }

    /// What a script in the page returns.
    pub async fn js(&self, script: &str) -> Value {
        match within("a script in the page", self.page.execute(script, Vec::new())).await {
            Ok(value) => value,
            Err(error) => panic!("{script}\n{error}"),
        }
    }

    /// Waits until a script in the page returns something that is true.
    pub async fn until(&self, what: &str, script: &str) -> Value {
        eventually(what, async || {
            let value = self.js(script).await;
            let is_true = !matches!(&value, Value::Null | Value::Bool(false)) && value != 0 && value != "";
            is_true.then_some(value)
        })
        .await
    }

    /// What the console has said since the last time, but for what the network did.
    pub async fn complaints(&self) -> Vec<String> {
        let said = self.command("se/log", json!({"type": "browser"})).await;
        let entries = said.as_array().cloned().unwrap_or_default();
        entries.iter().filter(|entry| entry["source"] != "network").map(Value::to_string).collect()
    }

    /// Has the page as wide as this, in CSS pixels; a window would not be made so narrow.
    pub async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Has the person prefer `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Puts the page to sleep, as a browser does with a tab that nobody looks at: nothing in it runs.
    pub async fn freeze(&self) {
        self.devtools("Page.setWebLifecycleState", json!({"state": "frozen"})).await;
    }

    /// Wakes it, and looks at it again.
    pub async fn thaw(&self) {
        self.devtools("Page.setWebLifecycleState", json!({"state": "active"})).await;
        // It counts as hidden until it is come back to from another tab.
        let page = self.page.window().await.unwrap();
        let other = self.page.new_window(true).await.unwrap().handle;
        self.page.switch_to_window(other).await.unwrap();
        self.page.close_window().await.unwrap();
        self.page.switch_to_window(page).await.unwrap();
        self.until("the page to be seen", "return document.visibilityState === 'visible'").await;
    }

    /// Takes the network away from the page, or gives it back.
    pub async fn network(&self, is_there: bool) {
        let limits = json!({"offline": !is_there, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.devtools("Network.emulateNetworkConditions", limits).await;
    }

    /// A command of the DevTools protocol to the page.
    async fn devtools(&self, method: &str, params: Value) -> Value {
        self.command("goog/cdp/execute", json!({"cmd": method, "params": params})).await
    }

    /// A command that only chromedriver knows.
    async fn command(&self, path: &'static str, body: Value) -> Value {
        let what = body.to_string();
        match within(path, self.page.issue_cmd(Own { path, body })).await {
            Ok(value) => value,
            Err(error) => panic!("{path} {what}\n{error}"),
        }
    }

    /// Closes it; a browser that is only dropped is killed with its driver.
    pub async fn close(self) {
        let _ = self.page.clone().close().await;
    }
}

/// A command that is chromedriver's own.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base_url: &url::Url, session_id: Option<&str>) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/{}", session_id.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver leads a group of its own, with the browser in it.
        let _ = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ = self.driver.wait();
    }
}
