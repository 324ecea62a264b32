//! What of a conversation fits a model's window: whole turns are left out, the oldest first.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Turns;
use crate::domain::ids::MessageId;
use crate::upstream::tokens::{self, Counts};
use crate::upstream::{Line, Speaker};

/// What a prompt is made of.
#[derive(Clone, Debug)]
pub struct Material {
    /// What the operator says.
    pub head: Vec<Line>,
    /// What was said before, oldest first.
    pub earlier: Vec<Earlier>,
    /// The question.
    pub question: Line,
}

/// One message of what was said before.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// Its id; none where the request brought it along.
    pub id: Option<MessageId>,
    /// What it says.
    pub line: Line,
}

impl Material {
    /// The prompt without what is before the line `from`, for which `summary` stands if there is one.
    pub fn into_lines(self, from: usize, summary: Option<Line>) -> Vec<Line> {
        let earlier = self.earlier.into_iter().skip(from).map(|earlier| earlier.line);
        self.head.into_iter().chain(summary).chain(earlier).chain([self.question]).collect()
    }

    /// The turns from the line `from` on, as the ranges of their lines. A turn begins with what a person says; what the
    /// model said before any of that is one as well.
    fn turns(&self, from: usize) -> Vec<(usize, usize)> {
        let lines = self.earlier.len();
        let is_begin = |at: &usize| *at == from || self.earlier[*at].line.speaker == Speaker::User;
        let begins: Vec<usize> = (from..lines).filter(is_begin).collect();
        let ends = begins.iter().skip(1).copied().chain([lines]);
        begins.iter().copied().zip(ends).collect()
    }
}

/// What of a prompt fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitted {
    /// All from this line on, and what was left out before it.
    From(usize, Option<LeftOut>),
    /// Not even the question and what the operator says.
    TooLong,
    /// It could not be counted.
    Uncounted,
}

/// What was left out of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// How many turns.
    pub turns: usize,
    /// How many tokens.
    pub tokens: u64,
}

impl LeftOut {
    /// As a step tells it, and whether a summary stands for it.
    pub fn to_json(self, summarised: bool) -> Value {
        json!({ "turns": self.turns, "tokens": self.tokens, "summarised": summarised })
    }
}

/// From where on a prompt fits into `room` tokens. The question and what the operator says always stay.
pub async fn fit(turns: &Turns, material: &Arc<Material>, room: u64) -> Fitted {
    fit_from(turns, material, 0, room).await
}

/// The same where what is before the line `from` is left out in any case.
pub async fn fit_from(turns: &Turns, material: &Arc<Material>, from: usize, room: u64) -> Fitted {
    // No token is shorter than a byte: most prompts need no counting.
    let earlier = material.earlier.iter().map(|earlier| &earlier.line);
    let lines = material.head.iter().chain(earlier).chain([&material.question]);
    let bytes: usize = lines.map(|line| line.text.len()).sum();
    let count = material.head.len() + material.earlier.len() + 1;
    if from == 0 && tokens::prompt(bytes as u64, count) <= room {
        return Fitted::From(0, None);
    }
    let (material, counts) = (material.clone(), turns.counts.clone());
    let fitted = turns.lifecycle.blocking(move || cut(&counts, &material, from, room)).await;
    fitted.unwrap_or(Fitted::Uncounted)
}

/// The same, counted here.
fn cut(counts: &Counts, material: &Material, from: usize, room: u64) -> Fitted {
    let fixed: u64 = material.head.iter().chain([&material.question]).map(|line| counts.count(&line.text)).sum();
    let mut used = tokens::prompt(fixed, material.head.len() + 1);
    if used > room {
        return Fitted::TooLong;
    }
    let count = |(begin, end): (usize, usize)| {
        let texts = material.earlier[begin..end].iter().map(|earlier| counts.count(&earlier.line.text));
        tokens::lines(texts.sum(), end - begin)
    };
    let mut left = LeftOut { turns: 0, tokens: 0 };
    let mut leave = |turn| left = LeftOut { turns: left.turns + 1, tokens: left.tokens + count(turn) };
    let (mut kept, mut full) = (material.earlier.len(), false);
    for turn in material.turns(from).into_iter().rev() {
        let tokens = count(turn);
        full = full || used + tokens > room;
        if full {
            leave(turn);
        } else {
            (used, kept) = (used + tokens, turn.0);
        }
    }
    material.turns(0).into_iter().filter(|(begin, _)| *begin < from).for_each(leave);
    Fitted::From(kept, Some(left).filter(|left| left.turns > 0))
}

/// A text of at most about `room` tokens: of a longer one its end.
pub fn cut_off(counts: &Counts, mut text: String, room: u64) -> String {
    let tokens = counts.count(&text);
    if tokens > room {
        let keep = u128::from(room) * text.len() as u128 / u128::from(tokens);
        let from = text.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        text.drain(..text.ceil_char_boundary(from));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// A conversation whose lines have so many tokens each, by the first letters of who speaks.
    fn talk(lines: &[(char, usize)]) -> Material {
        let line = |&(who, tokens): &(char, usize)| Line {
            speaker: match who {
                's' => Speaker::System,
                'u' => Speaker::User,
                _ => Speaker::Assistant,
            },
            text: " tide".repeat(tokens),
        };
        let mut lines: Vec<Line> = lines.iter().map(line).collect();
        let question = lines.pop().unwrap();
        let (head, earlier): (Vec<Line>, Vec<Line>) =
            lines.into_iter().partition(|line| line.speaker == Speaker::System);
        let earlier = earlier.into_iter().map(|line| Earlier { id: None, line }).collect();
        Material { head, earlier, question }
    }

    fn cut_to(lines: &[(char, usize)], from: usize, room: u64) -> Fitted {
        cut(&Counts::default(), &talk(lines), from, room)
    }

    const TALK: [(char, usize); 7] = [('s', 5), ('u', 10), ('a', 20), ('u', 30), ('a', 40), ('a', 50), ('u', 60)];
    /// What stands around lines and the prompt.
    const MARKS: u64 = 4 * 7 + 3;

    #[test]
    fn the_oldest_turns_go_and_each_goes_whole() {
        let whole = 5 + 10 + 20 + 30 + 40 + 50 + 60 + MARKS;
        assert_eq!(cut_to(&TALK, 0, whole), Fitted::From(0, None));
        let first = Some(LeftOut { turns: 1, tokens: 30 + 8 });
        assert_eq!(cut_to(&TALK, 0, whole - 1), Fitted::From(2, first));
        assert_eq!(cut_to(&TALK, 0, whole - 38), Fitted::From(2, first));
        // Half of the next turn would fit; none of it stays, and nothing older does.
        let both = Some(LeftOut { turns: 2, tokens: 30 + 8 + 120 + 12 });
        assert_eq!(cut_to(&TALK, 0, whole - 39), Fitted::From(5, both));
        assert_eq!(cut_to(&TALK, 0, 5 + 60 + 8 + 3), Fitted::From(5, both));
        assert_eq!(cut_to(&TALK, 0, 5 + 60 + 8 + 2), Fitted::TooLong);
        // What is left out in any case counts as left out.
        assert_eq!(cut_to(&TALK, 2, whole), Fitted::From(2, first));
        assert_eq!(cut_to(&TALK, 2, whole - 39), Fitted::From(5, both));
    }

    #[test]
    fn what_a_model_said_first_is_a_turn_too() {
        let talk = [('a', 10), ('u', 10), ('a', 10), ('u', 10)];
        assert_eq!(cut_to(&talk, 0, 40 + 19 - 1), Fitted::From(1, Some(LeftOut { turns: 1, tokens: 14 })));
    }

    #[test]
    fn a_summary_stands_where_the_oldest_turns_were() {
        let summary = Line { speaker: Speaker::System, text: "In short.".to_owned() };
        let lines = talk(&TALK).into_lines(2, Some(summary));
        let said: Vec<usize> = lines.iter().map(|line| line.text.len()).collect();
        assert_eq!(said, [25, 9, 150, 200, 250, 300]);
    }

    #[test]
    fn a_text_that_is_too_long_keeps_its_end() {
        let counts = Counts::default();
        assert_eq!(cut_off(&counts, "ä tide".to_owned(), 9), "ä tide");
        let cut = cut_off(&counts, format!("{}é", " tide".repeat(1000)), 100);
        assert!(cut.ends_with("tideé") && (90..=110).contains(&counts.count(&cut)), "{}", counts.count(&cut));
    }

    #[test]
    fn a_conversation_of_nothing_but_spaces_is_counted_in_no_time() {
        let mut talk = talk(&TALK);
        for earlier in &mut talk.earlier {
            earlier.line.text = " ".repeat(100_000);
        }
        let (counts, begun) = (Counts::default(), Instant::now());
        for room in 0..50 {
            assert!(matches!(cut(&counts, &talk, 0, 100 + room), Fitted::From(5, _)));
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
