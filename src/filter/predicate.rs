//! The checked tree of a filter, and its text.

use std::fmt;

use super::lexer::Keyword;
use super::like::Pattern;
use super::literal::{Comparison, FloatPoint, IntegerPoint};
use crate::base::{FieldDeclaration, FieldValue};

/// A filter expression whose fields and types have been checked.
///
/// [`Display`](fmt::Display) gives a normalised expression: parsing that gives an equal predicate, as long as the text
/// is within the limits of [`parse`](Self::parse).
///
/// ```
/// use ascribe::base::{FieldDeclaration, FieldType};
/// use ascribe::filter::Predicate;
/// let fields = [
///     FieldDeclaration { name: "year".to_owned(), kind: FieldType::Integer },
///     FieldDeclaration { name: "source".to_owned(), kind: FieldType::Text },
/// ];
/// let predicate = Predicate::parse("1999.5 < year and source in ('wiki', 'book')", &fields)?;
/// assert_eq!(predicate.to_string(), "year > 1999.5 AND source IN ('book', 'wiki')");
/// assert_eq!(predicate.fields(), fields);
/// # Ok::<(), ascribe::filter::FilterError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    /// The fields that `root` reads, in the order in which it first names them.
    pub(super) fields: Vec<FieldDeclaration>,
    pub(super) root: Node,
}

impl Predicate {
    /// The fields that the predicate reads, in the order in which its text first names them. Fields of comparisons
    /// with NULL are not read: those are unknown whatever the row holds.
    pub fn fields(&self) -> &[FieldDeclaration] {
        &self.fields
    }
}

/// A condition. Fields are places in [`Predicate::fields`].
///
/// `And` and `Or` hold at least two conditions, none of their own kind; `Not` holds no `Not` and no `Constant`. So a
/// tree is at most three levels higher than its expression is nested, and long chains are flat.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    /// The same for every row; `None` is unknown.
    Constant(Option<bool>),
    IsNull(usize),
    /// A boolean field.
    Flag(usize),
    Compare {
        field: usize,
        operator: Comparison,
        literal: Literal,
    },
    CompareFields {
        left: usize,
        operator: Comparison,
        right: usize,
    },
    /// One of `list`; with `or_null`, unknown where it is none of them.
    In {
        field: usize,
        list: List,
        or_null: bool,
    },
    Like {
        field: usize,
        pattern: Pattern,
    },
}

/// A literal of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Integer(IntegerPoint),
    Float(FloatPoint),
    /// Microseconds since 1970-01-01 UTC.
    Timestamp(i64),
}

/// The values of an IN list: ascending, without repetition, never empty.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum List {
    Text(Vec<String>),
    Integer(Vec<i64>),
    /// In the total order; no NaN and no negative zero.
    Float(Vec<f64>),
    /// Microseconds since 1970-01-01 UTC.
    Timestamp(Vec<i64>),
}

impl List {
    /// Whether there are no values.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Text(values) => values.is_empty(),
            Self::Integer(values) | Self::Timestamp(values) => values.is_empty(),
            Self::Float(values) => values.is_empty(),
        }
    }

    /// The value, if there is only one.
    pub(super) fn only(&self) -> Option<Literal> {
        match self {
            Self::Text(values) => match values.as_slice() {
                [only] => Some(Literal::Text(only.clone())),
                _ => None,
            },
            Self::Integer(values) => match *values.as_slice() {
                [only] => Some(Literal::Integer(IntegerPoint::At(only))),
                _ => None,
            },
            Self::Float(values) => match *values.as_slice() {
                [only] => Some(Literal::Float(FloatPoint::At(only))),
                _ => None,
            },
            Self::Timestamp(values) => match *values.as_slice() {
                [only] => Some(Literal::Timestamp(only)),
                _ => None,
            },
        }
    }
}

impl Node {
    /// All of `terms`, of which there is at least one.
    pub(super) fn and(terms: Vec<Node>) -> Node {
        let mut flat = Vec::with_capacity(terms.len());
        for term in terms {
            match term {
                Self::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        Self::single(flat, Self::And)
    }

    /// At least one of `terms`, of which there is at least one.
    pub(super) fn or(terms: Vec<Node>) -> Node {
        let mut flat = Vec::with_capacity(terms.len());
        for term in terms {
            match term {
                Self::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        Self::single(flat, Self::Or)
    }

    fn single(mut terms: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
        match terms.pop() {
            Some(only) if terms.is_empty() => only,
            Some(last) => {
                terms.push(last);
                many(terms)
            }
            None => many(terms),
        }
    }

    /// True where the condition is false, false where it is true.
    pub(super) fn negate(self) -> Node {
        match self {
            Self::Not(inner) => *inner,
            Self::Constant(value) => Self::Constant(value.map(|value| !value)),
            other => Self::Not(Box::new(other)),
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer { fields: &self.fields, formatter }.node(&self.root, Binding::Or)
    }
}

/// How tight the surroundings of a condition bind; a looser condition needs parentheses.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Binding {
    Or,
    And,
    Not,
}

struct Printer<'a, 'b> {
    fields: &'a [FieldDeclaration],
    formatter: &'a mut fmt::Formatter<'b>,
}

impl Printer<'_, '_> {
    fn node(&mut self, node: &Node, around: Binding) -> fmt::Result {
        match node {
            Node::Or(terms) => self.chain(terms, Binding::Or, Keyword::Or, around),
            Node::And(terms) => self.chain(terms, Binding::And, Keyword::And, around),
            Node::Not(inner) => match inner.as_ref() {
                Node::IsNull(field) => {
                    self.field(*field)?;
                    self.formatter.write_str(" IS NOT NULL")
                }
                Node::In { field, list, or_null } => self.membership(*field, " NOT IN (", list, *or_null),
                Node::Like { field, pattern } => self.like(*field, " NOT LIKE ", pattern),
                other => {
                    self.formatter.write_str("NOT ")?;
                    self.node(other, Binding::Not)
                }
            },
            Node::Constant(value) => self.formatter.write_str(match value {
                Some(true) => Keyword::True.text(),
                Some(false) => Keyword::False.text(),
                None => Keyword::Null.text(),
            }),
            Node::IsNull(field) => {
                self.field(*field)?;
                self.formatter.write_str(" IS NULL")
            }
            Node::Flag(field) => self.field(*field),
            Node::Compare { field, operator, literal } => {
                self.field(*field)?;
                write!(self.formatter, " {operator} ")?;
                match literal {
                    Literal::Text(text) => self.text(text),
                    Literal::Integer(point) => write!(self.formatter, "{point}"),
                    Literal::Float(point) => write!(self.formatter, "{point}"),
                    Literal::Timestamp(microseconds) => self.timestamp(*microseconds),
                }
            }
            Node::CompareFields { left, operator, right } => {
                self.field(*left)?;
                write!(self.formatter, " {operator} ")?;
                self.field(*right)
            }
            Node::In { field, list, or_null } => self.membership(*field, " IN (", list, *or_null),
            Node::Like { field, pattern } => self.like(*field, " LIKE ", pattern),
        }
    }

    fn chain(&mut self, terms: &[Node], own: Binding, word: Keyword, around: Binding) -> fmt::Result {
        let parentheses = own < around;
        if parentheses {
            self.formatter.write_str("(")?;
        }
        for (place, term) in terms.iter().enumerate() {
            if place > 0 {
                write!(self.formatter, " {} ", word.text())?;
            }
            self.node(term, own)?;
        }
        if parentheses {
            self.formatter.write_str(")")?;
        }
        Ok(())
    }

    fn membership(&mut self, field: usize, words: &str, list: &List, or_null: bool) -> fmt::Result {
        self.field(field)?;
        self.formatter.write_str(words)?;
        match list {
            List::Text(values) => self.list(values, |printer, value| printer.text(value)),
            List::Integer(values) => self.list(values, |printer, value| write!(printer.formatter, "{value}")),
            List::Float(values) => self.list(values, |printer, value| write!(printer.formatter, "{value:?}")),
            List::Timestamp(values) => self.list(values, |printer, value| printer.timestamp(*value)),
        }?;
        self.formatter.write_str(if or_null { ", NULL)" } else { ")" })
    }

    fn list<T>(&mut self, values: &[T], print: impl Fn(&mut Self, &T) -> fmt::Result) -> fmt::Result {
        for (place, value) in values.iter().enumerate() {
            if place > 0 {
                self.formatter.write_str(", ")?;
            }
            print(self, value)?;
        }
        Ok(())
    }

    fn like(&mut self, field: usize, words: &str, pattern: &Pattern) -> fmt::Result {
        let (text, escape) = pattern.text();
        self.field(field)?;
        self.formatter.write_str(words)?;
        self.text(&text)?;
        match escape {
            Some(character) => write!(self.formatter, " ESCAPE '{character}'"),
            None => Ok(()),
        }
    }

    fn field(&mut self, field: usize) -> fmt::Result {
        let name = self.fields.get(field).map_or("", |field| field.name.as_str());
        let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        let plain = starts_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if plain && Keyword::from_word(name).is_none() {
            self.formatter.write_str(name)
        } else {
            write!(self.formatter, "\"{}\"", name.replace('"', "\"\""))
        }
    }

    fn text(&mut self, text: &str) -> fmt::Result {
        write!(self.formatter, "'{}'", text.replace('\'', "''"))
    }

    fn timestamp(&mut self, microseconds: i64) -> fmt::Result {
        // The parser keeps only timestamps that have such a text.
        let json = FieldValue::Timestamp(microseconds).to_json();
        self.text(json.as_str().unwrap_or_default())
    }
}
