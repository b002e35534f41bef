//! Symbols to a predicate: the grammar, names and types.
//!
//! ```text
//! or       = and { OR and }
//! and      = not { AND not }
//! not      = { NOT } relation
//! relation = primary [ compare primary | [NOT] IN ( literal , ... ) | [NOT] BETWEEN primary AND primary
//!                    | [NOT] LIKE primary [ ESCAPE text ] | IS [NOT] NULL ]
//! primary  = ( or ) | name | literal
//! ```
//!
//! Only parentheses recurse, and they are counted.

use super::check::{Checker, Operand, Value};
use super::error::{FilterError, Position, shorten};
use super::lexer::{Keyword, Symbol, symbols};
use super::literal::Comparison;
use super::predicate::{Node, Predicate};
use crate::base::FieldDeclaration;
use crate::base::limits::FILTER_DEPTH_MAX;

impl Predicate {
    /// Reads `text` as a condition over the declared `fields`; the language is described at [`filter`](super).
    ///
    /// # Errors
    /// The text is longer than [`FILTER_CHARACTERS_MAX`](crate::base::limits::FILTER_CHARACTERS_MAX) characters or
    /// nests deeper than [`FILTER_DEPTH_MAX`]; is no condition; has SQL that filters do not support; names a field
    /// that is not declared; or compares a field with a value of another type.
    ///
    /// # Complexity
    /// Linear in the text, apart from sorting IN lists.
    ///
    /// ```
    /// use ascribe::base::{FieldDeclaration, FieldType};
    /// use ascribe::filter::{FilterError, Predicate};
    /// let fields = [FieldDeclaration { name: "year".to_owned(), kind: FieldType::Integer }];
    /// assert!(Predicate::parse("year BETWEEN 1990 AND 1999 OR year IS NULL", &fields).is_ok());
    /// let error = Predicate::parse("yaer > 1990", &fields).unwrap_err();
    /// assert!(matches!(error, FilterError::UnknownField { .. }));
    /// assert_eq!(
    ///     error.to_string(),
    ///     "no field \"yaer\" at line 1, column 1 (did you mean \"year\"?); declared fields: year"
    /// );
    /// ```
    pub fn parse(text: &str, fields: &[FieldDeclaration]) -> Result<Predicate, FilterError> {
        let mut parser =
            Parser { symbols: symbols(text)?, place: 0, depth: 0, checker: Checker::new(fields) };
        let term = parser.or()?;
        let root = parser.condition(term)?;
        if *parser.peek() != Symbol::End {
            return Err(parser.unexpected("AND, OR or the end"));
        }
        Ok(Predicate { fields: parser.checker.into_used(), root })
    }
}

/// What stands in an expression: a value, or a condition already.
enum Term {
    Value(Operand),
    Condition(Node, Position),
}

struct Parser<'a> {
    symbols: Vec<(Symbol, Position)>,
    place: usize,
    /// Open parentheses.
    depth: usize,
    checker: Checker<'a>,
}

impl Parser<'_> {
    fn peek(&self) -> &Symbol {
        self.symbols.get(self.place).map_or(&Symbol::End, |(symbol, _)| symbol)
    }

    fn position(&self) -> Position {
        let last = self.symbols.len().saturating_sub(1);
        self.symbols
            .get(self.place.min(last))
            .map_or(Position { line: 1, column: 1 }, |(_, position)| *position)
    }

    /// Steps over `keyword` if it is next.
    fn take(&mut self, keyword: Keyword) -> bool {
        let found = *self.peek() == Symbol::Keyword(keyword);
        self.place += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: Symbol, expected: &str) -> Result<(), FilterError> {
        if *self.peek() != symbol {
            return Err(self.unexpected(expected));
        }
        self.place += 1;
        Ok(())
    }

    fn unexpected(&self, expected: &str) -> FilterError {
        let position = self.position();
        match self.peek() {
            Symbol::Plus | Symbol::Minus => {
                let construct = format!("arithmetic ({}; a name with '-' needs double quotes)", self.peek());
                FilterError::Unsupported { position, construct }
            }
            found => {
                FilterError::Syntax { position, expected: expected.to_owned(), found: found.to_string() }
            }
        }
    }

    /// Whether one more parenthesis may open. BETWEEN and IN ask too: they are held, and printed, as comparisons joined
    /// by AND or OR, which may take parentheses that the text did not have.
    fn check_room(&self) -> Result<(), FilterError> {
        if self.depth == FILTER_DEPTH_MAX {
            return Err(FilterError::TooDeep { position: self.position(), limit: FILTER_DEPTH_MAX });
        }
        Ok(())
    }

    fn or(&mut self) -> Result<Term, FilterError> {
        let position = self.position();
        let first = self.and()?;
        if *self.peek() != Symbol::Keyword(Keyword::Or) {
            return Ok(first);
        }
        let mut terms = vec![self.condition(first)?];
        while self.take(Keyword::Or) {
            let term = self.and()?;
            terms.push(self.condition(term)?);
        }
        Ok(Term::Condition(Node::or(terms), position))
    }

    fn and(&mut self) -> Result<Term, FilterError> {
        let position = self.position();
        let first = self.not()?;
        if *self.peek() != Symbol::Keyword(Keyword::And) {
            return Ok(first);
        }
        let mut terms = vec![self.condition(first)?];
        while self.take(Keyword::And) {
            let term = self.not()?;
            terms.push(self.condition(term)?);
        }
        Ok(Term::Condition(Node::and(terms), position))
    }

    fn not(&mut self) -> Result<Term, FilterError> {
        let position = self.position();
        let first = self.place;
        while self.take(Keyword::Not) {}
        let negations = self.place - first;
        let term = self.relation()?;
        if negations == 0 {
            return Ok(term);
        }
        let node = self.condition(term)?;
        Ok(Term::Condition(if negations % 2 == 1 { node.negate() } else { node }, position))
    }

    fn relation(&mut self) -> Result<Term, FilterError> {
        let left = self.primary()?;
        let position = self.position();
        let node = match self.peek().clone() {
            Symbol::Compare(operator) => {
                let left = self.value(left)?;
                self.place += 1;
                let right = self.operand()?;
                self.checker.compare(&left, operator, &right, position)?
            }
            Symbol::Keyword(Keyword::Is) => {
                let left = self.value(left)?;
                self.place += 1;
                self.is_null(&left)?
            }
            Symbol::Keyword(Keyword::Not | Keyword::In | Keyword::Between | Keyword::Like) => {
                let left = self.value(left)?;
                let negated = self.take(Keyword::Not);
                let node = if self.take(Keyword::In) {
                    self.membership(&left)?
                } else if self.take(Keyword::Between) {
                    self.between(&left, position)?
                } else if self.take(Keyword::Like) {
                    self.like(&left, position)?
                } else {
                    return Err(self.unexpected("IN, BETWEEN or LIKE"));
                };
                if negated { node.negate() } else { node }
            }
            Symbol::Close | Symbol::End | Symbol::Keyword(Keyword::And | Keyword::Or) => return Ok(left),
            _ => {
                return Err(self.unexpected("=, <>, <, <=, >, >=, IN, BETWEEN, LIKE, IS, AND, OR or the end"));
            }
        };
        Ok(Term::Condition(node, position))
    }

    fn primary(&mut self) -> Result<Term, FilterError> {
        let position = self.position();
        let symbol = self.peek().clone();
        if symbol == Symbol::Open {
            self.check_room()?;
            self.depth += 1;
            self.place += 1;
            let inner = self.or()?;
            self.expect(Symbol::Close, "AND, OR or ')'")?;
            self.depth -= 1;
            return Ok(inner);
        }
        let value = match symbol {
            Symbol::Name { name, quoted } => {
                self.place += 1;
                if *self.peek() == Symbol::Open {
                    let construct = format!("the function or keyword {}", shorten(&name));
                    return Err(FilterError::Unsupported { position, construct });
                }
                return Ok(Term::Value(Operand {
                    value: self.checker.field(&name, quoted, position)?,
                    position,
                }));
            }
            Symbol::Text(text) => Value::Text(text),
            Symbol::Number(digits) => Value::Number { negative: false, digits },
            Symbol::Plus | Symbol::Minus => {
                self.place += 1;
                let Symbol::Number(digits) = self.peek().clone() else {
                    return Err(self.unexpected("a number after the sign"));
                };
                Value::Number { negative: symbol == Symbol::Minus, digits }
            }
            Symbol::Keyword(Keyword::True) => Value::Boolean(true),
            Symbol::Keyword(Keyword::False) => Value::Boolean(false),
            Symbol::Keyword(Keyword::Null) => Value::Null,
            _ => return Err(self.unexpected("a field, a literal or '('")),
        };
        self.place += 1;
        Ok(Term::Value(Operand { value, position }))
    }

    fn operand(&mut self) -> Result<Operand, FilterError> {
        let term = self.primary()?;
        self.value(term)
    }

    /// The term as a value.
    fn value(&self, term: Term) -> Result<Operand, FilterError> {
        match term {
            Term::Value(operand) => Ok(operand),
            Term::Condition(_, position) => Err(FilterError::Unsupported {
                position,
                construct: "a condition used as a value".to_owned(),
            }),
        }
    }

    /// The term as a condition.
    fn condition(&mut self, term: Term) -> Result<Node, FilterError> {
        match term {
            Term::Condition(node, _) => Ok(node),
            Term::Value(operand) => self.checker.condition(operand),
        }
    }

    fn is_null(&mut self, left: &Operand) -> Result<Node, FilterError> {
        let negated = self.take(Keyword::Not);
        self.expect(Symbol::Keyword(Keyword::Null), "NULL or NOT NULL")?;
        let node = self.checker.is_null(left)?;
        Ok(if negated { node.negate() } else { node })
    }

    fn between(&mut self, value: &Operand, position: Position) -> Result<Node, FilterError> {
        self.check_room()?;
        let low = self.operand()?;
        self.expect(Symbol::Keyword(Keyword::And), "AND and the upper end of BETWEEN")?;
        let high = self.operand()?;
        Ok(Node::and(vec![
            self.checker.compare(value, Comparison::GreaterOrEqual, &low, position)?,
            self.checker.compare(value, Comparison::LessOrEqual, &high, position)?,
        ]))
    }

    fn like(&mut self, left: &Operand, position: Position) -> Result<Node, FilterError> {
        let pattern = self.operand()?;
        let escape = if self.take(Keyword::Escape) { Some(self.escape()?) } else { None };
        self.checker.like(left, &pattern, escape, position)
    }

    fn escape(&mut self) -> Result<char, FilterError> {
        let position = self.position();
        let Symbol::Text(text) = self.peek() else {
            return Err(self.unexpected("one character in single quotes"));
        };
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => {
                self.place += 1;
                Ok(character)
            }
            _ => Err(FilterError::Pattern {
                position,
                reason: format!("ESCAPE takes one character, not {:?}", shorten(text)),
            }),
        }
    }

    fn membership(&mut self, left: &Operand) -> Result<Node, FilterError> {
        self.check_room()?;
        self.expect(Symbol::Open, "'(' after IN")?;
        let mut values = vec![self.operand()?];
        while *self.peek() == Symbol::Comma {
            self.place += 1;
            values.push(self.operand()?);
        }
        self.expect(Symbol::Close, "',' or ')'")?;
        self.checker.one_of(left, &values)
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
