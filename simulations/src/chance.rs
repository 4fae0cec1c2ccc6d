//! Chance from a seed: the same on every machine and with every version of every library.

use hypergolix_engine::Entropy;

/// A stream of pseudo-random numbers (splitmix64, Steele et al. 2014). Good for choosing, not for
/// keys; the keys made from it belong to nobody.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream `name` of `seed`. Streams of different names have nothing to do with each other,
    /// so that a change in one part of the world leaves the others' choices alone.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut state = seed ^ 0x6879_7065_7267_6f6c;
        for byte in name.bytes() {
            state = mix(state.wrapping_add(u64::from(byte)).wrapping_add(GOLDEN));
        }
        Self(mix(state))
    }

    /// The next number, of all 2^64.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }

    /// A number between both, inclusive.
    pub fn between(&mut self, [low, high]: [u64; 2]) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True with this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// How long until something that happens every `mean` on average.
    #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a random duration")]
    pub fn wait(&mut self, mean: u64) -> u64 {
        (-(1.0 - self.fraction()).ln() * mean as f64) as u64
    }

    /// One of a slice; `None` of an empty one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len() as u64) as usize) }
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Entropy for Chance {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.number().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_everywhere() {
        let mut chance = Chance::new(7, "network");
        assert_eq!(chance.number(), Chance::new(7, "network").number());
        assert_ne!(Chance::new(7, "network").number(), Chance::new(7, "apps").number());
        assert_ne!(Chance::new(7, "network").number(), Chance::new(8, "network").number());
        let mut seen = [false; 4];
        for _ in 0..1_000 {
            let number = chance.between([2, 5]);
            seen[number as usize - 2] = true;
        }
        assert_eq!(seen, [true; 4]);
        let mean = (0..10_000).map(|_| chance.wait(1_000)).sum::<u64>() / 10_000;
        assert!((950..1_050).contains(&mean), "{mean}");
    }
}
