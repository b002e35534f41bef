//! Text that cannot steer a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` on one line, with every character that could move the cursor, change colours or turn the reading direction
/// shown as an escape such as `\n` or `\u{1b}`.
///
/// Keys and texts come from files that somebody else wrote; printed raw they could rewrite what stands on the screen.
///
/// ```
/// use ascribe::answers::escaped;
/// assert_eq!(escaped("a cat"), "a cat");
/// assert_eq!(escaped("a\n\u{1b}[31mcat"), "a\\n\\u{1b}[31mcat");
/// ```
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if steers(character) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, line separators, and marks that turn the reading direction.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        for code in (0..=0x9f).chain(0x2000..0x2070).chain([0xfeff]) {
            let Some(character) = char::from_u32(code) else { continue };
            let shown = escaped(character.encode_utf8(&mut [0; 4])).into_owned();
            assert!(!shown.chars().any(char::is_control), "{code:x}");
            assert!(!shown.chars().any(|c| ('\u{202a}'..='\u{202e}').contains(&c)), "{code:x}");
        }
    }

    #[test]
    fn letters_of_every_script_stay() {
        for text in ["Schütte, Thomas", "León", "日本語", "naïve 🙂", "back\\slash"] {
            assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(escaped("tab\there\r"), "tab\\there\\r");
        assert_eq!(escaped("a\u{202e}b"), "a\\u{202e}b");
    }
}
