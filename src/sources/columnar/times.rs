//! Dates, times and timestamps as the text that declared fields read.

use arrow_schema::TimeUnit;
use serde_json::Value;

use crate::base::FieldValue;

const DAY_SECONDS: i64 = 86_400;
const SECOND_MICROSECONDS: i64 = 1_000_000;

/// Units of a second, and digits behind its decimal point.
fn fineness(unit: TimeUnit) -> (i64, usize) {
    match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    }
}

/// `.250` where a second has a part of `fraction` units; nothing where it is whole.
fn fraction_text(fraction: i64, digits: usize) -> String {
    if fraction == 0 { String::new() } else { format!(".{fraction:0digits$}") }
}

/// RFC 3339 text in UTC of `count` units since 1970; `None` beyond the years 0 to 9999, which that text has.
///
/// Arrow's timestamps with a zone count in UTC; those without are taken as UTC, as text without a zone is.
pub(super) fn timestamp_text(count: i64, unit: TimeUnit) -> Option<String> {
    let (per_second, digits) = fineness(unit);
    let seconds = count.div_euclid(per_second).checked_mul(SECOND_MICROSECONDS)?;
    let Value::String(text) = FieldValue::Timestamp(seconds).to_json() else { return None };
    let whole = text.strip_suffix('Z').filter(|_| text.as_bytes().first().is_some_and(u8::is_ascii_digit))?;
    Some(format!("{whole}{}Z", fraction_text(count.rem_euclid(per_second), digits)))
}

/// `YYYY-MM-DD` of a number of days since 1970; `None` beyond the years 0 to 9999.
pub(super) fn date_text(days: i64) -> Option<String> {
    let text = timestamp_text(days.checked_mul(DAY_SECONDS)?, TimeUnit::Second)?;
    text.split_once('T').map(|(day, _)| day.to_owned())
}

/// `HH:MM:SS` of `count` units since midnight; `None` if that is no time of a day.
pub(super) fn time_text(count: i64, unit: TimeUnit) -> Option<String> {
    let (per_second, digits) = fineness(unit);
    let seconds = count.div_euclid(per_second);
    (0..DAY_SECONDS).contains(&seconds).then(|| {
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let fraction = fraction_text(count.rem_euclid(per_second), digits);
        format!("{hours:02}:{minutes:02}:{:02}{fraction}", seconds % 60)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::FieldType;

    #[test]
    fn timestamps_keep_their_fraction_and_read_back_as_declared_fields() {
        for (count, unit, text, microseconds) in [
            (0, TimeUnit::Second, "1970-01-01T00:00:00Z", 0),
            (-1, TimeUnit::Millisecond, "1969-12-31T23:59:59.999Z", -1_000),
            (1_500_000, TimeUnit::Microsecond, "1970-01-01T00:00:01.500000Z", 1_500_000),
            (1_000_000_007, TimeUnit::Nanosecond, "1970-01-01T00:00:01.000000007Z", 1_000_000),
        ] {
            let found = timestamp_text(count, unit).unwrap();
            assert_eq!(found, text);
            let field = FieldValue::from_json(FieldType::Timestamp, &Value::from(found));
            assert_eq!(field, Ok(Some(FieldValue::Timestamp(microseconds))), "{text}");
        }
        for (count, unit) in
            [(i64::MAX, TimeUnit::Second), (i64::MIN, TimeUnit::Second), (300_000_000_000, TimeUnit::Second)]
        {
            assert_eq!(timestamp_text(count, unit), None);
        }
    }

    #[test]
    fn dates_and_times_of_day() {
        assert_eq!(date_text(0).as_deref(), Some("1970-01-01"));
        assert_eq!(date_text(-1).as_deref(), Some("1969-12-31"));
        assert_eq!(date_text(i64::from(i32::MAX)), None);
        assert_eq!(date_text(i64::MIN), None);
        assert_eq!(time_text(86_399_250, TimeUnit::Millisecond).as_deref(), Some("23:59:59.250"));
        assert_eq!(time_text(60, TimeUnit::Second).as_deref(), Some("00:01:00"));
        assert_eq!((time_text(86_400, TimeUnit::Second), time_text(-1, TimeUnit::Nanosecond)), (None, None));
    }
}
