//! Tables that fit the page.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, Width};
use comfy_table::{ContentLineStyle, LineStyle, TableStyle};

use super::{Page, escaped};

/// Characters of a cell that are looked at: more than any page is wide.
const CELL_CHARACTERS_MAX: usize = 2000;

/// Spaces between two columns.
const GAP: u16 = 2;

/// How a column of a [`Grid`] is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GridColumn {
    /// Right-aligned, never cut.
    Number,
    /// Left-aligned, cut at a quarter of the page.
    Name,
    /// Left-aligned, cut where the page ends.
    Text,
    /// Left-aligned, continued on further lines where the page ends: for what must be read whole.
    Paragraph,
}

/// A table of text cells, one line a row unless it has a [`GridColumn::Paragraph`]. What does not fit is cut with an
/// ellipsis; control characters are escaped.
///
/// ```
/// use ascribe::answers::{Grid, GridColumn, Page};
/// let mut grid = Grid::new(&[("row", GridColumn::Number), ("text", GridColumn::Text)]);
/// grid.row(["7", "a cat\n"]);
/// let mut out = Vec::new();
/// grid.write(&mut out, Page::default())?;
/// let lines: Vec<_> = str::from_utf8(&out).unwrap_or_default().lines().collect();
/// assert_eq!(lines, ["row  text", "────────────", "  7  a cat\\n"]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Grid {
    table: Table,
    columns: Vec<GridColumn>,
    wraps: bool,
    signed: Option<usize>,
}

impl Grid {
    /// An empty table with these columns. Without any title there is no header.
    pub fn new(columns: &[(&str, GridColumn)]) -> Self {
        let mut table = Table::new();
        let line = ContentLineStyle::none();
        table
            .load_style(
                TableStyle::new()
                    .header_lines(line)
                    .content_lines(line)
                    .header_separator(LineStyle::none().fill('─')),
            )
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_truncation_indicator("…");
        let kinds: Vec<GridColumn> = columns.iter().map(|(_, column)| *column).collect();
        let wraps = kinds.contains(&GridColumn::Paragraph);
        if !wraps {
            // No cell holds this character, so that cells are cut anywhere and not only between words.
            table.set_delimiter('\0');
        }
        if columns.iter().any(|(title, _)| !title.is_empty()) {
            table.set_header(columns.iter().map(|(title, _)| *title));
        }
        Self { table, columns: kinds, wraps, signed: None }
    }

    /// Colours the cells of a column by their sign: `+` green, `-` red.
    pub fn colour_signs(&mut self, column: usize) {
        self.signed = Some(column);
    }

    /// Adds a row.
    pub fn row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        let mut row = Row::new();
        if !self.wraps {
            row.max_height(1);
        }
        for (index, text) in cells.into_iter().enumerate() {
            let mut cell = match text.char_indices().nth(CELL_CHARACTERS_MAX) {
                Some((end, _)) => Cell::new(format!("{}…", escaped(&text[..end]))),
                None => Cell::new(escaped(text)),
            };
            if self.signed == Some(index) {
                let colour = if text.starts_with('-') { Color::Red } else { Color::Green };
                cell = cell.fg(colour);
            }
            row.add_cell(cell);
        }
        self.table.add_row(row);
    }

    /// Writes the table.
    ///
    /// # Errors
    /// `out` cannot be written to.
    pub fn write(mut self, out: &mut dyn Write, page: Page) -> io::Result<()> {
        self.table.discover_columns();
        self.table.set_width(page.width);
        if page.colour {
            self.table.enforce_styling();
        } else {
            self.table.force_no_tty();
        }
        let last = self.columns.len().saturating_sub(1);
        for (index, kind) in self.columns.iter().enumerate() {
            let Some(column) = self.table.column_mut(index) else { continue };
            column.set_padding((0, if index == last { 0 } else { GAP }));
            match kind {
                GridColumn::Number => {
                    column.set_cell_alignment(CellAlignment::Right);
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
                GridColumn::Name => {
                    let quarter = Width::Fixed(page.width / 4);
                    column.set_constraint(ColumnConstraint::UpperBoundary(quarter));
                }
                GridColumn::Text | GridColumn::Paragraph => {}
            }
        }
        for line in self.table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(grid: Grid, width: u16, colour: bool) -> String {
        let mut out = Vec::new();
        grid.write(&mut out, Page { width, colour }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_line_is_wider_than_the_page_and_long_texts_are_cut() {
        let columns = [("score", GridColumn::Number), ("key", GridColumn::Name), ("text", GridColumn::Text)];
        for width in [40, 80, 120] {
            let mut grid = Grid::new(&columns);
            grid.row(["+0.5000", &"k".repeat(300), &"many words ".repeat(300)]);
            grid.row(["-123456.7890", "short", &"日本語".repeat(300)]);
            let text = written(grid, width, false);
            assert_eq!(text.lines().count(), 4, "{text}");
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
            }
            assert_eq!(text.matches('…').count(), 3, "{text}");
            assert!(text.contains("-123456.7890"), "{text}");
        }
    }

    #[test]
    fn paragraphs_are_not_cut() {
        let mut grid = Grid::new(&[("place", GridColumn::Name), ("message", GridColumn::Paragraph)]);
        let message = (0..40).map(|word| format!("word{word}")).collect::<Vec<_>>().join(" ");
        grid.row(["file", &message]);
        let text = written(grid, 60, false);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(text.contains("word0 ") && text.contains("word39") && !text.contains('…'), "{text}");
    }

    #[test]
    fn colour_is_used_only_where_it_may() {
        let make = || {
            let mut grid = Grid::new(&[("score", GridColumn::Number)]);
            grid.colour_signs(0);
            grid.row(["+1.0"]);
            grid
        };
        assert!(!written(make(), 80, false).contains('\u{1b}'));
        assert!(written(make(), 80, true).contains('\u{1b}'));
    }

    #[test]
    fn escapes_in_cells_do_not_reach_the_terminal() {
        let mut grid = Grid::new(&[("", GridColumn::Name), ("", GridColumn::Text)]);
        grid.row(["k\u{1b}[2J", "two\nlines"]);
        assert_eq!(written(grid, 80, false), "k\\u{1b}[2J  two\\nlines\n");
    }
}
