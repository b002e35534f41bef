//! From features to coordinates.

use crate::base::RandomStream;

/// Coordinates that one feature touches, one in each block of the vector. Eight, because dot products of features are
/// kept as well as with dense signs unless two heavy features meet, and eight meet rarely in one place.
pub(super) const BLOCKS: usize = 8;

/// Adds `weight`, with the signs and at the places that `hash` chooses, to `sums` of at least [`BLOCKS`] values.
pub(super) fn add_feature(sums: &mut [f64], hash: u64, weight: f64) {
    let mut stream = RandomStream::new(hash);
    let width = sums.len();
    for block in 0..BLOCKS {
        let start = block * width / BLOCKS;
        let end = (block + 1) * width / BLOCKS;
        let bits = stream.next_u64();
        // The upper half chooses the place, the lowest bit the sign.
        let place = start + (((bits >> 32) * (end - start) as u64) >> 32) as usize;
        sums[place] += if bits & 1 == 0 { weight } else { -weight };
    }
}

/// Writes `sums`, divided by their Euclidean norm, to `out`; false and zeros where the norm is 0.
pub(super) fn normalise(sums: &[f64], out: &mut [f32]) -> bool {
    // One sum in a fixed order: the same bits everywhere.
    let squares: f64 = sums.iter().fold(0.0, |sum, value| sum + value * value);
    if squares == 0.0 {
        out.fill(0.0);
        return false;
    }
    let norm = squares.sqrt();
    for (value, sum) in out.iter_mut().zip(sums) {
        *value = (sum / norm) as f32;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_touches_one_place_of_each_block() {
        for width in [8, 9, 15, 100, 4096] {
            for hash in 0..200 {
                let mut sums = vec![0.0; width];
                add_feature(&mut sums, hash, 2.0);
                for block in 0..BLOCKS {
                    let part = &sums[block * width / BLOCKS..(block + 1) * width / BLOCKS];
                    assert_eq!(part.iter().map(|sum| sum.abs()).sum::<f64>(), 2.0);
                }
            }
        }
    }

    /// Two vectors of 100 features, half of them shared: their dot product is kept with an error of about
    /// sqrt(2 / width), and without bias.
    #[test]
    fn dot_products_are_kept() {
        const WIDTH: usize = 256;
        let project = |hashes: std::ops::Range<u64>| {
            let mut sums = vec![0.0; WIDTH];
            hashes.for_each(|hash| add_feature(&mut sums, RandomStream::mix(hash), 1.0));
            sums
        };
        let errors: Vec<f64> = (0..200_u64)
            .map(|trial| {
                let (left, right) =
                    (project(trial * 200..trial * 200 + 100), project(trial * 200 + 50..trial * 200 + 150));
                let dot: f64 = left.iter().zip(&right).map(|(a, b)| a * b).sum();
                dot / (100.0 * BLOCKS as f64) - 0.5
            })
            .collect();
        let mean = errors.iter().sum::<f64>() / 200.0;
        let deviation = (errors.iter().map(|error| error * error).sum::<f64>() / 200.0).sqrt();
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((0.03..0.1).contains(&deviation), "{deviation}");
    }

    #[test]
    fn normalising_gives_norm_one_and_keeps_zero() {
        let mut out = [9.0; 2];
        assert!(normalise(&[3.0, -4.0], &mut out));
        assert_eq!(out, [0.6, -0.8]);
        assert!(!normalise(&[0.0, 0.0], &mut out));
        assert_eq!(out, [0.0, 0.0]);
    }
}
