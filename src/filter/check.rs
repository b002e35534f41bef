//! Operands to conditions: names and types.

use super::error::{FilterError, Position, shorten};
use super::lexer::Keyword;
use super::like::Pattern;
use super::literal::{Comparison, FloatPoint, IntegerPoint};
use super::predicate::{List, Literal, Node};
use super::spelling::nearest;
use crate::base::{FieldDeclaration, FieldType, FieldValue};

/// A field or a literal, with its place.
pub(super) struct Operand {
    pub(super) value: Value,
    pub(super) position: Position,
}

/// The value of an operand.
pub(super) enum Value {
    /// Place in the declared fields.
    Field(usize),
    Number {
        negative: bool,
        digits: String,
    },
    Text(String),
    Boolean(bool),
    Null,
}

impl Value {
    /// The literal as it could be written, shortened.
    fn shown(&self) -> String {
        match self {
            Self::Field(_) => "a field".to_owned(),
            Self::Number { negative, digits } => {
                format!("{}{}", if *negative { "-" } else { "" }, shorten(digits))
            }
            Self::Text(text) => format!("'{}'", shorten(text)),
            Self::Boolean(true) => Keyword::True.text().to_owned(),
            Self::Boolean(false) => Keyword::False.text().to_owned(),
            Self::Null => Keyword::Null.text().to_owned(),
        }
    }
}

/// The declared fields, and which of them conditions read.
pub(super) struct Checker<'a> {
    declared: &'a [FieldDeclaration],
    /// The fields that conditions read, in order of first use.
    used: Vec<FieldDeclaration>,
    /// Where each declared field is in `used`.
    places: Vec<Option<usize>>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(declared: &'a [FieldDeclaration]) -> Self {
        Self { declared, used: Vec::new(), places: vec![None; declared.len()] }
    }

    /// The fields that the conditions made so far read.
    pub(super) fn into_used(self) -> Vec<FieldDeclaration> {
        self.used
    }

    /// The declared field `name`.
    pub(super) fn field(&self, name: &str, quoted: bool, position: Position) -> Result<Value, FilterError> {
        if let Some(place) = self.declared.iter().position(|field| field.name == name) {
            return Ok(Value::Field(place));
        }
        let names = || self.declared.iter().map(|field| field.name.as_str());
        let nearest = nearest(name, names()).map(str::to_owned);
        let known = match self.declared {
            [] => "none".to_owned(),
            _ => names().collect::<Vec<_>>().join(", "),
        };
        Err(FilterError::UnknownField { position, name: shorten(name), quoted, nearest, known })
    }

    /// The place of a declared field among the fields that are read.
    fn intern(&mut self, declared: usize) -> usize {
        if let Some(place) = self.places[declared] {
            return place;
        }
        let place = self.used.len();
        self.used.push(self.declared[declared].clone());
        self.places[declared] = Some(place);
        place
    }

    fn operation(
        &self,
        operation: &str,
        field: usize,
        position: Position,
        remedy: &'static str,
    ) -> FilterError {
        let FieldDeclaration { name, kind } = self.declared[field].clone();
        FilterError::Operation { position, operation: operation.to_owned(), field: name, kind, remedy }
    }

    /// The operand as a condition of its own.
    pub(super) fn condition(&mut self, operand: Operand) -> Result<Node, FilterError> {
        match operand.value {
            Value::Boolean(value) => Ok(Node::Constant(Some(value))),
            Value::Null => Ok(Node::Constant(None)),
            Value::Field(field) if self.declared[field].kind == FieldType::Boolean => {
                Ok(Node::Flag(self.intern(field)))
            }
            Value::Field(field) => Err(self.operation(
                "use as a condition",
                field,
                operand.position,
                "compare it with a value; only boolean fields stand alone",
            )),
            literal @ (Value::Number { .. } | Value::Text(_)) => Err(FilterError::Unsupported {
                position: operand.position,
                construct: format!("the literal {} used as a condition", literal.shown()),
            }),
        }
    }

    /// Whether the operand, a field, has no value.
    pub(super) fn is_null(&mut self, operand: &Operand) -> Result<Node, FilterError> {
        let field = expect_field(operand, "IS NULL")?;
        Ok(Node::IsNull(self.intern(field)))
    }

    /// Whether `left`, a text field, fits a pattern. `position` is that of the operator.
    pub(super) fn like(
        &mut self,
        left: &Operand,
        pattern: &Operand,
        escape: Option<char>,
        position: Position,
    ) -> Result<Node, FilterError> {
        let field = expect_field(left, "LIKE")?;
        if self.declared[field].kind != FieldType::Text {
            return Err(self.operation("LIKE", field, position, "LIKE takes a text field"));
        }
        match &pattern.value {
            Value::Null => Ok(Node::Constant(None)),
            Value::Text(text) => {
                let pattern = Pattern::parse(text, escape)
                    .map_err(|reason| FilterError::Pattern { position: pattern.position, reason })?;
                Ok(Node::Like { field: self.intern(field), pattern })
            }
            other => Err(FilterError::Pattern {
                position: pattern.position,
                reason: format!("it is {}; write a text in single quotes", other.shown()),
            }),
        }
    }

    /// A comparison, one side of which must be a field. `position` is that of the operator.
    pub(super) fn compare(
        &mut self,
        left: &Operand,
        operator: Comparison,
        right: &Operand,
        position: Position,
    ) -> Result<Node, FilterError> {
        match (&left.value, &right.value) {
            (Value::Field(left), Value::Field(right)) => {
                self.compare_fields(*left, operator, *right, position)
            }
            (Value::Field(field), _) => self.compare_literal(*field, operator, right),
            (_, Value::Field(field)) => self.compare_literal(*field, operator.mirrored(), left),
            _ => Err(FilterError::Unsupported {
                position,
                construct: format!(
                    "comparing the literals {} and {}",
                    left.value.shown(),
                    right.value.shown()
                ),
            }),
        }
    }

    fn compare_fields(
        &mut self,
        left: usize,
        operator: Comparison,
        right: usize,
        position: Position,
    ) -> Result<Node, FilterError> {
        let (left_kind, right_kind) = (self.declared[left].kind, self.declared[right].kind);
        let numbers = |kind| matches!(kind, FieldType::Integer | FieldType::Float);
        if left_kind != right_kind && !(numbers(left_kind) && numbers(right_kind)) {
            let name = |field: usize| self.declared[field].name.clone();
            let (left, right) = (name(left), name(right));
            return Err(FilterError::FieldTypes { position, left, left_kind, right, right_kind });
        }
        if left_kind == FieldType::Boolean && operator.is_ordering() {
            return Err(self.boolean_order(left, operator, position));
        }
        Ok(Node::CompareFields { left: self.intern(left), operator, right: self.intern(right) })
    }

    fn boolean_order(&self, field: usize, operator: Comparison, position: Position) -> FilterError {
        let remedy = "true and false have no order; use = or <>";
        self.operation(&format!("'{operator}'"), field, position, remedy)
    }

    fn compare_literal(
        &mut self,
        field: usize,
        operator: Comparison,
        operand: &Operand,
    ) -> Result<Node, FilterError> {
        if self.declared[field].kind == FieldType::Boolean && operator.is_ordering() {
            return Err(self.boolean_order(field, operator, operand.position));
        }
        Ok(match self.literal(field, operand)? {
            None => Node::Constant(None),
            Some(Checked::Boolean(value)) => {
                let flag = Node::Flag(self.intern(field));
                if value == (operator == Comparison::Equal) { flag } else { flag.negate() }
            }
            Some(Checked::Literal(literal)) => Node::Compare { field: self.intern(field), operator, literal },
        })
    }

    /// The literal as a value of a field; `None` for NULL.
    fn literal(&self, field: usize, operand: &Operand) -> Result<Option<Checked>, FilterError> {
        let FieldDeclaration { name, kind } = &self.declared[field];
        let refuse = |remedy| FilterError::LiteralType {
            position: operand.position,
            field: name.clone(),
            kind: *kind,
            literal: operand.value.shown(),
            remedy,
        };
        let literal = match (kind, &operand.value) {
            (_, Value::Null) => return Ok(None),
            (FieldType::Boolean, Value::Boolean(value)) => return Ok(Some(Checked::Boolean(*value))),
            (FieldType::Text, Value::Text(text)) => Literal::Text(text.clone()),
            (FieldType::Integer, Value::Number { negative, digits }) => Literal::Integer(
                IntegerPoint::parse(*negative, digits).ok_or_else(|| refuse("write a decimal number"))?,
            ),
            (FieldType::Float, Value::Number { negative, digits }) => Literal::Float(
                FloatPoint::parse(*negative, digits)
                    .ok_or_else(|| refuse("write a number within double precision"))?,
            ),
            (FieldType::Timestamp, Value::Text(text)) => Literal::Timestamp(
                timestamp(text)
                    .ok_or_else(|| refuse("write '2024-05-01', '2024-05-01 12:00:00' or RFC 3339 text"))?,
            ),
            (FieldType::Boolean, _) => return Err(refuse("write TRUE or FALSE")),
            (FieldType::Text, _) => return Err(refuse("write a text in single quotes")),
            (FieldType::Integer | FieldType::Float, _) => {
                return Err(refuse("write a number, without quotes"));
            }
            (FieldType::Timestamp, _) => {
                return Err(refuse("write a time in single quotes, as '2024-05-01'"));
            }
        };
        Ok(Some(Checked::Literal(literal)))
    }

    /// Whether `left`, a field, is one of `values`; where it is not, NULL among them makes it unknown.
    pub(super) fn one_of(&mut self, left: &Operand, values: &[Operand]) -> Result<Node, FilterError> {
        let field = expect_field(left, "IN")?;
        let mut literals = Vec::with_capacity(values.len());
        let mut or_null = false;
        for operand in values {
            if matches!(operand.value, Value::Field(_)) {
                let construct = "a field inside IN (...)".to_owned();
                return Err(FilterError::Unsupported { position: operand.position, construct });
            }
            match self.literal(field, operand)? {
                Some(literal) => literals.push(literal),
                None => or_null = true,
            }
        }
        if self.declared[field].kind == FieldType::Boolean {
            return Ok(self.one_of_booleans(field, &literals, or_null));
        }
        let first = literals.first().cloned();
        let equal = |field, literal| Node::Compare { field, operator: Comparison::Equal, literal };
        match (list(literals), first) {
            (Some(list), _) => Ok(match list.only() {
                Some(literal) if !or_null => equal(self.intern(field), literal),
                _ => Node::In { field: self.intern(field), list, or_null },
            }),
            // The field equals none of them, so that NULL decides: unknown.
            (None, _) if or_null => Ok(Node::Constant(None)),
            // Numbers between the values of the type: false, but unknown where the field is.
            (None, Some(Checked::Literal(literal))) => Ok(equal(self.intern(field), literal)),
            (None, _) => Ok(Node::Constant(None)),
        }
    }

    fn one_of_booleans(&mut self, field: usize, literals: &[Checked], or_null: bool) -> Node {
        let mut terms = Vec::new();
        for value in [true, false] {
            if literals.iter().any(|literal| matches!(literal, Checked::Boolean(found) if *found == value)) {
                let flag = Node::Flag(self.intern(field));
                terms.push(if value { flag } else { flag.negate() });
            }
        }
        if or_null {
            terms.push(Node::Constant(None));
        }
        Node::or(terms)
    }
}

/// The field that an operand of `operation` is.
fn expect_field(operand: &Operand, operation: &str) -> Result<usize, FilterError> {
    match &operand.value {
        Value::Field(field) => Ok(*field),
        literal => Err(FilterError::Unsupported {
            position: operand.position,
            construct: format!("{operation} of the literal {}", literal.shown()),
        }),
    }
}

/// A literal that fits its field.
#[derive(Clone)]
enum Checked {
    Boolean(bool),
    Literal(Literal),
}

/// The values of an IN list that a field can have at all, ascending and once each; `None` if there are none.
fn list(literals: Vec<Checked>) -> Option<List> {
    let mut texts = Vec::new();
    let mut integers = Vec::new();
    let mut floats = Vec::new();
    let mut timestamps = Vec::new();
    for literal in literals {
        match literal {
            Checked::Literal(Literal::Text(text)) => texts.push(text),
            Checked::Literal(Literal::Integer(IntegerPoint::At(value))) => integers.push(value),
            Checked::Literal(Literal::Float(FloatPoint::At(value))) => floats.push(value),
            Checked::Literal(Literal::Timestamp(value)) => timestamps.push(value),
            // Between the values of the type: equal to none of them.
            Checked::Literal(Literal::Integer(_) | Literal::Float(_)) | Checked::Boolean(_) => {}
        }
    }
    fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
        values.sort_unstable();
        values.dedup();
        values
    }
    floats.sort_unstable_by(f64::total_cmp);
    floats.dedup();
    [
        List::Text(sorted(texts)),
        List::Integer(sorted(integers)),
        List::Float(floats),
        List::Timestamp(sorted(timestamps)),
    ]
    .into_iter()
    .find(|list| !list.is_empty())
}

/// Microseconds since 1970-01-01 UTC; `None` for text that is no time, or one that has no text of its own (years
/// outside 0 to 9999).
fn timestamp(text: &str) -> Option<i64> {
    let value = FieldValue::from_text(FieldType::Timestamp, text).ok()??;
    let printed = value.to_json();
    let again = FieldValue::from_text(FieldType::Timestamp, printed.as_str()?).ok()??;
    match value {
        FieldValue::Timestamp(microseconds) if again == value => Some(microseconds),
        _ => None,
    }
}
