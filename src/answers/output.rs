//! Formats, and the page that tables are written on.

use std::fmt;

use comfy_table::Table;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutputFormat {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON object, indented.
    Json,
    /// One JSON object a row, each on a line of its own.
    JsonLines,
    /// Comma-separated values with a header.
    Csv,
}

impl OutputFormat {
    /// Every format.
    pub const ALL: [OutputFormat; 4] = [Self::Table, Self::Json, Self::JsonLines, Self::Csv];

    /// Name in flags: `table`, `json`, `jsonl`, `csv`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::JsonLines => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// The format of this [`name`](Self::name), if any.
    ///
    /// ```
    /// use ascribe::answers::OutputFormat;
    /// assert_eq!(OutputFormat::from_name("jsonl"), Some(OutputFormat::JsonLines));
    /// assert_eq!(OutputFormat::from_name("xml"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The page that tables are written on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Characters of a line.
    pub width: u16,
    /// Whether colours may be used.
    pub colour: bool,
}

impl Page {
    /// Characters of a line where there is no terminal to ask.
    pub const WIDTH_DEFAULT: u16 = 120;

    /// Characters of a line below which no table is made narrower.
    pub const WIDTH_MIN: u16 = 40;

    /// The page of standard output: as wide as its terminal, or [`WIDTH_DEFAULT`](Self::WIDTH_DEFAULT).
    pub fn of_stdout(colour: bool) -> Self {
        let width = Table::new().width().filter(|width| *width > 0).unwrap_or(Self::WIDTH_DEFAULT);
        Self { width: width.max(Self::WIDTH_MIN), colour }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self { width: Self::WIDTH_DEFAULT, colour: false }
    }
}
