//! Durations with units.

use std::time::Duration;

/// Longest duration: a day. More is a slip of the pen.
const SECONDS_MAX: f64 = 86_400.0;

/// Reads a duration such as `2s`, `10ms`, `1.5m` or `1h`: a number and its unit, above 0 and at most a day.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit_s = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "" => return Err("a duration needs a unit: ms, s, m or h, such as 2s".to_owned()),
        _ => return Err(format!("{unit:?} is no unit: use ms, s, m or h")),
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = number.parse::<f64>().ok().filter(|_| digits).map(|number| number * unit_s);
    match seconds.filter(|seconds| *seconds > 0.0 && *seconds <= SECONDS_MAX) {
        Some(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        None => Err(format!("{text:?} is no duration from above 0 to 24h, such as 2s or 10ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, milliseconds) in [
            ("10ms", 10),
            ("2s", 2000),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("2min", 120_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in
            ["", "2", "s", "-2s", "+2s", "0s", "0.0ms", "25h", "2 s", "2d", "1e9h", "NaNs", "infs", "1.2.3s"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration("2").is_err_and(|text| text.contains("unit")));
    }
}
