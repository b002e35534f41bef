//! What every reader of documents does.

use super::{Document, Position, SourceError};

/// Gives the documents of one input, in order, one at a time.
///
/// After an error nothing more comes: a reader that went on would leave out the refused record without a trace.
pub trait Source: Send {
    /// The next document; `None` at the end of the input.
    ///
    /// # Errors
    /// The input cannot be read, or its next record is refused. Every later call is refused too.
    fn next(&mut self) -> Result<Option<Document>, SourceError>;

    /// How far the input was read: up to the line end of the last document returned. `None` of an input that cannot
    /// be read again, such as a pipe.
    fn position(&self) -> Option<Position>;

    /// Name of the input for messages: the path as given, or the name given to the reader.
    fn name(&self) -> &str;

    /// Whether all values are text because the input has no types (CSV): a declared field is then parsed from it.
    fn values_are_text(&self) -> bool {
        false
    }

    /// Bytes of the whole input when it was opened; `None` if unknown.
    fn total_bytes(&self) -> Option<u64>;

    /// Bytes read so far, for progress. Beyond the last document's end where blank lines followed it.
    fn consumed_bytes(&self) -> u64;
}

/// A reader that takes documents from `lines`, one after the other, with its own `read`: what is the same for all of
/// them. The second argument says whether values are text only.
macro_rules! source_over_lines {
    ($reader:ident, $values_are_text:literal) => {
        impl<R: std::io::BufRead + Send> $crate::sources::Source for $reader<R> {
            fn next(&mut self) -> Result<Option<$crate::sources::Document>, $crate::sources::SourceError> {
                self.lines.check_open()?;
                let result = self.read();
                self.lines.settle(&result);
                result
            }

            fn position(&self) -> Option<$crate::sources::Position> {
                self.lines.position()
            }

            fn name(&self) -> &str {
                self.lines.name()
            }

            fn values_are_text(&self) -> bool {
                $values_are_text
            }

            fn total_bytes(&self) -> Option<u64> {
                self.lines.total_bytes()
            }

            fn consumed_bytes(&self) -> u64 {
                self.lines.read_bytes()
            }
        }
    };
}
pub(super) use source_over_lines;
