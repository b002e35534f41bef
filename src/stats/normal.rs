//! The inverse of the normal distribution, normal scores, robust z.

use super::ranks::average_ranks;
use super::sample_error::{SampleError, check_finite};

/// A quotient of two polynomials: their coefficients, that of the lowest power first.
struct Quotient {
    over: [f64; 8],
    under: [f64; 8],
}

impl Quotient {
    fn at(&self, value: f64) -> f64 {
        let horner = |powers: &[f64; 8]| powers.iter().rev().fold(0.0, |sum, power| sum * value + power);
        horner(&self.over) / horner(&self.under)
    }
}

/// Half the width of the part around p = 1/2 that [`CENTRE`] is for.
const CENTRE_HALF_WIDTH: f64 = 0.425;

/// Of CENTRE_HALF_WIDTH^2 - (p - 1/2)^2; times p - 1/2.
const CENTRE: Quotient = Quotient {
    over: [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ],
    under: [
        1.0,
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_854,
    ],
};

/// sqrt(-ln p) up to which [`TAIL`] is for: p from e^-25.
const TAIL_END: f64 = 5.0;

/// Of sqrt(-ln p) - 1.6.
const TAIL: Quotient = Quotient {
    over: [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        0.000_774_545_014_278_341_4,
    ],
    under: [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        0.000_547_593_808_499_534_5,
        1.050_750_071_644_416_9e-9,
    ],
};

/// Of sqrt(-ln p) - 5.
const FAR_TAIL: Quotient = Quotient {
    over: [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        0.001_242_660_947_388_078_4,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    under: [
        1.0,
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        0.000_786_869_131_145_613_3,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_7e-15,
    ],
};

/// Standard deviations of a normal distribution in one median absolute deviation of it: 1 / inverse normal of 3/4, rounded.
const DEVIATIONS_OF_MEDIAN: f64 = 1.4826;

/// The z below which a standard normal value lies with the probability `probability`; `None` unless that is above 0 and
/// below 1.
///
/// Relative error below 1e-14 down to the least positive number. Above 1/2 the probability itself is rounded: where few
/// values lie above z, ask for minus the z of that few.
///
/// # Complexity
/// O(1)
///
/// # References
/// Wichura: Algorithm AS 241: The percentage points of the normal distribution, Applied Statistics 37 (1988), PPND16.
///
/// ```
/// use ascribe::stats::inverse_normal;
/// assert_eq!(inverse_normal(0.5), Some(0.0));
/// assert!(inverse_normal(0.975).is_some_and(|z| (z - 1.959_963_984_540_054).abs() < 1e-12));
/// assert_eq!(inverse_normal(1.0), None);
/// ```
pub fn inverse_normal(probability: f64) -> Option<f64> {
    if !(probability > 0.0 && probability < 1.0) {
        return None;
    }
    let from_half = probability - 0.5;
    if from_half.abs() <= CENTRE_HALF_WIDTH {
        return Some(from_half * CENTRE.at(CENTRE_HALF_WIDTH * CENTRE_HALF_WIDTH - from_half * from_half));
    }
    let depth = (-probability.min(1.0 - probability).ln()).sqrt();
    let z = if depth <= TAIL_END { TAIL.at(depth - 1.6) } else { FAR_TAIL.at(depth - TAIL_END) };
    Some(z.copysign(from_half))
}

/// The normal score of each value: [`inverse_normal`] of (rank - 0.5) / n, with average ranks.
///
/// Signals of any scale and shape become comparable and can be added; equal values have equal scores, and the least
/// value that of the greatest with the other sign where neither is tied.
///
/// # Errors
/// A value is not finite.
///
/// # Complexity
/// O(n log n)
///
/// # References
/// Beasley, Erickson, Allison: Rank-based inverse normal transformations are increasingly used, but are they merited?,
/// Behavior Genetics 39 (2009): of the family (rank - c) / (n - 2 c + 1), that with c = 1/2.
///
/// ```
/// use ascribe::stats::{inverse_normal, normal_scores};
/// let scores = normal_scores(&[0.2, 900.0, 0.3])?;
/// assert_eq!(scores[2], 0.0);
/// assert_eq!(Some(scores[0]), inverse_normal(0.5 / 3.0));
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn normal_scores(values: &[f64]) -> Result<Vec<f64>, SampleError> {
    let count = values.len() as f64;
    let score = |rank: f64| {
        // The nearer end: scores of places that mirror each other then do so too, to the last bit.
        let (from_low, from_high) = (rank - 0.5, count + 0.5 - rank);
        let z = inverse_normal(from_low.min(from_high) / count).unwrap_or_default();
        if from_low > from_high { -z } else { z }
    };
    Ok(average_ranks(values)?.into_iter().map(score).collect())
}

/// The value in the middle, or halfway between the two there; `None` of no values.
///
/// # Errors
/// A value is not finite.
///
/// # Complexity
/// O(n)
///
/// ```
/// use ascribe::stats::median;
/// assert_eq!(median(&[9.0, 1.0, 2.0])?, Some(2.0));
/// assert_eq!(median(&[4.0, 1.0, 2.0, 9.0])?, Some(3.0));
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn median(values: &[f64]) -> Result<Option<f64>, SampleError> {
    check_finite(values)?;
    if values.is_empty() {
        return Ok(None);
    }
    let mut values = values.to_vec();
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    let (lower, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let below = if even { lower.iter().copied().fold(f64::MIN, f64::max) } else { upper };
    Ok(Some(f64::midpoint(below, upper)))
}

/// How far each value lies from the middle, in standard deviations that outliers do not widen:
/// (s - median) / (1.4826 MAD), MAD the median distance from the median.
///
/// `None` where that has no meaning: no values, or more than half of them equal, so that MAD is 0. A z that no f64 holds
/// is the greatest that one does.
///
/// # Errors
/// A value is not finite.
///
/// # Complexity
/// O(n)
///
/// # References
/// Hampel: The influence curve and its role in robust estimation, Journal of the American Statistical Association 69
/// (1974).
///
/// ```
/// use ascribe::stats::robust_z;
/// let z = robust_z(&[1.0, 2.0, 3.0, 4.0, 1000.0])?.expect("the values differ");
/// assert_eq!((z[1], z[2]), (-1.0 / 1.4826, 0.0));
/// assert!(z[4] > 600.0);
/// assert_eq!(robust_z(&[5.0, 5.0, 5.0, 1000.0])?, None);
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn robust_z(values: &[f64]) -> Result<Option<Vec<f64>>, SampleError> {
    let Some(middle) = median(values)? else { return Ok(None) };
    let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    // The distance between two finite numbers can be infinite, that between their halves cannot.
    let factor = if largest > f64::MAX / 2.0 { 0.5 } else { 1.0 };
    let mut distances: Vec<f64> = values.iter().map(|value| value * factor - middle * factor).collect();
    let absolute: Vec<f64> = distances.iter().map(|distance| distance.abs()).collect();
    let Some(deviation) = median(&absolute)?.filter(|deviation| *deviation > 0.0) else { return Ok(None) };
    for distance in &mut distances {
        *distance = (*distance / deviation / DEVIATIONS_OF_MEDIAN).clamp(f64::MIN, f64::MAX);
    }
    Ok(Some(distances))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computed with 40 digits: p as the double nearest to what is written, z rounded to the nearest double.
    #[test]
    fn known_percentage_points() {
        for (probability, expected) in [
            (1e-300, -37.047_096_299_361_2),
            (1e-100, -21.273_453_560_965_326),
            (1e-20, -9.262_340_089_798_407),
            (1e-10, -6.361_340_902_404_057),
            (0.001, -3.090_232_306_167_813_6),
            (0.025, -1.959_963_984_540_054_3),
            (0.075, -1.439_531_470_938_456),
            (0.1, -1.281_551_565_544_600_4),
            (0.25, -0.674_489_750_196_081_7),
            (0.6, 0.253_347_103_135_799_7),
            (0.925, 1.439_531_470_938_456_1),
        ] {
            let z = inverse_normal(probability).unwrap();
            assert!(((z - expected) / expected).abs() < 1e-14, "{probability}: {z}, expected {expected}");
        }
        assert_eq!(inverse_normal(0.5), Some(0.0));
        // Of scipy's ndtri, at both ends of what is above 0 and below 1.
        assert!((inverse_normal(f64::from_bits(1)).unwrap() + 38.467_405_617_144_34).abs() < 1e-12);
        assert!((inverse_normal(1.0 - f64::EPSILON / 2.0).unwrap() - 8.209_536_151_601_387).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_probability_has_no_point() {
        for probability in [0.0, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(inverse_normal(probability), None, "{probability}");
        }
    }

    proptest! {
        /// Two of the three formulas meet at 0.075, two at e^-25.
        #[test]
        fn points_rise_and_mirror(
            exponent in -60.0..-0.7_f64,
            step in 1e-9..0.1_f64,
            quarters in 1..(1_u64 << 52),
        ) {
            let (low, high) = (exponent.exp(), (exponent + step).exp());
            prop_assert!(inverse_normal(low) < inverse_normal(high));
            // An exact probability, whose distance from 1 is exact too.
            let probability = quarters as f64 / (1_u64 << 53) as f64;
            let mirrored = inverse_normal(1.0 - probability).map(|z| -z);
            prop_assert_eq!(inverse_normal(probability), mirrored);
        }

        #[test]
        fn normal_scores_keep_the_order_and_mirror(values in prop::collection::vec(-50..50_i32, 1..60)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let negated: Vec<f64> = values.iter().map(|value| -value).collect();
            let (scores, mirrored) = (normal_scores(&values).unwrap(), normal_scores(&negated).unwrap());
            for left in 0..values.len() {
                prop_assert_eq!(scores[left], -mirrored[left]);
                for right in 0..values.len() {
                    prop_assert_eq!(values[left] < values[right], scores[left] < scores[right]);
                }
            }
        }

        #[test]
        fn robust_z_ignores_shift_and_scale(
            values in prop::collection::vec(-50..50_i32, 0..60),
            shift in -20..20_i32,
        ) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let moved: Vec<f64> = values.iter().map(|value| 4.0 * value + f64::from(shift)).collect();
            prop_assert_eq!(robust_z(&values).unwrap(), robust_z(&moved).unwrap());
        }
    }

    #[test]
    fn continuous_where_the_formulas_meet() {
        for (at, relative) in [(0.075, 1e-14), ((-25.0_f64).exp(), 1e-14), (0.925, 1e-14)] {
            let around = [at * (1.0 - 1e-15), at * (1.0 + 1e-15)].map(|at| inverse_normal(at).unwrap());
            assert!(((around[0] - around[1]) / around[0]).abs() < relative, "{at}: {around:?}");
        }
    }

    #[test]
    fn ties_and_few_values_have_normal_scores() {
        assert_eq!(normal_scores(&[]), Ok(vec![]));
        assert_eq!(normal_scores(&[7.0]), Ok(vec![0.0]));
        assert_eq!(normal_scores(&[3.0, 3.0, 3.0]), Ok(vec![0.0; 3]));
        // Ranks 1, 2.5, 2.5, 4 of four.
        let scores = normal_scores(&[1.0, 2.0, 2.0, 9.0]).unwrap();
        assert_eq!(scores[0], inverse_normal(0.125).unwrap());
        assert_eq!((scores[1], scores[2], scores[3]), (0.0, 0.0, -scores[0]));
    }

    #[test]
    fn medians_and_robust_z_of_known_values() {
        assert_eq!(median(&[]), Ok(None));
        assert_eq!(median(&[f64::MAX, f64::MAX]), Ok(Some(f64::MAX)));
        assert_eq!(robust_z(&[]), Ok(None));
        assert_eq!(robust_z(&[1.0]), Ok(None));
        // Median 3.5, distances 2.5, 1.5, 0.5, 0.5, 1.5, 2.5: their median is 1.5.
        let z = robust_z(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap().unwrap();
        assert!((z[0] + 2.5 / (1.4826 * 1.5)).abs() < 1e-15 && (z[3] - 0.5 / (1.4826 * 1.5)).abs() < 1e-15);
    }

    #[test]
    fn the_z_of_extreme_values_is_finite() {
        let huge = robust_z(&[f64::MAX, f64::MIN, 0.0]).unwrap().unwrap();
        assert!((huge[0] - 1.0 / 1.4826).abs() < 1e-12, "{huge:?}");
        let tiny =
            robust_z(&[f64::MAX / 4.0, 0.0, f64::from_bits(1), -f64::from_bits(1), 0.0, f64::from_bits(2)]);
        assert_eq!(tiny.unwrap().unwrap()[0], f64::MAX);
    }

    #[test]
    fn bad_values_are_refused() {
        assert!(matches!(normal_scores(&[1.0, f64::NAN]), Err(SampleError::NotFinite { index: 1, .. })));
        assert!(matches!(robust_z(&[f64::INFINITY]), Err(SampleError::NotFinite { index: 0, .. })));
        assert!(median(&[f64::NEG_INFINITY]).is_err());
    }
}
