//! What is shown: the answer's text on standard output, all else on standard error.

use std::env;
use std::io::{self, IsTerminal, Write};

const DIM: &str = "\u{1b}[2m";
const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// A terminal, or what stands in its place.
pub struct Screen {
    /// Standard output is a terminal: what controls one is not passed on to it.
    terminal: bool,
    /// Standard error is a terminal, and colours are welcome there.
    colours: bool,
    /// Where both are a terminal: whether the cursor stands within a line.
    within_line: bool,
}

/// Nobody reads any more.
pub struct Gone;

impl Screen {
    /// Standard output and error, as they are.
    pub fn new() -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { terminal: io::stdout().is_terminal(), colours: wanted && io::stderr().is_terminal(), within_line: false }
    }

    /// Asks for a question.
    pub fn prompt(&mut self) {
        let (bold, plain) = if self.colours { (BOLD, PLAIN) } else { ("", "") };
        self.end_line();
        let _unseen = write!(io::stderr(), "{bold}> {plain}");
    }

    /// Ends the line of a prompt that nobody answered.
    pub fn end_prompt(&mut self) {
        let _unseen = writeln!(io::stderr());
    }

    /// Shows text of the answer at once.
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn say(&mut self, text: &str) -> Result<(), Gone> {
        let mut out = io::stdout().lock();
        let written =
            if self.terminal { out.write_all(harmless(text).as_bytes()) } else { out.write_all(text.as_bytes()) };
        self.within_line = text.chars().next_back().map_or(self.within_line, |last| last != '\n');
        written.and_then(|()| out.flush()).map_err(|_| Gone)
    }

    /// Ends the answer's last line.
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn end_answer(&mut self) -> Result<(), Gone> {
        if self.within_line { self.say("\n") } else { Ok(()) }
    }

    /// Says a line about the answer.
    pub fn note(&mut self, text: &str) {
        self.end_line();
        let (dim, plain) = if self.colours { (DIM, PLAIN) } else { ("", "") };
        let _unseen = writeln!(io::stderr(), "{dim}{}{plain}", harmless(text));
    }

    /// On a terminal a note does not begin in the middle of the answer's line.
    fn end_line(&mut self) {
        if self.terminal && self.within_line && io::stderr().is_terminal() {
            let _unseen = writeln!(io::stderr());
            self.within_line = false;
        }
    }
}

/// What a model or a source says must not move the cursor, name the window, or fill the clipboard (ECMA-48), nor turn
/// what follows around (the explicit marks of the Unicode Bidirectional Algorithm, UAX #9, section 2).
fn harmless(text: &str) -> String {
    let is_harmful = |char: char| match char {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => char.is_control(),
    };
    text.chars().map(|char| if is_harmful(char) { '\u{fffd}' } else { char }).collect()
}
