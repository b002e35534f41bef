//! Numbers for people.

use std::time::Duration;

/// A count with commas between groups of three digits.
///
/// ```
/// assert_eq!(ascribe::answers::count_shown(4284), "4,284");
/// ```
pub fn count_shown(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A number of bytes in the largest decimal unit of which there is at least one.
///
/// ```
/// assert_eq!(ascribe::answers::bytes_shown(1_234_567), "1.23 MB");
/// assert_eq!(ascribe::answers::bytes_shown(999), "999 bytes");
/// ```
pub fn bytes_shown(bytes: u64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match UNITS.into_iter().find(|(size, _)| bytes as f64 >= *size) {
        Some((size, unit)) => format!("{:.2} {unit}", bytes as f64 / size),
        None if bytes == 1 => "1 byte".to_owned(),
        None => format!("{bytes} bytes"),
    }
}

/// A duration with three digits, in the unit that suits it.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(ascribe::answers::duration_shown(Duration::from_micros(840)), "0.84 ms");
/// assert_eq!(ascribe::answers::duration_shown(Duration::from_secs(75)), "1 min 15 s");
/// ```
pub fn duration_shown(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..0.01 => format!("{:.2} ms", seconds * 1e3),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        ..10.0 => format!("{seconds:.2} s"),
        ..60.0 => format!("{seconds:.1} s"),
        _ => format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60),
    }
}

/// A score with its sign: four decimals, or scientific where those would hide it.
///
/// ```
/// assert_eq!(ascribe::answers::score_shown(0.83), "+0.8300");
/// assert_eq!(ascribe::answers::score_shown(-2.5e-9), "-2.500e-9");
/// ```
pub fn score_shown(score: f64) -> String {
    let size = score.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) { format!("{score:+.3e}") } else { format!("{score:+.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_begin_at_the_right() {
        for (count, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count_shown(count), shown);
        }
        assert_eq!(count_shown(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn units_change_at_their_bounds() {
        assert_eq!(bytes_shown(1), "1 byte");
        assert_eq!(bytes_shown(1000), "1.00 kB");
        assert_eq!(bytes_shown(5_000_000_000), "5.00 GB");
        assert_eq!(duration_shown(Duration::from_millis(10)), "10 ms");
        assert_eq!(duration_shown(Duration::from_millis(1500)), "1.50 s");
        assert_eq!(duration_shown(Duration::from_secs(12)), "12.0 s");
        assert_eq!(score_shown(0.0), "+0.0000");
        assert_eq!(score_shown(2e6), "+2.000e6");
    }
}
