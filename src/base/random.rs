//! Seeded random streams: the same values on every platform and in every version.

use std::collections::BTreeMap;

/// A SplitMix64 stream. Not for secrets.
///
/// # References
/// Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014, figure 17.
///
/// ```
/// let mut stream = ascribe::base::RandomStream::new(0);
/// assert_eq!(stream.next_u64(), 0xe220_a839_7b1d_cdaf);
/// ```
#[derive(Clone, Debug)]
pub struct RandomStream {
    state: u64,
}

impl RandomStream {
    /// Distance between two states of the stream: 2^64 divided by the golden ratio, made odd.
    pub const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The SplitMix64 finaliser: a bijection of 64 bits in which every input bit moves every output bit.
    pub fn mix(mut value: u64) -> u64 {
        value ^= value >> 30;
        value = value.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value ^= value >> 27;
        value = value.wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    /// The next 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(Self::INCREMENT);
        Self::mix(self.state)
    }

    /// A number in `0..bound`; 0 where `bound` is 0. The bias is below `bound` / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Puts `values` in one of all orders, each as likely as any other.
    ///
    /// # References
    /// Knuth: The Art of Computer Programming 2, 3rd edition, section 3.4.2, algorithm P.
    ///
    /// ```
    /// let mut values = [1, 2, 3, 4];
    /// ascribe::base::RandomStream::new(7).shuffle(&mut values);
    /// values.sort_unstable();
    /// assert_eq!(values, [1, 2, 3, 4]);
    /// ```
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for place in (1..values.len()).rev() {
            values.swap(place, self.below(place as u64 + 1) as usize);
        }
    }

    /// A number in [0, 1) with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The first `count` numbers of `0..total` shuffled, or all: no number twice, every one as likely as any other in every
/// place. A longer draw of the same seed begins with the shorter one.
///
/// # Complexity
/// O(count log count), whatever `total` is.
///
/// # References
/// Knuth: The Art of Computer Programming 2, 3rd edition, section 3.4.2, algorithm P, from its other end.
///
/// ```
/// let drawn: Vec<u64> = ascribe::base::drawn_numbers(3, 9, 1).collect();
/// assert_eq!(drawn.len(), 3);
/// ```
pub fn drawn_numbers(total: u64, count: usize, seed: u64) -> impl Iterator<Item = u64> {
    let mut stream = RandomStream::new(seed);
    // Places behind the drawn ones that do not hold their own number any more: few, where few are drawn of many.
    let mut moved = BTreeMap::new();
    (0..total).take(count).map(move |place| {
        let chosen = place + stream.below(total - place);
        let here = moved.remove(&place).unwrap_or(place);
        if chosen == place { here } else { moved.insert(chosen, here).unwrap_or(chosen) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_drawn_once_and_longer_samples_begin_like_shorter_ones() {
        for total in [0, 1, 2, 7, 100] {
            let mut all: Vec<u64> = drawn_numbers(total, usize::MAX, 5).collect();
            let some: Vec<u64> = drawn_numbers(total, 5, 5).collect();
            assert_eq!(some, all[..all.len().min(5)]);
            all.sort_unstable();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
        }
        assert_eq!(drawn_numbers(u64::MAX, 3, 0).count(), 3);
    }

    #[test]
    fn every_number_is_as_likely_as_any_other_in_every_place() {
        let mut counts = [[0; 5]; 3];
        for seed in 0..5000 {
            for (place, number) in drawn_numbers(5, 3, RandomStream::mix(seed)).enumerate() {
                counts[place][number as usize] += 1;
            }
        }
        // 1000 expected; the standard deviation is 28.
        assert!(counts.iter().flatten().all(|count| (860..1140).contains(count)), "{counts:?}");
    }
}
