//! LIKE patterns: `%` any run of characters, `_` one character.

use crate::base::limits::FILTER_PATTERN_CHARACTERS_MAX;

/// The escape character of printed patterns.
const PRINTED_ESCAPE: char = '\\';

/// A part of a pattern without `%`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// These bytes.
    Literal(String),
    /// This many characters, whatever they are.
    Any(usize),
}

/// A LIKE pattern, cut at its `%` signs.
///
/// The first segment is held to the beginning of a text and the last to its end; those between are found from left to
/// right, each as early as possible, which never misses a match. A single segment is the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    segments: Vec<Vec<Piece>>,
}

impl Pattern {
    /// Reads `text`; `escape` makes the next `%`, `_` or itself a plain character.
    ///
    /// # Errors
    /// The pattern is too long, or the escape character stands before anything else; the text says which.
    pub(super) fn parse(text: &str, escape: Option<char>) -> Result<Self, String> {
        if text.chars().nth(FILTER_PATTERN_CHARACTERS_MAX).is_some() {
            return Err(format!(
                "it has more than {FILTER_PATTERN_CHARACTERS_MAX} characters; use a shorter one"
            ));
        }
        let mut segments = vec![Vec::new()];
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if Some(character) == escape {
                match characters.next() {
                    Some(plain) if plain == '%' || plain == '_' || plain == character => {
                        push_plain(&mut segments, plain);
                    }
                    _ => {
                        return Err(format!(
                            "the escape character {character:?} must stand before '%', '_' or itself; double it to \
                             mean itself"
                        ));
                    }
                }
            } else {
                match character {
                    '%' => segments.push(Vec::new()),
                    '_' => push_any(&mut segments),
                    plain => push_plain(&mut segments, plain),
                }
            }
        }
        // Neighbouring `%` are one.
        let last = segments.len() - 1;
        let mut place = 0;
        segments.retain(|segment| {
            let keep = place == 0 || place == last || !segment.is_empty();
            place += 1;
            keep
        });
        Ok(Self { segments })
    }

    /// Whether the whole of `text` fits.
    ///
    /// # Complexity
    /// Linear in the text for patterns without `_`; pattern times text at worst.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some((first, others)) = self.segments.split_first() else { return text.is_empty() };
        let Some(rest) = strip_start(first, text) else { return false };
        let Some((last, between)) = others.split_last() else { return rest.is_empty() };
        let Some(mut rest) = strip_end(last, rest) else { return false };
        for segment in between {
            match find(segment, rest) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        true
    }

    /// The pattern as text, and the escape character it needs, if any.
    pub(super) fn text(&self) -> (String, Option<char>) {
        let pieces = || self.segments.iter().flatten();
        let escaped =
            pieces().any(|piece| matches!(piece, Piece::Literal(text) if text.contains(['%', '_'])));
        let mut out = String::new();
        for (place, segment) in self.segments.iter().enumerate() {
            if place > 0 {
                out.push('%');
            }
            for piece in segment {
                match piece {
                    Piece::Any(count) => out.extend(std::iter::repeat_n('_', *count)),
                    Piece::Literal(text) => {
                        for character in text.chars() {
                            if escaped && matches!(character, '%' | '_' | PRINTED_ESCAPE) {
                                out.push(PRINTED_ESCAPE);
                            }
                            out.push(character);
                        }
                    }
                }
            }
        }
        (out, escaped.then_some(PRINTED_ESCAPE))
    }
}

fn push_plain(segments: &mut [Vec<Piece>], character: char) {
    if let Some(segment) = segments.last_mut() {
        if let Some(Piece::Literal(text)) = segment.last_mut() {
            text.push(character);
        } else {
            segment.push(Piece::Literal(character.into()));
        }
    }
}

fn push_any(segments: &mut [Vec<Piece>]) {
    if let Some(segment) = segments.last_mut() {
        if let Some(Piece::Any(count)) = segment.last_mut() {
            *count += 1;
        } else {
            segment.push(Piece::Any(1));
        }
    }
}

/// What is left of `text` after `segment` at its beginning.
fn strip_start<'a>(segment: &[Piece], text: &'a str) -> Option<&'a str> {
    segment.iter().try_fold(text, |rest, piece| match piece {
        Piece::Literal(literal) => rest.strip_prefix(literal.as_str()),
        Piece::Any(count) => skip(rest, *count),
    })
}

/// What is left of `text` before `segment` at its end.
fn strip_end<'a>(segment: &[Piece], text: &'a str) -> Option<&'a str> {
    segment.iter().rev().try_fold(text, |rest, piece| match piece {
        Piece::Literal(literal) => rest.strip_suffix(literal.as_str()),
        Piece::Any(count) => {
            let (start, _) = rest.char_indices().nth_back(count.checked_sub(1)?)?;
            rest.get(..start)
        }
    })
}

/// What is left of `text` after the earliest place where `segment` fits.
fn find<'a>(segment: &[Piece], text: &'a str) -> Option<&'a str> {
    let mut rest = text;
    let mut pieces = segment;
    // A segment has one width in characters, so its leading `_` only move the place where the search begins.
    if let Some((Piece::Any(count), others)) = pieces.split_first() {
        rest = skip(rest, *count)?;
        pieces = others;
    }
    let Some((Piece::Literal(literal), others)) = pieces.split_first() else { return Some(rest) };
    loop {
        let start = rest.find(literal.as_str())?;
        let found = rest.get(start..)?;
        if let Some(after) = strip_start(others, found.strip_prefix(literal.as_str())?) {
            return Some(after);
        }
        rest = skip(found, 1)?;
    }
}

/// `text` without its first `count` characters.
fn skip(text: &str, count: usize) -> Option<&str> {
    let mut characters = text.chars();
    if count > 0 {
        characters.nth(count - 1)?;
    }
    Some(characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern, Some('\\')).unwrap().matches(text)
    }

    #[test]
    fn patterns_of_every_shape() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("_", "", false),
            ("_", "é", true),
            ("__", "é", false),
            ("a%", "abc", true),
            ("%c", "abc", true),
            ("a%a", "a", false),
            ("%b%", "abc", true),
            ("%b_d%", "abbced", false),
            ("%b_d%", "abbcd", true),
            ("%ab_%ab", "xabab", false),
            ("%ab_%ab", "xabyab", true),
            ("%_b", "b", false),
            ("A%", "abc", false),
            ("100\\%", "100%", true),
            ("100\\%", "100x", false),
            ("a\\\\b", "a\\b", true),
            ("%aab%", "aaab", true),
            ("%aa_b%", "aaaxb", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn escapes_stand_before_what_they_escape() {
        for pattern in ["a\\", "\\a"] {
            assert!(Pattern::parse(pattern, Some('\\')).is_err(), "{pattern}");
            assert!(Pattern::parse(pattern, None).is_ok(), "{pattern}");
        }
        assert!(Pattern::parse(&"a".repeat(FILTER_PATTERN_CHARACTERS_MAX + 1), None).is_err());
    }

    #[test]
    fn a_pattern_made_to_backtrack_ends_soon() {
        let pattern = "%a_".repeat(300) + "b";
        let text = "a".repeat(20_000);
        assert!(!fits(&pattern, &text));
        assert!(!fits(&("%".to_owned() + &"a_".repeat(500) + "b%"), &text));
    }

    /// By definition: `%` tries every length.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|start| naive(rest, &text[start..])),
            Some(('_', rest)) => !text.is_empty() && naive(rest, &text[1..]),
            Some((plain, rest)) => text.first() == Some(plain) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[aé%_]{0,7}", text in "[aéb]{0,9}") {
            let parsed = Pattern::parse(&pattern, None).unwrap();
            let (letters, characters): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(parsed.matches(&text), naive(&letters, &characters));
        }

        #[test]
        fn printed_patterns_read_back(pattern in "[ab!%_\\\\]{0,12}") {
            if let Ok(parsed) = Pattern::parse(&pattern, Some('!')) {
                let (text, escape) = parsed.text();
                prop_assert_eq!(Pattern::parse(&text, escape), Ok(parsed));
            }
        }
    }
}
