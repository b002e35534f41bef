//! Random filters and batches against a row-by-row evaluator.
//!
//! The model shares nothing with the room but the names of the operators: it has its own expressions, writes them as
//! text, and evaluates them over `Option<bool>`. Numbers are counted in halves, so that 1.5 is exact in it.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray, RecordBatch,
    TimestampMicrosecondArray,
};
use proptest::prelude::*;

use crate::base::{FieldDeclaration, FieldType, RowId};
use crate::filter::Predicate;

/// Name and type of the fields; two of each type.
const FIELDS: [(&str, FieldType); 10] = [
    ("text", FieldType::Text),
    ("other-text", FieldType::Text),
    ("integer", FieldType::Integer),
    ("whole", FieldType::Integer),
    ("float", FieldType::Float),
    ("real", FieldType::Float),
    ("flag", FieldType::Boolean),
    ("or", FieldType::Boolean),
    ("time", FieldType::Timestamp),
    ("date", FieldType::Timestamp),
];

#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Text(String),
    /// Twice the number.
    Halves(i128),
    Boolean(bool),
    /// Days since 1970-01-01, below 28.
    Day(i64),
}

impl Cell {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => left.bytes().cmp(right.bytes()),
            (Self::Halves(left), Self::Halves(right)) => left.cmp(right),
            (Self::Boolean(left), Self::Boolean(right)) => left.cmp(right),
            (Self::Day(left), Self::Day(right)) => left.cmp(right),
            _ => panic!("{self:?} and {other:?} have no order"),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Self::Halves(halves) => {
                let sign = if *halves < 0 { "-" } else { "" };
                let size = halves.unsigned_abs();
                if size % 2 == 1 { format!("{sign}{}.5", size / 2) } else { format!("{sign}{}", size / 2) }
            }
            Self::Boolean(value) => if *value { "TRUE" } else { "false" }.to_owned(),
            Self::Day(day) => format!("'1970-01-{:02}'", day + 1),
        }
    }
}

#[derive(Clone, Debug)]
enum Model {
    Compare { field: usize, operator: &'static str, literal: Option<Cell>, mirrored: bool },
    CompareFields { left: usize, operator: &'static str, right: usize },
    Between { field: usize, low: Option<Cell>, high: Option<Cell>, negated: bool },
    In { field: usize, list: Vec<Option<Cell>>, negated: bool },
    Like { field: usize, pattern: String, negated: bool },
    IsNull { field: usize, negated: bool },
    Flag(usize),
    Constant(Option<bool>),
    Not(Box<Model>),
    And(Vec<Model>),
    Or(Vec<Model>),
}

fn holds(operator: &str, order: Ordering) -> bool {
    match operator {
        "=" => order.is_eq(),
        "<>" | "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        other => panic!("{other}"),
    }
}

fn compare(left: Option<&Cell>, operator: &str, right: Option<&Cell>) -> Option<bool> {
    Some(holds(operator, left?.order(right?)))
}

fn not(value: Option<bool>, negated: bool) -> Option<bool> {
    value.map(|value| value != negated)
}

fn all(values: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let values: Vec<_> = values.into_iter().collect();
    if values.contains(&Some(false)) {
        Some(false)
    } else if values.contains(&None) {
        None
    } else {
        Some(true)
    }
}

fn any(values: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    not(all(values.into_iter().map(|value| not(value, true))), true)
}

fn fits(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|start| fits(rest, &text[start..])),
        Some(('_', rest)) => !text.is_empty() && fits(rest, &text[1..]),
        Some((plain, rest)) => text.first() == Some(plain) && fits(rest, &text[1..]),
    }
}

impl Model {
    fn truth(&self, row: &[Option<Cell>]) -> Option<bool> {
        match self {
            Self::Compare { field, operator, literal, mirrored: false } => {
                compare(row[*field].as_ref(), operator, literal.as_ref())
            }
            Self::Compare { field, operator, literal, mirrored: true } => {
                compare(literal.as_ref(), operator, row[*field].as_ref())
            }
            Self::CompareFields { left, operator, right } => {
                compare(row[*left].as_ref(), operator, row[*right].as_ref())
            }
            Self::Between { field, low, high, negated } => {
                let value = row[*field].as_ref();
                not(all([compare(value, ">=", low.as_ref()), compare(value, "<=", high.as_ref())]), *negated)
            }
            Self::In { field, list, negated } => {
                let value = row[*field].as_ref();
                not(any(list.iter().map(|literal| compare(value, "=", literal.as_ref()))), *negated)
            }
            Self::Like { field, pattern, negated } => match &row[*field] {
                Some(Cell::Text(text)) => {
                    let (pattern, text): (Vec<char>, Vec<char>) =
                        (pattern.chars().collect(), text.chars().collect());
                    Some(fits(&pattern, &text) != *negated)
                }
                _ => None,
            },
            Self::IsNull { field, negated } => Some(row[*field].is_none() != *negated),
            Self::Flag(field) => match row[*field] {
                Some(Cell::Boolean(value)) => Some(value),
                _ => None,
            },
            Self::Constant(value) => *value,
            Self::Not(inner) => not(inner.truth(row), true),
            Self::And(terms) => all(terms.iter().map(|term| term.truth(row))),
            Self::Or(terms) => any(terms.iter().map(|term| term.truth(row))),
        }
    }

    /// The model as a filter, with parentheses around everything that AND, OR or NOT join.
    fn write(&self) -> String {
        let name = |field: &usize| match FIELDS[*field].0 {
            plain @ ("text" | "integer" | "float" | "flag" | "time" | "date" | "whole" | "real") => {
                plain.to_owned()
            }
            quoted => format!("\"{quoted}\""),
        };
        let literal = |cell: &Option<Cell>| cell.as_ref().map_or("NULL".to_owned(), Cell::write);
        let word = |negated: &bool| if *negated { "NOT " } else { "" };
        let join = |terms: &[Self], joiner: &str| {
            terms.iter().map(|term| format!("({})", term.write())).collect::<Vec<_>>().join(joiner)
        };
        match self {
            Self::Compare { field, operator, literal: cell, mirrored: false } => {
                format!("{} {operator} {}", name(field), literal(cell))
            }
            Self::Compare { field, operator, literal: cell, mirrored: true } => {
                format!("{}{operator}{}", literal(cell), name(field))
            }
            Self::CompareFields { left, operator, right } => {
                format!("{} {operator} {}", name(left), name(right))
            }
            Self::Between { field, low, high, negated } => {
                format!("{} {}BETWEEN {} AND {}", name(field), word(negated), literal(low), literal(high))
            }
            Self::In { field, list, negated } => {
                let list = list.iter().map(literal).collect::<Vec<_>>().join(",");
                format!("{} {}in ({list})", name(field), word(negated))
            }
            Self::Like { field, pattern, negated } => {
                format!("{} {}LIKE '{}'", name(field), word(negated), pattern.replace('\'', "''"))
            }
            Self::IsNull { field, negated } => format!("{} IS {}NULL", name(field), word(negated)),
            Self::Flag(field) => name(field),
            Self::Constant(value) => literal(&value.map(Cell::Boolean)),
            Self::Not(inner) => format!("NOT ({})", inner.write()),
            Self::And(terms) => join(terms, " and "),
            Self::Or(terms) => join(terms, " OR "),
        }
    }
}

/// Values of a field's type; of halves only whole ones for integer fields unless `literal`.
fn cell(kind: FieldType, literal: bool) -> BoxedStrategy<Cell> {
    match kind {
        FieldType::Text => "[abé']{0,4}".prop_map(Cell::Text).boxed(),
        FieldType::Integer | FieldType::Float => {
            let whole = kind == FieldType::Integer && !literal;
            let near = 1_i128 << 54;
            let edges =
                vec![near - 2, near, near + 2, -near, i128::from(i64::MAX) * 2, i128::from(i64::MIN) * 2];
            prop_oneof![
                8 => (-6_i128..6).prop_map(move |halves| if whole { halves * 2 } else { halves }),
                1 => prop::sample::select(edges),
            ]
            .prop_map(move |halves| {
                // A float cell is a value that a float can have.
                let float = kind == FieldType::Float && !literal;
                Cell::Halves(if float { halves as f64 as i128 } else { halves })
            })
            .boxed()
        }
        FieldType::Boolean => any_boolean(),
        FieldType::Timestamp => (0_i64..6).prop_map(Cell::Day).boxed(),
    }
}

fn any_boolean() -> BoxedStrategy<Cell> {
    prop::bool::ANY.prop_map(Cell::Boolean).boxed()
}

fn leaf() -> BoxedStrategy<Model> {
    const OPERATORS: [&str; 7] = ["=", "<>", "!=", "<", "<=", ">", ">="];
    let operator = |kind: FieldType| {
        let count = if kind == FieldType::Boolean { 3 } else { OPERATORS.len() };
        prop::sample::select(OPERATORS[..count].to_vec())
    };
    (0..FIELDS.len(), prop::bool::ANY)
        .prop_flat_map(move |(field, negated)| {
            let kind = FIELDS[field].1;
            let literal = move || prop::option::weighted(0.9, cell(kind, true));
            // The partner has the same type, or is the number of the other type.
            let partner = match kind {
                FieldType::Integer | FieldType::Float => 2..6,
                _ => field / 2 * 2..field / 2 * 2 + 2,
            };
            let mut shapes = vec![
                (operator(kind), literal())
                    .prop_map(move |(operator, literal)| Model::Compare {
                        field,
                        operator,
                        literal,
                        mirrored: negated,
                    })
                    .boxed(),
                (operator(kind), partner)
                    .prop_map(move |(operator, right)| Model::CompareFields { left: field, operator, right })
                    .boxed(),
                prop::collection::vec(literal(), 1..5)
                    .prop_map(move |list| Model::In { field, list, negated })
                    .boxed(),
                Just(Model::IsNull { field, negated }).boxed(),
            ];
            if kind == FieldType::Boolean {
                shapes.push(Just(Model::Flag(field)).boxed());
                shapes.push(prop::option::of(prop::bool::ANY).prop_map(Model::Constant).boxed());
            } else {
                let ends = (literal(), literal());
                shapes.push(
                    ends.prop_map(move |(low, high)| Model::Between { field, low, high, negated }).boxed(),
                );
            }
            if kind == FieldType::Text {
                shapes.push(
                    "[abé'%_]{0,5}".prop_map(move |pattern| Model::Like { field, pattern, negated }).boxed(),
                );
            }
            prop::strategy::Union::new(shapes)
        })
        .boxed()
}

fn model() -> impl Strategy<Value = Model> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Model::Not(Box::new(inner))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Model::And),
            prop::collection::vec(inner, 2..4).prop_map(Model::Or),
        ]
    })
}

fn rows() -> impl Strategy<Value = Vec<Vec<Option<Cell>>>> {
    let row: Vec<_> =
        FIELDS.iter().map(|(_, kind)| prop::option::weighted(0.8, cell(*kind, false))).collect();
    prop::collection::vec(row, 0..150)
}

/// The column of a field, over all rows.
fn column(field: usize, rows: &[Vec<Option<Cell>>]) -> ArrayRef {
    let cells = rows.iter().map(|row| row[field].clone());
    let halves = |cell: Option<Cell>| match cell {
        Some(Cell::Halves(halves)) => Some(halves),
        _ => None,
    };
    match FIELDS[field].1 {
        FieldType::Text => {
            let texts = cells.map(|cell| if let Some(Cell::Text(text)) = cell { Some(text) } else { None });
            Arc::new(texts.collect::<LargeStringArray>())
        }
        FieldType::Integer => {
            Arc::new(cells.map(|cell| halves(cell).map(|halves| (halves / 2) as i64)).collect::<Int64Array>())
        }
        FieldType::Float => Arc::new(
            cells.map(|cell| halves(cell).map(|halves| halves as f64 / 2.0)).collect::<Float64Array>(),
        ),
        FieldType::Boolean => {
            let flags =
                cells.map(|cell| if let Some(Cell::Boolean(value)) = cell { Some(value) } else { None });
            Arc::new(flags.collect::<BooleanArray>())
        }
        FieldType::Timestamp => {
            let times = cells
                .map(|cell| if let Some(Cell::Day(day)) = cell { Some(day * 86_400_000_000) } else { None });
            Arc::new(times.collect::<TimestampMicrosecondArray>())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn filters_agree_with_the_model(
        model in model(),
        rows in rows(),
        missing in prop::option::weighted(0.2, 0..FIELDS.len()),
        skipped in 0_usize..70,
    ) {
        let fields =
            FIELDS.map(|(name, kind)| FieldDeclaration { name: name.to_owned(), kind });
        let mut rows = rows;
        // A field without a column is null everywhere.
        if let Some(field) = missing {
            rows.iter_mut().for_each(|row| row[field] = None);
        }
        let columns = (0..FIELDS.len())
            .filter(|field| missing != Some(*field))
            .map(|field| (FIELDS[field].0, column(field, &rows), true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let skipped = skipped.min(rows.len());
        let batch = batch.slice(skipped, rows.len() - skipped);
        let text = model.write();
        let predicate = Predicate::parse(&text, &fields).unwrap_or_else(|error| panic!("{text}: {error}"));
        let expected: Vec<RowId> = rows[skipped..]
            .iter()
            .enumerate()
            .filter(|(_, row)| model.truth(row) == Some(true))
            .map(|(place, _)| RowId(place as u32))
            .collect();
        let found: Vec<RowId> = predicate.evaluate(&batch).unwrap().iter().collect();
        prop_assert_eq!(&found, &expected, "{} read as {}", text, predicate);

        let printed = predicate.to_string();
        let again = Predicate::parse(&printed, &fields);
        prop_assert_eq!(again.as_ref(), Ok(&predicate), "{} printed as {}", text, printed);
    }
}
