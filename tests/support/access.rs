//! A gateway whose callers must say who they are, and what they say it with.

use std::process::Command;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tidegate::domain::clock::Clock;

use super::{Client, Gateway, Scene, Setup, program};

/// What the application `shop` signs its users' tokens with.
pub const SHOP: &str = "0123456789abcdef0123456789abcdef";
/// What the application `bank` does it with.
pub const BANK: &str = "fedcba9876543210fedcba9876543210";
/// Where the widgets stand.
pub const PAGE: &str = "https://shop.example";

/// Seconds since the Unix epoch, so many from now.
pub fn seconds_from_now(seconds: i64) -> i64 {
    Clock::System.now().as_micros() / 1_000_000 + seconds
}

/// Claims that are good for ten minutes.
pub fn claims(user: &str) -> Value {
    json!({ "sub": user, "exp": seconds_from_now(600), "iss": "https://login.example", "aud": "chat" })
}

/// Claims, signed with a shared secret.
pub fn signed(secret: &str, claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// A token of a user of `shop`.
pub fn user(user: &str) -> String {
    signed(SHOP, &claims(user))
}

/// An API key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// Its text.
    pub text: String,
}

impl Setup {
    /// Callers must say who they are. There are `shop` with users and two widgets, `bank` with users and one, and `club`
    /// for users alone. The metrics are for admins of `shop`.
    pub fn closed(mut self) -> Self {
        let mut applications = toml::toml! {
            [[applications]]
            name = "shop"
            jwt_issuer = "https://login.example"
            jwt_audience = "chat"
            [[applications.widgets]]
            key = "wk_shop"
            origins = ["https://shop.example"]
            [[applications.widgets]]
            key = "wk_small"
            origins = ["https://shop.example"]
            models = ["small-*"]
            [[applications]]
            name = "bank"
            [[applications.widgets]]
            key = "wk_bank"
            origins = ["https://bank.example"]
            [[applications]]
            name = "club"
            visitors = false
            [[applications.widgets]]
            key = "wk_club"
            origins = ["https://shop.example"]
        };
        let all = applications["applications"].as_array_mut().unwrap();
        for (application, secret) in all.iter_mut().zip([SHOP, BANK]) {
            application.as_table_mut().unwrap().insert("jwt_secret".to_owned(), secret.into());
        }
        self.config.extend(applications);
        self.set("auth.mode", "required").set("metrics.application", "shop")
    }
}

impl Gateway {
    /// Runs `tidegate keys` with these arguments, beside it: whether it went well, and what it printed.
    pub fn keys(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(program());
        command.current_dir(self.home()).args(["keys", "--config", "tidegate.toml"]).args(arguments);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// Makes an API key.
    pub fn key(&self, application: &str, role: &str) -> ApiKey {
        let (made, said) = self.keys(&["create", "--application", application, "--role", role]);
        assert!(made, "{said}");
        let word = |start: &str| said.split_whitespace().find(|word| word.starts_with(start)).unwrap().to_owned();
        ApiKey { id: word("key_"), text: word("tg_") }
    }
}

impl Scene {
    /// One whose callers must say who they are.
    pub async fn closed() -> Self {
        Self::with(Setup::closed).await
    }

    /// A client that shows this token.
    pub fn bearing(&self, token: &str) -> Client {
        self.client.bearing(token)
    }

    /// A client that comes through a widget, from a page it stands on, as nobody yet.
    pub fn through(&self, widget: &str) -> Client {
        let origin = if widget == "wk_bank" { "https://bank.example" } else { PAGE };
        self.client.with_header("tidegate-widget", widget).with_header("origin", origin)
    }

    /// The token of a visitor who came through a widget.
    pub async fn visitor(&self, widget: &str) -> String {
        let reply = self.through(widget).post("/v1/visitors", &json!({ "widget_key": widget })).await;
        reply.expect(200)["token"].as_str().unwrap().to_owned()
    }
}

impl Client {
    /// The same client, showing a token.
    pub fn bearing(&self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }
}
