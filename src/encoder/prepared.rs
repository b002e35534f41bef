//! A text between the two halves of encoding.

/// A text made ready for encoding: what the stage of text handling hands to the stage of arithmetic.
///
/// ```
/// use ascribe::encoder::PreparedText;
/// let prepared = PreparedText::tokens(vec![101, 4937, 102]);
/// assert_eq!((prepared.token_count(), prepared.as_tokens()), (3, Some(&[101, 4937, 102][..])));
/// assert_eq!(PreparedText::text("a cat").as_text(), Some("a cat"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedText {
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Text(String),
    Tokens(Vec<u32>),
}

/// Bytes of text that count as one token where an encoder has none: the mean of English.
const BYTES_PER_TOKEN: usize = 4;

impl PreparedText {
    /// A text that its encoder takes as it is.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: Content::Text(text.into()) }
    }

    /// The numbers of a text's tokens, special ones included.
    pub fn tokens(tokens: Vec<u32>) -> Self {
        Self { content: Content::Tokens(tokens) }
    }

    /// What encoding it costs, in tokens; at least 1. Batches are packed by it.
    pub fn token_count(&self) -> usize {
        match &self.content {
            Content::Text(text) => text.len().div_ceil(BYTES_PER_TOKEN).max(1),
            Content::Tokens(tokens) => tokens.len().max(1),
        }
    }

    /// The text, if it was left as it is.
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Tokens(_) => None,
        }
    }

    /// The tokens, if it was tokenised.
    pub fn as_tokens(&self) -> Option<&[u32]> {
        match &self.content {
            Content::Text(_) => None,
            Content::Tokens(tokens) => Some(tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_counted_in_tokens_and_never_zero() {
        let counts = ["", "a", "abcd", "abcde"].map(|text| PreparedText::text(text).token_count());
        assert_eq!(counts, [1, 1, 1, 2]);
        assert_eq!(PreparedText::tokens(vec![]).token_count(), 1);
        assert_eq!(PreparedText::tokens(vec![7; 9]).token_count(), 9);
        assert_eq!(PreparedText::tokens(vec![7]).as_text(), None);
        assert_eq!(PreparedText::text("a").as_tokens(), None);
    }
}
