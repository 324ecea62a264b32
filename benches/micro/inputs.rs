//! An answer as OpenAI's servers write it: one token a chunk, most of them a word, some with what JSON escapes and
//! what UTF-8 spreads over several bytes.

/// Deltas in the answer.
pub const DELTAS: usize = 1000;

const WORDS: [&str; 20] = [
    " The",
    " tide",
    " gate",
    " lets",
    " the",
    " river",
    " out",
    " at",
    " ebb",
    ",",
    " and",
    " shuts",
    " by",
    " itself",
    " —",
    " “",
    "flood",
    "”",
    ".\n\n",
    " 4.6 m (größer)",
];

/// The text of each delta.
pub fn deltas() -> Vec<&'static str> {
    (0..DELTAS).map(|n| WORDS[n % WORDS.len()]).collect()
}

/// The answer's body: each event on its own.
pub fn events() -> Vec<String> {
    let chunk = |delta: serde_json::Value, finish: Option<&str>| {
        let json = serde_json::json!({
            "id": "chatcmpl-C8PbVSFt2tUo7NXRc3rLYN1s5JxUy", "object": "chat.completion.chunk", "created": 1_789_000_000,
            "model": "gpt-4o-mini-2024-07-18", "service_tier": "default", "system_fingerprint": "fp_560af6e559",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
            "usage": null, "obfuscation": "q2Lr8w",
        });
        format!("data: {json}\n\n")
    };
    let said = deltas().into_iter().map(|text| chunk(serde_json::json!({ "content": text }), None));
    said.chain([chunk(serde_json::json!({}), Some("stop"))]).collect()
}
