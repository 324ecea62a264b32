//! Patterns for models' names: a name, or a glob.

/// How narrow a pattern is: a name before any glob, and of globs the one with more characters of a name.
pub fn narrowness(pattern: &str) -> (bool, usize) {
    let special = |c: char| "*?[]{}\\".contains(c);
    (!pattern.contains(special), pattern.chars().filter(|c| !special(*c)).count())
}
