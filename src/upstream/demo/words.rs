//! The words of a question that tell the demo how to behave.

/// How an answer is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `slow`
    pub slow: bool,
    /// `long`
    pub long: bool,
    /// `fail`
    pub fail: bool,
    /// `refuse`
    pub refuse: bool,
    /// `busy`
    pub busy: bool,
    /// `silent`
    pub silent: bool,
    /// `stall`
    pub stall: bool,
    /// `cut`
    pub cut: bool,
    /// `filter`
    pub filter: bool,
    /// `think` or `reason`
    pub think: bool,
    /// `chart`
    pub chart: bool,
    /// `table`
    pub table: bool,
}

impl Wishes {
    /// Those in a question: whole words, in capitals or not.
    pub fn of(question: &str) -> Self {
        let mut wishes = Self::default();
        for word in question.split(|letter: char| !letter.is_alphanumeric()) {
            let wish = match word.to_lowercase().as_str() {
                "slow" => &mut wishes.slow,
                "long" => &mut wishes.long,
                "fail" => &mut wishes.fail,
                "refuse" => &mut wishes.refuse,
                "busy" => &mut wishes.busy,
                "silent" => &mut wishes.silent,
                "stall" => &mut wishes.stall,
                "cut" => &mut wishes.cut,
                "filter" => &mut wishes.filter,
                "think" | "reason" => &mut wishes.think,
                "chart" => &mut wishes.chart,
                "table" => &mut wishes.table,
                _ => continue,
            };
            *wish = true;
        }
        wishes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_count() {
        let wishes = Wishes::of("Slow, please; and THINK! No shortcuts on the tablecloth.");
        assert_eq!(wishes, Wishes { slow: true, think: true, ..Wishes::default() });
    }
}
