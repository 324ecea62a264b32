//! A visitor's token: says who it is for, and until when, under a mark of our own. Nothing is kept of it.

use serde::{Deserialize, Serialize};

use super::pepper::{Pepper, Purpose};
use crate::domain::clock::Timestamp;
use crate::domain::ids::VisitorId;
use crate::domain::json;

/// What visitors' tokens begin with.
pub const START: &str = "tgv_";

/// What a visitor's token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The application.
    pub application: String,
    /// The visitor.
    pub visitor: VisitorId,
    /// The key of the widget they came through.
    pub widget: String,
    /// Until when, in microseconds since the Unix epoch.
    pub expires: i64,
}

impl Token {
    /// As it is handed out.
    pub fn to_text(&self, pepper: &Pepper) -> String {
        format!("{START}{}", pepper.sign(Purpose::Visitor, &json::to_vec(self)))
    }

    /// What was handed out; `None` when it was not handed out here, or is too old by `now`.
    pub fn from_text(text: &str, pepper: &Pepper, now: Timestamp) -> Option<Self> {
        let said = pepper.read(Purpose::Visitor, text.strip_prefix(START)?)?;
        let token: Self = serde_json::from_slice(&said).ok()?;
        (token.expires > now.as_micros()).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_expires_and_only_as_it_was_made() {
        let pepper = Pepper::new(&[7; 32]);
        let token = Token { application: "a".into(), visitor: "vis_1".into(), widget: "wk_1".into(), expires: 100 };
        let text = token.to_text(&pepper);
        let at = |micros| Token::from_text(&text, &pepper, Timestamp::from_micros(micros));
        assert_eq!((at(99), at(100)), (Some(token), None));
        let now = Timestamp::from_micros(1);
        for cut in 0..text.len() {
            assert_eq!(Token::from_text(&text[..cut], &pepper, now), None, "{cut}");
        }
        assert_eq!(Token::from_text(&text, &Pepper::new(&[8; 32]), now), None);
    }
}
