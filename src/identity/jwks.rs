//! The keys an application's users' tokens are signed with: a secret of its own, or a set of public keys at an address
//! (RFC 7517), fetched when it is needed and kept.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::domain::secret::Secret;

/// A set is fetched again after so long.
const FRESH: Duration = Duration::from_secs(600);
/// A set is never fetched more often than this, whatever tokens come.
const PAUSE: Duration = Duration::from_secs(10);
/// The longest one may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest set, in bytes…
const BYTES: usize = 256 << 10;
/// …and in keys.
const KEYS: usize = 100;

/// A key, and the one algorithm it is used with: what a token's head says decides nothing.
#[derive(Clone)]
pub struct Key {
    /// What the token's head calls it.
    pub id: Option<String>,
    /// How it signs.
    pub algorithm: Algorithm,
    /// What checks it.
    pub decoding: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Where an application's keys come from.
#[derive(Debug)]
pub enum Source {
    /// A secret it shares with us: HS256.
    Secret(Key),
    /// A set of public keys.
    Set(Set),
}

impl Source {
    /// A shared secret.
    pub fn secret(secret: &Secret) -> Self {
        let decoding = DecodingKey::from_secret(secret.reveal().as_bytes());
        Self::Secret(Key { id: None, algorithm: Algorithm::HS256, decoding })
    }

    /// The keys that may have signed a token of this `kid` and algorithm.
    pub async fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<Key> {
        match self {
            Self::Secret(key) => vec![key.clone()].into_iter().filter(|key| key.algorithm == algorithm).collect(),
            Self::Set(set) => set.candidates(kid, algorithm).await,
        }
    }
}

/// A set of public keys at an address.
#[derive(Debug)]
pub struct Set {
    url: String,
    client: reqwest::Client,
    kept: RwLock<Kept>,
    /// Held by whoever fetches; the others wait for what comes.
    fetching: Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    keys: Arc<[Key]>,
    /// When they came.
    at: Option<Instant>,
    /// When they were last asked for.
    asked: Option<Instant>,
}

impl Kept {
    fn is_fresh(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < FRESH)
    }

    fn may_ask(&self) -> bool {
        self.asked.is_none_or(|asked| asked.elapsed() >= PAUSE)
    }
}

impl Set {
    /// The set at `url`; nothing is fetched yet.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(url: &str) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .connect_timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { url: url.to_owned(), client, kept: RwLock::default(), fetching: Mutex::default() })
    }

    async fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<Key> {
        if !matches!(algorithm, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA) {
            return Vec::new(); // None of a set's: there is nothing to fetch.
        }
        let pick = |keys: &[Key]| {
            let fits = |key: &&Key| key.algorithm == algorithm && (kid.is_none() || key.id.as_deref() == kid);
            keys.iter().filter(fits).cloned().collect::<Vec<_>>()
        };
        let found = {
            let kept = self.kept.read();
            let found = pick(&kept.keys);
            if (kept.is_fresh() && !found.is_empty()) || !kept.may_ask() {
                return found;
            }
            found
        };
        // Old keys are good while new ones do not come; one who has none waits for them, and everybody for the one who asks.
        let asked_before = self.kept.read().asked;
        let _alone = self.fetching.lock().await;
        if self.kept.read().asked == asked_before {
            self.kept.write().asked = Some(Instant::now());
            let fetched = tokio::time::timeout(PATIENCE, self.fetch()).await;
            match fetched.unwrap_or_else(|_| Err(format!("it does not come within {PATIENCE:?}"))) {
                Ok(keys) => {
                    let mut kept = self.kept.write();
                    (kept.keys, kept.at) = (keys.into(), Some(Instant::now()));
                }
                Err(error) => {
                    tracing::warn!(url = self.url, %error, "a set of keys cannot be fetched; the old one is kept");
                    return found;
                }
            }
        }
        pick(&self.kept.read().keys)
    }

    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let mut response = self.client.get(&self.url).send().await.map_err(|error| error.without_url().to_string())?;
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
            if body.len() + chunk.len() > BYTES {
                return Err(format!("it has more than {BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        read(&body)
    }
}

/// Reads a set: those of its keys that we can check signatures with (RFC 7517, section 5: others are to be ignored).
fn read(body: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Body {
        keys: Vec<Value>,
    }
    let Body { keys } = serde_json::from_slice(body).map_err(|error| format!("it is no set of keys: {error}"))?;
    if keys.len() > KEYS {
        return Err(format!("it has more than {KEYS} keys"));
    }
    Ok(keys.into_iter().filter_map(|key| Jwk::deserialize(key).ok()).filter_map(|key| usable(&key)).collect())
}

/// The key with its one algorithm; `None` for what is not ours to use. A shared secret has no place in a public set.
fn usable(jwk: &Jwk) -> Option<Key> {
    let algorithm = if matches!(jwk.algorithm, AlgorithmParameters::RSA(_)) {
        Algorithm::RS256
    } else if matches!(&jwk.algorithm, AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256) {
        Algorithm::ES256
    } else if matches!(&jwk.algorithm, AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519) {
        Algorithm::EdDSA
    } else {
        return None;
    };
    let said = match jwk.common.key_algorithm {
        None => true,
        Some(KeyAlgorithm::RS256) => algorithm == Algorithm::RS256,
        Some(KeyAlgorithm::ES256) => algorithm == Algorithm::ES256,
        Some(KeyAlgorithm::EdDSA) => algorithm == Algorithm::EdDSA,
        Some(_) => false,
    };
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    if !said || !signs {
        return None;
    }
    Some(Key { id: jwk.common.key_id.clone(), algorithm, decoding: DecodingKey::from_jwk(jwk).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_the_keys_that_sign_each_with_one_algorithm() {
        let ed = r#"{"kty":"OKP","crv":"Ed25519","kid":"e","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let set = |keys: &[&str]| read(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes());
        let keys = set(&[
            ed,
            r#"{"kty":"oct","kid":"secret","k":"c2VjcmV0"}"#,
            r#"{"kty":"new","kid":"n"}"#,
            r#"{"kty":"RSA","kid":"r","use":"enc","n":"sXch","e":"AQAB"}"#,
            r#"{"kty":"RSA","kid":"p","alg":"PS256","n":"sXch","e":"AQAB"}"#,
            r#"{"kty":"RSA","kid":"ok","alg":"RS256","use":"sig","n":"sXch","e":"AQAB"}"#,
        ])
        .unwrap();
        let found: Vec<_> = keys.iter().map(|key| (key.id.as_deref().unwrap(), key.algorithm)).collect();
        assert_eq!(found, [("e", Algorithm::EdDSA), ("ok", Algorithm::RS256)]);
        assert!(read(b"{}").is_err() && read(b"[]").is_err());
        assert!(set(&[ed; KEYS + 1]).unwrap_err().contains("100 keys"));
    }
}
