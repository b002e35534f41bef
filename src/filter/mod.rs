//! Floor 1: filter expressions over declared metadata fields.
//!
//! [`Predicate::parse`] checks a text against the declared fields; [`Predicate::evaluate`] says which rows of an
//! Arrow batch pass. The language is the part of SQL that people write after `WHERE`:
//!
//! | construct | notes |
//! | --- | --- |
//! | `=  <>  !=  <  <=  >  >=` | a field with a literal, either side, or two fields of comparable types |
//! | `AND`, `OR`, `NOT`, parentheses | a boolean field may stand alone: `checked AND NOT spam` |
//! | `[NOT] IN (...)` | literals, also NULL |
//! | `[NOT] BETWEEN low AND high` | both ends included |
//! | `[NOT] LIKE 'pattern' [ESCAPE 'c']` | `%` any run, `_` one character; no escape unless given |
//! | `IS [NOT] NULL` | |
//! | `'text'`, `12`, `-1.5`, `1e3`, `TRUE`, `FALSE`, `NULL` | `''` inside a text is one quote |
//! | `name`, `"a-b"` | case-sensitive; only words of this table and names with `-` need the double quotes |
//!
//! Timestamps compare with quoted text (`'2024-05-01'`, `'2024-05-01 12:00:00'`, RFC 3339). Text compares byte by
//! byte. Integers, integer literals and floats compare by their exact values. Missing values follow SQL: a comparison
//! with NULL is unknown, NOT of unknown is unknown, and a row passes only where the whole expression is true.
//!
//! sqlparser reads the text into tokens; the grammar above is parsed here. sqlparser's own expression parser takes
//! exponential time on nested `NOT (` with a mistake inside, and overflows the stack on nested type names, so a
//! hostile expression could stop a server.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `check.rs` | operands to conditions: names and types |
//! | `error.rs` | what can be wrong with a filter |
//! | `evaluate.rs` | a predicate over an Arrow batch, to a row set |
//! | `lexer.rs` | text to symbols |
//! | `like.rs` | LIKE patterns |
//! | `literal.rs` | comparisons, and exact number literals |
//! | `model_tests.rs` | random filters and batches against a row-by-row evaluator |
//! | `parse.rs` | symbols to a predicate: the grammar |
//! | `parse_tests.rs` | what the parser takes, refuses and says; hostile texts |
//! | `predicate.rs` | the checked tree and its text |
//! | `spelling.rs` | the nearest declared name |
//! | `truth.rs` | bitmaps of three-valued truth |

mod check;
mod error;
mod evaluate;
mod lexer;
mod like;
mod literal;
#[cfg(test)]
mod model_tests;
mod parse;
mod predicate;
mod spelling;
mod truth;

pub use error::{FilterError, Position};
pub use predicate::Predicate;
