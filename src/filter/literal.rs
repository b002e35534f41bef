//! Comparison operators, and number literals as exact points among the values of a field.
//!
//! A literal is placed among the values that a field can hold, so that no comparison rounds: `x < 1.5` over integers
//! is `x <= 1`, and `x = 9007199254740993` over floats is never true, because no float has that value.

use std::cmp::Ordering;
use std::fmt;

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// The operator with its sides swapped: `1 < x` is `x > 1`.
    pub(super) fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            Self::Equal | Self::NotEqual => self,
        }
    }

    /// Whether two values in this order stand in the relation; `None` is the order of a value that has none (NaN).
    pub(super) fn accepts(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }

    /// Whether the operator asks for more than equality.
    pub(super) fn is_ordering(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

/// The order of an integer and a float by their exact values; `None` for NaN.
pub(super) fn compare_integer_with_float(integer: i64, float: f64) -> Option<Ordering> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= TWO_TO_63 {
        return Some(Ordering::Less);
    }
    if float < -TWO_TO_63 {
        return Some(Ordering::Greater);
    }
    let whole = float.trunc();
    // Exact: `whole` is an integer of 64 bits.
    match integer.cmp(&(whole as i64)) {
        Ordering::Equal => whole.partial_cmp(&float),
        order => Some(order),
    }
}

/// The values of `low..=high`, or all others. Empty where `low > high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range<T> {
    low: T,
    high: T,
    others: bool,
}

impl<T: Copy + PartialOrd> Range<T> {
    /// Whether `value` is one of them.
    pub(super) fn contains(&self, value: T) -> bool {
        (self.low <= value && value <= self.high) != self.others
    }
}

/// Where a number literal lies among the 64-bit integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IntegerPoint {
    /// Below every integer.
    BelowAll,
    /// On this integer.
    At(i64),
    /// Between this integer, never the greatest, and the next.
    After(i64),
    /// Above every integer.
    AboveAll,
}

impl IntegerPoint {
    /// The integers that stand in relation `operator` to the point.
    pub(super) fn range(self, operator: Comparison) -> Range<i64> {
        // The greatest integer below, and at or below, the point; and the least at or above, and above it.
        let (below, at_most, at_least, above) = match self {
            Self::BelowAll => (None, None, Some(i64::MIN), Some(i64::MIN)),
            Self::At(value) => (value.checked_sub(1), Some(value), Some(value), value.checked_add(1)),
            Self::After(value) => (Some(value), Some(value), value.checked_add(1), value.checked_add(1)),
            Self::AboveAll => (Some(i64::MAX), Some(i64::MAX), None, None),
        };
        let up_to = |high: Option<i64>| high.map(|high| (i64::MIN, high));
        let from = |low: Option<i64>| low.map(|low| (low, i64::MAX));
        let bounds = match operator {
            Comparison::Equal | Comparison::NotEqual => at_least.zip(at_most),
            Comparison::Less => up_to(below),
            Comparison::LessOrEqual => up_to(at_most),
            Comparison::Greater => from(above),
            Comparison::GreaterOrEqual => from(at_least),
        };
        let (low, high) = bounds.unwrap_or((1, 0));
        Range { low, high, others: operator == Comparison::NotEqual }
    }

    /// The point that the decimal number `digits` (`12`, `.5`, `1.25e-3`) with a sign stands for; `None` if it is no
    /// such number. Exact, however many digits there are.
    pub(super) fn parse(negative: bool, digits: &str) -> Option<Self> {
        let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
            None => (digits, 0),
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut figures: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if figures.is_empty() || !figures.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // Figures before the decimal point, once leading zeros are gone. Lengths are far below 2^63.
        let leading_zeros = figures.iter().take_while(|figure| **figure == b'0').count();
        let places = (whole.len() as i64 - leading_zeros as i64).saturating_add(exponent);
        figures.drain(..leading_zeros);
        while figures.last() == Some(&b'0') {
            figures.pop();
        }
        Some(place(negative, &figures, places))
    }
}

/// The point of `0.FIGURES x 10^places`, where neither the first nor the last figure is a zero.
fn place(negative: bool, figures: &[u8], places: i64) -> IntegerPoint {
    const INTEGER_PLACES_MAX: i64 = 19;
    let beyond = if negative { IntegerPoint::BelowAll } else { IntegerPoint::AboveAll };
    if figures.is_empty() {
        return IntegerPoint::At(0);
    }
    if places > INTEGER_PLACES_MAX {
        return beyond;
    }
    let places = usize::try_from(places).unwrap_or(0);
    let magnitude = (0..places).fold(0_i128, |sum, place| {
        sum * 10 + figures.get(place).map_or(0, |figure| i128::from(figure - b'0'))
    });
    let has_fraction = figures.len() > places;
    // The greatest integer that is not above the number.
    let floor = if negative { -magnitude - i128::from(has_fraction) } else { magnitude };
    match i64::try_from(floor) {
        Err(_) => beyond,
        Ok(value) if !has_fraction => IntegerPoint::At(value),
        Ok(i64::MAX) => IntegerPoint::AboveAll,
        Ok(value) => IntegerPoint::After(value),
    }
}

/// The exponent of a decimal number; one too long for 64 bits saturates.
fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, figures) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if figures.is_empty() || !figures.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Half of the range, so that adding a length cannot overflow either.
    let size = figures.parse::<i64>().map_or(i64::MAX / 2, |size| size.min(i64::MAX / 2));
    Some(if negative { -size } else { size })
}

impl fmt::Display for IntegerPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowAll => write!(formatter, "{}", i128::from(i64::MIN) - 1),
            Self::At(value) => write!(formatter, "{value}"),
            Self::After(-1) => formatter.write_str("-0.5"),
            Self::After(value) if *value < 0 => write!(formatter, "{}.5", value + 1),
            Self::After(value) => write!(formatter, "{value}.5"),
            Self::AboveAll => write!(formatter, "{}", i128::from(i64::MAX) + 1),
        }
    }
}

/// Where a number literal lies among the double-precision numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FloatPoint {
    /// On this finite number.
    At(f64),
    /// On this integer, which is none of them.
    Integer(i64),
}

impl FloatPoint {
    /// The floats that stand in relation `operator` to the point.
    pub(super) fn range(self, operator: Comparison) -> Range<f64> {
        let (at_most, at_least) = match self {
            Self::At(value) => (value, value),
            Self::Integer(value) => {
                let nearest = value as f64;
                if i128::from(value) > nearest as i128 {
                    (nearest, nearest.next_up())
                } else {
                    (nearest.next_down(), nearest)
                }
            }
        };
        // On a float the neighbours are the next ones; between two they are those two.
        let on_float = at_most == at_least;
        let (low, high) = match operator {
            Comparison::Equal | Comparison::NotEqual => (at_least, at_most),
            Comparison::Less => (f64::NEG_INFINITY, if on_float { at_most.next_down() } else { at_most }),
            Comparison::LessOrEqual => (f64::NEG_INFINITY, at_most),
            Comparison::Greater => (if on_float { at_least.next_up() } else { at_least }, f64::INFINITY),
            Comparison::GreaterOrEqual => (at_least, f64::INFINITY),
        };
        Range { low, high, others: operator == Comparison::NotEqual }
    }

    /// The point that `digits` with a sign stands for: integers of 64 bits exactly, other numbers as the nearest
    /// float. `None` if it is no number or no finite one.
    pub(super) fn parse(negative: bool, digits: &str) -> Option<Self> {
        let is_integer = digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_integer && let Some(IntegerPoint::At(value)) = IntegerPoint::parse(negative, digits) {
            let float = value as f64;
            return Some(if float as i128 == i128::from(value) {
                Self::At(float)
            } else {
                Self::Integer(value)
            });
        }
        let size: f64 = digits.parse().ok()?;
        // The sum turns the negative zero into the positive one, which compares the same.
        let value = if negative { -size + 0.0 } else { size };
        value.is_finite().then_some(Self::At(value))
    }
}

impl fmt::Display for FloatPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The debug form has a point or an exponent and reads back as the same bits.
            Self::At(value) => write!(formatter, "{value:?}"),
            Self::Integer(value) => write!(formatter, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_fall_between_integers_exactly() {
        use IntegerPoint::{AboveAll, After, At, BelowAll};
        for (negative, digits, point) in [
            (false, "0", At(0)),
            (true, "0.000", At(0)),
            (false, "007", At(7)),
            (false, "1e3", At(1000)),
            (false, "1.50e1", At(15)),
            (false, "1200e-2", At(12)),
            (false, "1.5", After(1)),
            (true, "1.5", After(-2)),
            (true, ".5", After(-1)),
            (false, "1e-400000000000000000000", After(0)),
            (true, "1e-99999999999999999999", After(-1)),
            (false, "9223372036854775807", At(i64::MAX)),
            (false, "9223372036854775807.1", AboveAll),
            (false, "9223372036854775808", AboveAll),
            (false, "1e999999999999999999999", AboveAll),
            (false, "99999999999999999999", AboveAll),
            (true, "9223372036854775808", At(i64::MIN)),
            (true, "9223372036854775807.5", After(i64::MIN)),
            (true, "9223372036854775808.5", BelowAll),
            (true, "9223372036854775809", BelowAll),
            (true, "1e40", BelowAll),
            (false, "9007199254740993.0", At(9_007_199_254_740_993)),
        ] {
            assert_eq!(IntegerPoint::parse(negative, digits), Some(point), "{negative} {digits}");
        }
        for digits in ["", ".", "1x", "e5", "1e", "1e+", "1.2.3", "-1"] {
            assert_eq!(IntegerPoint::parse(false, digits), None, "{digits}");
        }
    }

    const OPERATORS: [Comparison; 6] = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];

    fn holds(operator: Comparison, order: std::cmp::Ordering) -> bool {
        match operator {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }

    #[test]
    fn integer_ranges_agree_with_doubled_values() {
        let edges = [i64::MIN, i64::MIN + 1, -2, -1, 0, 1, 2, i64::MAX - 1, i64::MAX];
        let mut points = vec![
            (IntegerPoint::BelowAll, i128::from(i64::MIN) * 2 - 1),
            (IntegerPoint::AboveAll, i128::from(i64::MAX) * 2 + 1),
        ];
        for value in edges {
            points.push((IntegerPoint::At(value), i128::from(value) * 2));
            if value != i64::MAX {
                points.push((IntegerPoint::After(value), i128::from(value) * 2 + 1));
            }
        }
        for (point, doubled) in points {
            for (operator, value) in OPERATORS.iter().flat_map(|op| edges.map(|value| (*op, value))) {
                let expected = holds(operator, (i128::from(value) * 2).cmp(&doubled));
                assert_eq!(point.range(operator).contains(value), expected, "{value} {operator} {point:?}");
            }
            let text = point.to_string();
            let (negative, digits) =
                text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
            assert_eq!(IntegerPoint::parse(negative, digits), Some(point), "{text}");
        }
    }

    #[test]
    fn floats_and_integers_compare_by_exact_value() {
        let floats = [
            -9_007_199_254_740_992.0,
            -1.5,
            -0.0,
            0.0,
            0.5,
            1.0,
            9_007_199_254_740_992.0,
            9_007_199_254_740_994.0,
            9_223_372_036_854_775_808.0,
        ];
        let integers = [
            i64::MIN,
            -9_007_199_254_740_993,
            -1,
            0,
            1,
            9_007_199_254_740_992,
            9_007_199_254_740_993,
            i64::MAX,
        ];
        for integer in integers {
            let point = FloatPoint::parse(integer < 0, &integer.unsigned_abs().to_string()).unwrap();
            for (operator, float) in OPERATORS.iter().flat_map(|op| floats.map(|float| (*op, float))) {
                let doubled = (float * 2.0) as i128;
                let expected = holds(operator, doubled.cmp(&(i128::from(integer) * 2)));
                assert_eq!(point.range(operator).contains(float), expected, "{float} {operator} {integer}");
            }
        }
    }

    #[test]
    fn float_points_read_back_from_their_text() {
        for (negative, digits) in [
            (false, "0.1"),
            (true, "1e300"),
            (false, "5"),
            (true, "9223372036854775807"),
            (false, "1e-320"),
            (true, "0.0"),
            (false, "123456789012345678901234567890"),
        ] {
            let point = FloatPoint::parse(negative, digits).unwrap();
            let text = point.to_string();
            let (negative, digits) =
                text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
            assert_eq!(FloatPoint::parse(negative, digits), Some(point), "{text}");
        }
        assert_eq!(FloatPoint::parse(false, "1e999"), None);
        assert_eq!(FloatPoint::parse(false, &"9".repeat(400)), None);
    }
}
