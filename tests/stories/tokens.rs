//! Tokens that others sign: the good ones, those that come with new keys, and ten thousand that are none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::access::{SHOP, claims, seconds_from_now, signed, user};
use crate::support::{Client, Database, Gateway, Scene, Task, Upstream, chance};

/// So many tokens that are none.
const HOSTILE: usize = 10_000;

/// A key of somebody who signs users in.
struct Signer {
    kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
    /// What is published of it.
    jwk: Value,
}

impl Signer {
    fn new(kid: &str, algorithm: Algorithm) -> Self {
        let pair = |kind: &'static SignatureAlgorithm| KeyPair::generate_for(kind).unwrap();
        let (key, jwk) = if algorithm == Algorithm::RS256 {
            let pair = pair(&PKCS_RSA_SHA256).serialize_der();
            // PKCS #8 is a wrap of 26 bytes around PKCS #1, which is what the library takes (RFC 5958, section 2).
            assert_eq!(pair[22..24], [0x04, 0x82]);
            let key = EncodingKey::from_rsa_der(&pair[26..]);
            let jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
            (key, jwk)
        } else if algorithm == Algorithm::ES256 {
            let key = EncodingKey::from_ec_der(&pair(&PKCS_ECDSA_P256_SHA256).serialize_der());
            let jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
            (key, jwk)
        } else {
            let pair = pair(&PKCS_ED25519);
            let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x});
            (EncodingKey::from_ed_der(&pair.serialize_der()), jwk)
        };
        let mut jwk = jwk;
        jwk["kid"] = kid.into();
        Self { kid: kid.to_owned(), algorithm, key, jwk }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }
}

/// A place where keys are published.
struct Keys {
    url: String,
    /// What is there, or nothing but an error.
    set: Arc<parking_lot::Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
    _task: Task<()>,
}

impl Keys {
    async fn publish(signers: &[&Signer]) -> Self {
        let (set, asked) = (Arc::<parking_lot::Mutex<Option<String>>>::default(), Arc::<AtomicUsize>::default());
        let (there, count) = (set.clone(), asked.clone());
        let answer = get(async move || {
            count.fetch_add(1, Ordering::Relaxed);
            there.lock().clone().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let serve = async move { axum::serve(listener, Router::new().route("/jwks.json", answer)).await.unwrap() };
        let keys = Self { url, set, asked, _task: Task::start(serve) };
        keys.replace(signers);
        keys
    }

    fn replace(&self, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk.clone()).collect();
        *self.set.lock() = Some(json!({ "keys": keys }).to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

struct Gate {
    gateway: Gateway,
    _upstream: Upstream,
    _database: Database,
}

impl Gate {
    /// A gateway whose application `club` has users signed in elsewhere.
    async fn with(keys: &Keys) -> Self {
        let (database, upstream) = (Database::fresh().await, Upstream::start().await);
        let setup =
            Gateway::on(&database).upstream(&upstream).closed().set("applications.2.jwks_url", keys.url.as_str());
        Self { gateway: setup.start().await, _upstream: upstream, _database: database }
    }

    async fn status(&self, token: &str) -> u16 {
        self.gateway.client().bearing(token).get("/v1/models").await.status
    }
}

#[tokio::test]
async fn users_are_signed_in_with_the_keys_that_are_published() {
    let signers = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
        .map(|algorithm| Signer::new(&format!("{algorithm:?}"), algorithm));
    let keys = Keys::publish(&[&signers[0], &signers[1], &signers[2]]).await;
    let gate = Gate::with(&keys).await;
    for signer in &signers {
        assert_eq!(gate.status(&signer.sign(&claims("anna"))).await, 200, "{:?}", signer.algorithm);
    }
    assert_eq!(keys.asked(), 1, "one set does for all");
    // While the place is gone, the keys that came from there are good.
    *keys.set.lock() = None;
    assert_eq!(gate.status(&signers[0].sign(&claims("anna"))).await, 200);
    // However many come with keys that nobody knows, it is not asked for each.
    let stranger = Signer::new("stranger", Algorithm::EdDSA);
    let token = stranger.sign(&claims("anna"));
    let refused = join_all((0..50).map(|_| gate.status(&token))).await;
    assert!(refused.iter().all(|status| *status == 401), "{refused:?}");
    assert!(keys.asked() <= 2, "{} times", keys.asked());
    assert_eq!(gate.status(&signers[1].sign(&claims("anna"))).await, 200, "an error takes nothing away");
}

#[tokio::test]
async fn a_new_key_is_found_by_the_first_token_it_signs() {
    let (old, new) = (Signer::new("old", Algorithm::ES256), Signer::new("new", Algorithm::ES256));
    let keys = Keys::publish(&[&old]).await;
    let gate = Gate::with(&keys).await;
    assert_eq!(gate.status(&old.sign(&claims("anna"))).await, 200);
    keys.replace(&[&new]);
    let token = new.sign(&claims("anna"));
    crate::support::eventually("the new key to be fetched", async || (gate.status(&token).await == 200).then_some(()))
        .await;
    assert_eq!(gate.status(&old.sign(&claims("anna"))).await, 401, "a key that is gone is gone");
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token that is none, by number.
fn hostile(n: usize, random: &mut fastrand::Rng, published: &Signer) -> String {
    let good = user("anna");
    let [head, body, mark]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let public = published.jwk.clone();
    let mut claims = claims("anna");
    match n % 24 {
        0 => format!("{}.{body}.", part(&json!({"alg": "none", "typ": "JWT"}))),
        1 => format!("{}.{body}.{mark}", part(&json!({"alg": (["none", "None", "nOnE", "NONE"][random.usize(0..4)])}))),
        // The public key, which everybody has, as if it were a shared secret.
        2 => {
            let header = Header { kid: Some(published.kid.clone()), ..Header::new(Algorithm::HS256) };
            let texts = [public.to_string(), public["x"].as_str().unwrap().to_owned(), public["n"].to_string()];
            encode(&header, &claims, &EncodingKey::from_secret(texts[random.usize(0..3)].as_bytes())).unwrap()
        }
        3 => {
            let kids = ["../../../../dev/null", "' or 1=1 --", "\u{0}", "https://evil.example/k", "", "$(id)"];
            let header =
                Header { kid: Some(kids[random.usize(0..kids.len())].to_owned()), ..Header::new(Algorithm::HS256) };
            encode(&header, &claims, &EncodingKey::from_secret(b"")).unwrap()
        }
        // Keys that the token brings along.
        4 => format!("{}.{body}.{mark}", part(&json!({"alg": "EdDSA", "jwk": public, "kid": published.kid}))),
        5 => {
            format!("{}.{body}.{mark}", part(&json!({"alg": "RS256", "jku": "https://evil.example/jwks", "kid": "x"})))
        }
        6 => {
            claims["exp"] = json!(seconds_from_now(-31 - random.i64(0..1_000_000_000)));
            signed(SHOP, &claims)
        }
        7 => {
            claims["nbf"] = json!(seconds_from_now(60 + random.i64(0..1_000_000_000)));
            signed(SHOP, &claims)
        }
        8 => {
            claims["aud"] = [json!("other"), json!(["a", "b"]), json!(7), json!({})][random.usize(0..4)].clone();
            signed(SHOP, &claims)
        }
        9 => {
            claims["iss"] = [json!("other"), Value::Null, json!(["https://login.example"])][random.usize(0..3)].clone();
            signed(SHOP, &claims)
        }
        10 => {
            claims["sub"] =
                [json!(""), Value::Null, json!(7), json!("vis_1"), json!("x".repeat(300))][random.usize(0..5)].clone();
            signed(SHOP, &claims)
        }
        11 => {
            claims.as_object_mut().unwrap().remove("exp");
            signed(SHOP, &claims)
        }
        12 => {
            claims["exp"] = [json!("2099-01-01"), json!(-1), json!(true), json!([1])][random.usize(0..4)].clone();
            signed(SHOP, &claims)
        }
        13 => signed(&format!("{SHOP}{}", random.u8(..)), &claims),
        // One bit of the mark.
        14 => {
            let mut bytes = URL_SAFE_NO_PAD.decode(mark).unwrap();
            let at = random.usize(0..bytes.len());
            bytes[at] ^= 1 << random.u8(0..8);
            format!("{head}.{body}.{}", URL_SAFE_NO_PAD.encode(bytes))
        }
        // The mark of one, the claims of another.
        15 => {
            claims["sub"] = json!(format!("user{n}"));
            format!("{head}.{}.{mark}", part(&claims))
        }
        16 => good[..random.usize(1..good.len())].to_owned(),
        17 => format!("{head}.{body}.{}", "A".repeat(random.usize(0..200))),
        18 => (0..random.usize(1..300)).map(|_| char::from(random.u8(0x21..0x7f))).collect(),
        19 => format!("tg_{}_{}", random.alphanumeric(), random.u64(..)),
        20 => format!("tg_{:0>12}_{:0>52}", random.u32(..1_000_000), random.u64(..)),
        21 => format!(
            "tgv_{}.{}",
            part(&json!({"application": "shop", "visitor": "vis_1", "widget": "wk_shop", "expires": i64::MAX})),
            mark
        ),
        22 => format!("{}.{body}.{mark}", part(&json!({"alg": "HS256", "crit": ["exp"], "exp": 1}))),
        _ => [good.replace('.', ".."), format!("{good}.{mark}"), ".".repeat(random.usize(1..9)), good.to_uppercase()]
            [random.usize(0..4)]
        .clone(),
    }
}

#[tokio::test]
async fn none_of_ten_thousand_hostile_tokens_is_accepted() {
    let published = Signer::new("k1", Algorithm::EdDSA);
    let keys = Keys::publish(&[&published]).await;
    let gate = Gate::with(&keys).await;
    assert_eq!(gate.status(&user("anna")).await, 200);
    assert_eq!(gate.status(&published.sign(&claims("anna"))).await, 200);
    let (client, published) = (gate.gateway.client(), &published);
    let mut random = chance();
    let seeds: Vec<u64> = (0..8).map(|_| random.u64(..)).collect();
    let tried = join_all(seeds.into_iter().enumerate().map(async |(lane, seed)| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut tried = 0;
        for n in (lane..HOSTILE).step_by(8) {
            let token = hostile(n, &mut random, published);
            let status = status(&client, &token).await;
            assert_eq!(status, 401, "number {n}, kind {}: {token}", n % 24);
            tried += 1;
        }
        tried
    }));
    assert_eq!(tried.await.into_iter().sum::<usize>(), HOSTILE);
    // A token of 100 kB is refused before it is a request, and the gateway is none the worse for it.
    let huge =
        format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n", "a".repeat(100_000));
    let answer = client.raw(huge.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    let long = format!("{}.{}", user("anna"), "a".repeat(9000));
    assert_eq!(gate.status(&long).await, 401);
    assert_eq!(gate.status(&user("anna")).await, 200);
}

async fn status(client: &Client, token: &str) -> u16 {
    client.bearing(token).get("/v1/models").await.status
}

#[tokio::test]
async fn two_lines_of_who_asks_are_no_better_than_none() {
    let scene = Scene::closed().await;
    let (anna, bert) = (user("anna"), user("bert"));
    let both = scene
        .client
        .with_header("authorization", &format!("Bearer {anna}"))
        .with_header("authorization", &format!("Bearer {bert}"));
    assert_eq!(both.get("/v1/conversations").await.status, 401);
}
