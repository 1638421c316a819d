//! Chances that come in the same order at every run: SplitMix64 (Steele, Lea, Flood 2014).

/// A sequence of chances.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// True with this probability, 0 to 1.
    pub fn hits(&mut self, probability: f64) -> bool {
        // Nothing is drawn for a chance that is none: parameters that are off change no sequence.
        probability > 0.0 && self.fraction() < probability
    }

    /// 0 up to, but not including, 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}
