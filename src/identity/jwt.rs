//! A user's token (RFC 7519), signed by the application or by whoever signs its users in.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;

use super::jwks::Source;
use crate::domain::clock::Timestamp;

/// What the clocks of two machines may differ by, in seconds.
const LEEWAY: f64 = 30.0;

/// The longest user id, in bytes.
pub const USER: usize = 255;

/// Why a token is none; a sentence for whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    how_far: HowFar,
    /// A sentence that says what is wrong.
    pub why: &'static str,
}

/// How far a token was read before it was refused. Of several applications the one where it came furthest is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HowFar {
    NoUsers,
    Head,
    Key,
    Signature,
    Claims,
}

impl Refusal {
    /// Where there is no application that has users.
    pub const NO_USERS: Self = Self { how_far: HowFar::NoUsers, why: "No application here has users." };

    const fn head(why: &'static str) -> Self {
        Self { how_far: HowFar::Head, why }
    }

    const fn claims(why: &'static str) -> Self {
        Self { how_far: HowFar::Claims, why }
    }
}

/// What signs and names an application's users.
#[derive(Debug)]
pub struct Verifier {
    source: Source,
    issuer: Option<String>,
    audience: Option<String>,
}

/// What we read of a token's claims (RFC 7519, section 4.1).
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
}

/// One audience or several (section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Several(several) => several.iter().any(|one| one == wanted),
        }
    }
}

impl Verifier {
    /// With keys from `source`; a token must name `issuer` and `audience` where they are given.
    pub fn new(source: Source, issuer: Option<String>, audience: Option<String>) -> Self {
        Self { source, issuer, audience }
    }

    /// The user a token speaks for at `now`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn user(&self, token: &str, now: Timestamp) -> Result<Arc<str>, Refusal> {
        // The library knows no `none`: a head that asks for it cannot be read.
        let head = decode_header(token).map_err(|_| Refusal::head("The token cannot be read."))?;
        if head.crit.is_some() {
            return Err(Refusal::head("The token asks for an extension that is not known here."));
        }
        // Before any key is fetched: another application's login service need not be asked, nor waited for.
        if self.issuer.is_some() && said_issuer(token) != self.issuer {
            return Err(Refusal::head("The token has another `iss`."));
        }
        let keys = self.source.candidates(head.kid.as_deref(), head.alg).await;
        if keys.is_empty() {
            let why = "The token is signed with a key that is not known here.";
            return Err(Refusal { how_far: HowFar::Key, why });
        }
        let claims = keys.iter().find_map(|key| {
            let read = decode::<Claims>(token, &key.decoding, &signature_alone(key.algorithm));
            read.ok().map(|token| token.claims)
        });
        let wrong = Refusal { how_far: HowFar::Signature, why: "The token's signature is wrong." };
        self.judge(claims.ok_or(wrong)?, now).map_err(Refusal::claims)
    }

    fn judge(&self, claims: Claims, now: Timestamp) -> Result<Arc<str>, &'static str> {
        let seconds = now.as_micros() as f64 / 1e6;
        let Some(expires) = claims.exp else { return Err("The token has no `exp`.") };
        if !(expires.is_finite() && seconds < expires + LEEWAY) {
            return Err("The token has expired.");
        }
        if claims.nbf.is_some_and(|begins| seconds < begins - LEEWAY) {
            return Err("The token is not good yet.");
        }
        if self.issuer.as_ref().is_some_and(|issuer| claims.iss.as_ref() != Some(issuer)) {
            return Err("The token has another `iss`.");
        }
        let wanted = self.audience.as_ref();
        if wanted.is_some_and(|wanted| !claims.aud.as_ref().is_some_and(|audience| audience.has(wanted))) {
            return Err("The token has another `aud`.");
        }
        let user = claims.sub.ok_or("The token has no `sub`.")?;
        if is_user(&user) { Ok(user.into()) } else { Err("The token's `sub` is no id.") }
    }
}

/// Whom a token says it is of; nothing of it is known to be true.
fn said_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        iss: Option<String>,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Said>(&claims).ok()?.iss
}

/// Whether a text can be a user's id: 1 to [`USER`] bytes without control characters, and not like a visitor's
/// or that of somebody who was forgotten.
pub fn is_user(id: &str) -> bool {
    (1..=USER).contains(&id.len())
        && !id.contains(char::is_control)
        && !id.starts_with("vis_")
        && !id.starts_with("gone_")
}

/// Checks the signature, with the one algorithm of the key; what the claims say is judged by our own clock.
fn signature_alone(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    validation
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn token(claims: &Value) -> String {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(b"secret")).unwrap()
    }

    async fn judged(verifier: &Verifier, claims: Value) -> Result<Arc<str>, Refusal> {
        verifier.user(&token(&claims), Timestamp::from_micros(NOW * 1_000_000)).await
    }

    #[tokio::test]
    async fn claims_are_judged_by_our_own_clock() {
        let verifier = Verifier::new(Source::secret(&"secret".into()), Some("us".into()), Some("chat".into()));
        let good = json!({"sub": "anna", "exp": NOW + 60, "iss": "us", "aud": ["shop", "chat"]});
        assert_eq!(judged(&verifier, good.clone()).await.as_deref(), Ok("anna"));
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            claims
        };
        assert!(judged(&verifier, with("exp", json!(NOW - 29))).await.is_ok());
        assert!(judged(&verifier, with("nbf", json!(NOW + 29))).await.is_ok());
        assert!(judged(&verifier, with("aud", json!("chat"))).await.is_ok());
        for (name, value) in [
            ("exp", json!(NOW - 31)),
            ("exp", Value::Null),
            ("exp", json!("never")),
            ("exp", json!(-1e300)),
            ("nbf", json!(NOW + 31)),
            ("iss", json!("them")),
            ("iss", Value::Null),
            ("aud", json!("shop")),
            ("aud", json!([])),
            ("aud", Value::Null),
            ("sub", json!("")),
            ("sub", Value::Null),
            ("sub", json!("vis_1")),
            ("sub", json!("gone_1")),
            ("sub", json!("a\u{0}b")),
            ("sub", json!("x".repeat(256))),
        ] {
            assert!(judged(&verifier, with(name, value.clone())).await.is_err(), "{name} {value}");
        }
    }
}
