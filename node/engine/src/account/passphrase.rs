//! From a password to a key: scrypt, with parameters bounded before anything is allocated.

use golix::Ghid;
use scrypt::Params;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::keyring::derive;

/// Fewest characters of a new password. A guess in keeping with NIST SP 800-63B; the command
/// line warns below twelve.
pub const PASSWORD_LEN_MIN: usize = 8;

/// Work factor of scrypt with r = 8, p = 1; memory is 2^(log_n + 10) bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScryptCost {
    /// Binary logarithm of N, 15 to 20.
    pub log_n: u8,
}

impl ScryptCost {
    /// 2^17: 128 MiB and about 0.4 s, OWASP's minimum for scrypt (threats.md 4.6).
    pub const DEFAULT: Self = Self { log_n: 17 };
    /// 2^15: the least that a login accepts; the first Hypergolix used it.
    pub const LOWEST: Self = Self { log_n: 15 };
    const HIGHEST_LOG_N: u8 = 20;

    pub(crate) fn is_reasonable(self) -> bool {
        (Self::LOWEST.log_n..=Self::HIGHEST_LOG_N).contains(&self.log_n)
    }
}

impl Default for ScryptCost {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// `HKDF(scrypt(NFKC(password), salt), "hypergolix password slot" 00 | user id | header)`.
pub(crate) fn slot_key(
    password: &str,
    salt: &[u8; 32],
    cost: ScryptCost,
    user_id: &Ghid,
    header: &[u8],
) -> Zeroizing<[u8; 32]> {
    let normal: Zeroizing<String> = Zeroizing::new(password.nfkc().collect());
    let params = Params::new(cost.log_n, 8, 1).expect("the cost was checked");
    let mut hard = Zeroizing::new([0; 32]);
    scrypt::scrypt(normal.as_bytes(), salt, &params, hard.as_mut_slice())
        .expect("32 bytes is a valid length");
    Zeroizing::new(derive(&hard, b"hypergolix password slot\0", &[user_id.as_bytes(), header]))
}
