//! Text to symbols: sqlparser's tokens, cut down to those that filters know.

use std::fmt;

use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Location, Token, Tokenizer, Whitespace};

use super::error::{FilterError, Position, shorten};
use super::literal::Comparison;
use crate::base::limits::FILTER_CHARACTERS_MAX;

/// A reserved word of filters; any other word is a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Or,
    Not,
    In,
    Between,
    Like,
    Escape,
    Is,
    Null,
    True,
    False,
}

impl Keyword {
    const ALL: [Self; 11] = [
        Self::And,
        Self::Or,
        Self::Not,
        Self::In,
        Self::Between,
        Self::Like,
        Self::Escape,
        Self::Is,
        Self::Null,
        Self::True,
        Self::False,
    ];

    /// The word in capitals.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::And => "AND",
            Self::Or => "OR",
            Self::Not => "NOT",
            Self::In => "IN",
            Self::Between => "BETWEEN",
            Self::Like => "LIKE",
            Self::Escape => "ESCAPE",
            Self::Is => "IS",
            Self::Null => "NULL",
            Self::True => "TRUE",
            Self::False => "FALSE",
        }
    }

    /// The keyword that `word` is, in any letter case.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|keyword| keyword.text().eq_ignore_ascii_case(word))
    }
}

/// A symbol of a filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Symbol {
    /// A field's name.
    Name {
        name: String,
        quoted: bool,
    },
    /// Decimal digits, without a sign.
    Number(String),
    /// A quoted text, without its quotes.
    Text(String),
    Keyword(Keyword),
    Compare(Comparison),
    Plus,
    Minus,
    Open,
    Close,
    Comma,
    /// The end of the filter.
    End,
}

impl fmt::Display for Symbol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, .. } => write!(formatter, "{:?}", shorten(name)),
            Self::Number(digits) => formatter.write_str(&shorten(digits)),
            Self::Text(text) => write!(formatter, "'{}'", shorten(text)),
            Self::Keyword(keyword) => formatter.write_str(keyword.text()),
            Self::Compare(operator) => write!(formatter, "'{operator}'"),
            Self::Plus => formatter.write_str("'+'"),
            Self::Minus => formatter.write_str("'-'"),
            Self::Open => formatter.write_str("'('"),
            Self::Close => formatter.write_str("')'"),
            Self::Comma => formatter.write_str("','"),
            Self::End => formatter.write_str("the end"),
        }
    }
}

/// The symbols of `text` with their places; the last one is [`Symbol::End`].
///
/// # Errors
/// The text is too long, is no SQL, or has tokens that filters do not know.
pub(super) fn symbols(text: &str) -> Result<Vec<(Symbol, Position)>, FilterError> {
    if text.chars().nth(FILTER_CHARACTERS_MAX).is_some() {
        return Err(FilterError::TooLong { limit: FILTER_CHARACTERS_MAX });
    }
    let tokens = Tokenizer::new(&GenericDialect, text).tokenize_with_location().map_err(|error| {
        FilterError::Unreadable { position: position(error.location), reason: error.message }
    })?;
    let mut end = Position { line: 1, column: 1 };
    let mut symbols = Vec::new();
    for token in tokens {
        end = position(token.span.end);
        if let Some(symbol) = symbol(token.token, position(token.span.start))? {
            symbols.push((symbol, position(token.span.start)));
        }
    }
    symbols.push((Symbol::End, end));
    Ok(symbols)
}

/// The symbol of a token; `None` for white space.
fn symbol(token: Token, position: Position) -> Result<Option<Symbol>, FilterError> {
    Ok(Some(match token {
        Token::Word(word) => match (word.quote_style, Keyword::from_word(&word.value)) {
            (None, Some(keyword)) => Symbol::Keyword(keyword),
            (quote, _) => Symbol::Name { name: word.value, quoted: quote.is_some() },
        },
        Token::Number(digits, false) => Symbol::Number(digits),
        Token::SingleQuotedString(text) => Symbol::Text(text),
        Token::Eq => Symbol::Compare(Comparison::Equal),
        Token::Neq => Symbol::Compare(Comparison::NotEqual),
        Token::Lt => Symbol::Compare(Comparison::Less),
        Token::LtEq => Symbol::Compare(Comparison::LessOrEqual),
        Token::Gt => Symbol::Compare(Comparison::Greater),
        Token::GtEq => Symbol::Compare(Comparison::GreaterOrEqual),
        Token::Plus => Symbol::Plus,
        Token::Minus => Symbol::Minus,
        Token::LParen => Symbol::Open,
        Token::RParen => Symbol::Close,
        Token::Comma => Symbol::Comma,
        Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab) => return Ok(None),
        other => return Err(FilterError::Unsupported { position, construct: construct(&other) }),
    }))
}

/// What a token that filters do not know is called.
fn construct(token: &Token) -> String {
    match token {
        // A comment would silently drop the conditions behind it.
        Token::Whitespace(_) => "a comment".to_owned(),
        Token::Number(digits, _) => format!("the number {}L with a suffix", shorten(digits)),
        Token::Mul | Token::Div | Token::DuckIntDiv | Token::Mod | Token::StringConcat => {
            format!("arithmetic ('{token}')")
        }
        Token::HexStringLiteral(_) => "a hexadecimal literal".to_owned(),
        Token::Placeholder(_) | Token::Question => "a placeholder".to_owned(),
        Token::SemiColon => "a statement after ';'".to_owned(),
        other => format!("'{}'", shorten(&other.to_string())),
    }
}

fn position(location: Location) -> Position {
    Position { line: location.line, column: location.column }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Symbol> {
        symbols(text).unwrap().into_iter().map(|(symbol, _)| symbol).collect()
    }

    #[test]
    fn words_are_keywords_unless_quoted() {
        let name = |name: &str, quoted| Symbol::Name { name: name.to_owned(), quoted };
        assert_eq!(
            read(r#"And "and" date "a-b" "a""b""#),
            [
                Symbol::Keyword(Keyword::And),
                name("and", true),
                name("date", false),
                name("a-b", true),
                name("a\"b", true),
                Symbol::End
            ]
        );
    }

    #[test]
    fn literals_keep_their_characters() {
        let number = |digits: &str| Symbol::Number(digits.to_owned());
        assert_eq!(read(r"'it''s \n'"), [Symbol::Text(r"it's \n".to_owned()), Symbol::End]);
        assert_eq!(read("1.5 2e-7 .5"), [number("1.5"), number("2e-7"), number(".5"), Symbol::End]);
        assert_eq!(read("a<-5")[1..3], [Symbol::Compare(Comparison::Less), Symbol::Minus]);
    }

    #[test]
    fn other_tokens_are_named_with_their_place() {
        for (text, construct) in [
            ("a = 1 -- b", "a comment"),
            ("a = 1 /* b */", "a comment"),
            ("a + 1 = 2 * 3", "arithmetic ('*')"),
            ("a = 0x10", "a hexadecimal literal"),
            ("a = ?", "a placeholder"),
            ("a = 1; DROP", "a statement after ';'"),
            ("a = N'x'", "'N'x''"),
            ("a == 1", "'=='"),
            ("a = 5L", "the number 5L with a suffix"),
        ] {
            match symbols(text) {
                Err(FilterError::Unsupported { construct: found, position }) => {
                    assert_eq!(found, construct, "{text}");
                    assert!(position.column > 1 && position.line == 1, "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(symbols("a = 'x"), Err(FilterError::Unreadable { .. })));
        assert!(matches!(symbols(&" ".repeat(FILTER_CHARACTERS_MAX + 1)), Err(FilterError::TooLong { .. })));
    }
}
