//! Seeded random streams: the same values on every platform and in every version.

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

    /// A number in [0, 1) with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
