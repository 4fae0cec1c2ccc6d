//! Trial division of a modulus by every prime below 2^16: what no RSA key has, and what gives away
//! that a modulus was made up or damaged. Threat model, 4.1.

use std::sync::LazyLock;

/// Primes below this are tried.
const BOUND: u32 = 1 << 16;

/// The odd primes below [`BOUND`], in products that fit into 64 bits, each with its primes.
static BATCHES: LazyLock<Vec<(u64, Vec<u64>)>> = LazyLock::new(|| {
    let mut composite = vec![false; BOUND as usize];
    let mut batches = vec![(1u64, Vec::new())];
    for p in (3..BOUND as usize).step_by(2) {
        if composite[p] {
            continue;
        }
        (p * p..BOUND as usize).step_by(2 * p).for_each(|multiple| composite[multiple] = true);
        let (product, primes) = batches.last_mut().expect("there is one from the start");
        if let Some(larger) = product.checked_mul(p as u64) {
            *product = larger;
            primes.push(p as u64);
        } else {
            batches.push((p as u64, vec![p as u64]));
        }
    }
    batches
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
    BATCHES.iter().any(|(product, primes)| {
        let inverse = inverse(*product);
        // Invariant: reduced * 2^(64 i) is the number's low i limbs, modulo the product.
        let reduced = limbs.iter().fold(0u64, |reduced, limb| {
            // limb + reduced = high * 2^64 + low; (low - q * product) is 0 modulo 2^64.
            let (low, carry) = limb.overflowing_add(reduced);
            let quotient = low.wrapping_mul(inverse);
            let product_high = (u128::from(quotient) * u128::from(*product)) >> 64;
            // carry - product_high, which lies above -product; one product brings it back.
            match u64::from(carry).checked_sub(product_high as u64) {
                Some(difference) => difference,
                None => u64::from(carry).wrapping_sub(product_high as u64).wrapping_add(*product),
            }
        });
        primes.iter().any(|prime| reduced.is_multiple_of(*prime))
    })
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
        let primes: Vec<u64> = BATCHES.iter().flat_map(|(_, primes)| primes.clone()).collect();
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
