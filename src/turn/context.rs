//! What of a prompt fits a model's window: whole turns are left out, the oldest first.

use serde_json::{Value, json};

use super::Turns;
use crate::upstream::tokens::Counts;
use crate::upstream::{Line, Speaker, tokens};

/// What became of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fitted {
    /// It fits, without what was left out.
    Fits(Vec<Line>, Option<LeftOut>),
    /// Not even the question and the instructions do.
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
    /// As a step tells it.
    pub fn to_json(self) -> Value {
        json!({ "turns": self.turns, "tokens": self.tokens })
    }
}

/// Fits a prompt into `room` tokens. Its last line is the question; that and what the operator says always stay.
pub async fn fit(turns: &Turns, lines: Vec<Line>, room: u64) -> Fitted {
    // No token is shorter than a byte: most prompts need no counting.
    let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
    if tokens::prompt(bytes as u64, lines.len()) <= room {
        return Fitted::Fits(lines, None);
    }
    let counts = turns.counts.clone();
    let fitted = turns.lifecycle.blocking(move || cut(&counts, lines, room)).await;
    fitted.unwrap_or(Fitted::Uncounted)
}

/// The same, counted here.
fn cut(counts: &Counts, mut lines: Vec<Line>, room: u64) -> Fitted {
    let Some(question) = lines.pop() else { return Fitted::Fits(lines, None) };
    let first = lines.iter().take_while(|line| line.speaker == Speaker::System).count();
    let count = |lines: &[Line]| lines.iter().map(|line| counts.count(&line.text)).sum::<u64>();
    let fixed = count(&lines[..first]) + counts.count(&question.text);
    let mut used = tokens::prompt(fixed, first + 1);
    if used > room {
        return Fitted::TooLong;
    }
    // A turn begins with what a person says; what the model said before any of that is one as well.
    let is_begin = |at: &usize| *at == first || lines[*at].speaker == Speaker::User;
    let begins: Vec<usize> = (first..lines.len()).filter(is_begin).collect();
    let ends = begins.iter().skip(1).copied().chain([lines.len()]);
    let (mut kept, mut left) = (lines.len(), LeftOut { turns: 0, tokens: 0 });
    for (begin, end) in begins.iter().copied().zip(ends).collect::<Vec<_>>().into_iter().rev() {
        let turn = tokens::lines(count(&lines[begin..end]), end - begin);
        if left.turns == 0 && used + turn <= room {
            (used, kept) = (used + turn, begin);
        } else {
            left = LeftOut { turns: left.turns + 1, tokens: left.tokens + turn };
        }
    }
    lines.drain(first..kept);
    lines.push(question);
    Fitted::Fits(lines, Some(left).filter(|left| left.turns > 0))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// A prompt whose lines have so many tokens each, by the first letters of who speaks.
    fn prompt(lines: &[(char, usize)]) -> Vec<Line> {
        let line = |&(who, tokens): &(char, usize)| Line {
            speaker: match who {
                's' => Speaker::System,
                'u' => Speaker::User,
                _ => Speaker::Assistant,
            },
            text: " tide".repeat(tokens),
        };
        lines.iter().map(line).collect()
    }

    fn cut_to(lines: &[(char, usize)], room: u64) -> (usize, Option<LeftOut>) {
        match cut(&Counts::default(), prompt(lines), room) {
            Fitted::Fits(kept, left_out) => (kept.len(), left_out),
            Fitted::TooLong | Fitted::Uncounted => panic!("the question fits"),
        }
    }

    const TALK: [(char, usize); 7] = [('s', 5), ('u', 10), ('a', 20), ('u', 30), ('a', 40), ('a', 50), ('u', 60)];
    /// What stands around lines and the prompt.
    const MARKS: u64 = 4 * 7 + 3;

    #[test]
    fn the_oldest_turns_go_and_each_goes_whole() {
        let whole = 5 + 10 + 20 + 30 + 40 + 50 + 60 + MARKS;
        assert_eq!(cut_to(&TALK, whole), (7, None));
        let first = Some(LeftOut { turns: 1, tokens: 30 + 8 });
        assert_eq!(cut_to(&TALK, whole - 1), (5, first));
        assert_eq!(cut_to(&TALK, whole - 38), (5, first));
        // Half of the next turn would fit; none of it stays, and nothing older does.
        let both = Some(LeftOut { turns: 2, tokens: 30 + 8 + 120 + 12 });
        assert_eq!(cut_to(&TALK, whole - 39), (2, both));
        assert_eq!(cut_to(&TALK, 5 + 60 + 8 + 3), (2, both));
        assert_eq!(cut(&Counts::default(), prompt(&TALK), 5 + 60 + 8 + 2), Fitted::TooLong);
    }

    #[test]
    fn what_a_model_said_first_is_a_turn_too() {
        let talk = [('a', 10), ('u', 10), ('a', 10), ('u', 10)];
        assert_eq!(cut_to(&talk, 40 + 19 - 1), (3, Some(LeftOut { turns: 1, tokens: 14 })));
    }

    #[test]
    fn the_last_line_stays_the_question() {
        let Fitted::Fits(lines, _) = cut(&Counts::default(), prompt(&TALK), 100) else { panic!("it fits") };
        assert_eq!(lines.iter().map(|line| line.speaker).collect::<Vec<_>>(), [Speaker::System, Speaker::User]);
        assert_eq!(lines[1].text.len(), 5 * 60);
    }

    #[test]
    fn a_conversation_of_nothing_but_spaces_is_counted_in_no_time() {
        let spaces = |speaker| Line { speaker, text: " ".repeat(100_000) };
        let talk: Vec<Line> =
            (0..21).map(|at| spaces(if at % 2 == 0 { Speaker::User } else { Speaker::Assistant })).collect();
        let (counts, begun) = (Counts::default(), Instant::now());
        for _ in 0..20 {
            assert!(matches!(cut(&counts, talk.clone(), 5000), Fitted::Fits(..)));
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
