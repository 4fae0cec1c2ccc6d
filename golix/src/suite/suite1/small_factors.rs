//! Trial division of a modulus by every prime below 2^16: what no RSA key has, and what gives away
//! that a modulus was made up or damaged. Threat model, 4.1.

use std::sync::LazyLock;

/// Primes below this are tried.
const BOUND: u32 = 1 << 16;

/// Products that are worked on side by side: one alone would mostly wait for its own multiplications.
const LANES: usize = 4;

/// Some of the primes: products that fit into 64 bits, their inverses modulo 2^64, and what they are
/// products of.
struct Batch {
    products: [u64; LANES],
    inverses: [u64; LANES],
    primes: [Vec<u64>; LANES],
}

/// The odd primes below [`BOUND`].
static BATCHES: LazyLock<Vec<Batch>> = LazyLock::new(|| {
    let mut composite = vec![false; BOUND as usize];
    let mut products = vec![(1u64, Vec::new())];
    for p in (3..BOUND as usize).step_by(2) {
        if composite[p] {
            continue;
        }
        (p * p..BOUND as usize).step_by(2 * p).for_each(|multiple| composite[multiple] = true);
        let (product, primes) = products.last_mut().expect("there is one from the start");
        if let Some(larger) = product.checked_mul(p as u64) {
            *product = larger;
            primes.push(p as u64);
        } else {
            products.push((p as u64, vec![p as u64]));
        }
    }
    let batch = |group: &[(u64, Vec<u64>)]| {
        let lane = |at: usize| group.get(at).cloned().unwrap_or((1, Vec::new()));
        let lanes: [_; LANES] = std::array::from_fn(lane);
        Batch {
            products: lanes.each_ref().map(|(product, _)| *product),
            inverses: lanes.each_ref().map(|(product, _)| inverse(*product)),
            primes: lanes.map(|(_, primes)| primes),
        }
    };
    products.chunks(LANES).map(batch).collect()
});

/// Whether an odd prime below 2^16 divides `number`, big-endian; its length is a multiple of 8.
///
/// Montgomery's reduction, limb by limb from the low end: dividing by 2^64 instead of taking the
/// remainder is two multiplications where the other is a division, and whether a prime divides the
/// result is the same.
pub(super) fn divides_any(number: &[u8]) -> bool {
    debug_assert!(number.len().is_multiple_of(8));
    let limbs: Vec<u64> = number
        .rchunks_exact(8)
        .map(|limb| u64::from_be_bytes(limb.try_into().expect("8 bytes")))
        .collect();
    BATCHES.iter().any(|batch| {
        // Invariant: reduced * 2^(64 i) is the number's low i limbs, modulo the product.
        let mut reduced = [0u64; LANES];
        for limb in &limbs {
            for (lane, reduced) in reduced.iter_mut().enumerate() {
                *reduced = step(*reduced, *limb, batch.products[lane], batch.inverses[lane]);
            }
        }
        let divides = |(reduced, primes): (u64, &Vec<u64>)| {
            primes.iter().any(|prime| reduced.is_multiple_of(*prime))
        };
        reduced.into_iter().zip(&batch.primes).any(divides)
    })
}

/// (reduced + limb) / 2^64, modulo the product.
fn step(reduced: u64, limb: u64, product: u64, inverse: u64) -> u64 {
    // limb + reduced = carry * 2^64 + low; and low - quotient * product is 0 modulo 2^64.
    let (low, carry) = limb.overflowing_add(reduced);
    let quotient = low.wrapping_mul(inverse);
    let high = ((u128::from(quotient) * u128::from(product)) >> 64) as u64;
    // carry - high, which lies above -product: one product brings it back.
    let (difference, below) = u64::from(carry).overflowing_sub(high);
    if below { difference.wrapping_add(product) } else { difference }
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration.
fn inverse(odd: u64) -> u64 {
    // odd * odd = 1 modulo 8: three bits to begin with, twice as many in every round.
    (0..5)
        .fold(odd, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number of 128 bits as bytes.
    fn divides(number: u128) -> bool {
        divides_any(&number.to_be_bytes())
    }

    #[test]
    fn all_primes_are_tried() {
        let primes: Vec<u64> = BATCHES.iter().flat_map(|batch| batch.primes.concat()).collect();
        assert_eq!(primes.len(), 6541, "6542 primes are below 2^16, one of them even");
        assert_eq!((primes[0], primes[6540]), (3, 65521));
        // A product of two primes just above the bound has no small factor, until one is put in.
        let large = 65537u128 * 65539 * ((1 << 61) - 1);
        assert!(!divides(large));
        for prime in primes {
            assert!(divides(u128::from(prime)), "{prime}");
            assert!(divides(u128::from(prime) * ((1 << 89) - 1)), "{prime}");
            assert!(!divides((1 << 107) - 1) && !divides((1 << 127) - 1));
        }
    }

    #[test]
    fn agrees_with_division() {
        let mut number = 0x0123_4567_89ab_cdef_u128;
        for _ in 0..500 {
            number = number.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(7);
            let odd = number | 1;
            let expected = (3..1 << 16).step_by(2).any(|p: u128| odd.is_multiple_of(p));
            assert_eq!(divides(odd), expected, "{odd:x}");
        }
        assert!(divides(0));
    }
}
