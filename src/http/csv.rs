//! Comma-separated values (RFC 4180), safe to open in a spreadsheet.

/// A table that is written row by row.
#[derive(Debug)]
pub struct Table(String);

impl Table {
    /// A table with these columns.
    pub fn new<T: AsRef<str>>(columns: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self(String::new());
        table.row(columns);
        table
    }

    /// Adds a row.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        for (at, cell) in cells.into_iter().enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            self.cell(cell.as_ref());
        }
        self.0.push_str("\r\n");
    }

    /// The whole, each row with its line end.
    pub fn into_text(self) -> String {
        self.0
    }

    fn cell(&mut self, text: &str) {
        // A spreadsheet takes such a cell for a formula, and clients name models (owasp.org, "CSV Injection").
        let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { "'" } else { "" };
        if !text.contains([',', '"', '\r', '\n']) {
            self.0.extend([guard, text]);
            return;
        }
        self.0.extend(["\"", guard, &text.replace('"', "\"\""), "\""]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_where_it_must_be_and_is_no_formula() {
        let mut table = Table::new(["a", "b"]);
        table.row(["x,y", "say \"hi\"\r\n"]);
        table.row(["=1+1", "@SUM(A1),\"x\""]);
        table.row(["-5", "2-3=x"]);
        let due = "a,b\r\n\"x,y\",\"say \"\"hi\"\"\r\n\"\r\n'=1+1,\"'@SUM(A1),\"\"x\"\"\"\r\n'-5,2-3=x\r\n";
        assert_eq!(table.into_text(), due);
    }
}
