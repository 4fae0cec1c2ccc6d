//! What a request says inside, sealed by code of our own and opened by golix.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use golix::object::{Object, RequestBody, RequestFault, Unverified};
use golix::{Ghid, PrivateIdentity, Suite};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rsa::BoxedUint;
use rsa::rand_core::{Infallible, TryCryptoRng, TryRng};
use sha2::{Digest, Sha512};
use x25519_dalek::{PublicKey, StaticSecret};

use super::cast;

/// A letter from `data`: the first byte says how. It is sealed and authenticated rightly, so golix
/// gets to see it whatever it is; what golix reads must be what it says, and nothing else.
pub fn letter(data: &[u8]) {
    let Some((&recipe, rest)) = data.split_first() else { return };
    // RSA is slow: one in thirty-two.
    let suite = if recipe & 31 == 31 { Suite::Suite1 } else { Suite::Suite3 };
    let mut letter = rest[..rest.len().min(match suite {
        Suite::Suite1 => 382,
        Suite::Suite3 => 368,
    })]
        .to_vec();
    let cast = cast::cast(suite);
    if recipe & 32 != 0 && letter.len() >= 65 {
        letter[..65].copy_from_slice(cast.alice.ghid().as_bytes());
    }
    if recipe & 64 != 0 && letter.len() >= 69 {
        let len = (letter.len() - 69) as u16;
        letter[67..69].copy_from_slice(&len.to_be_bytes());
    }
    if suite == Suite::Suite3 {
        letter.resize(368, 0);
    }
    let named = letter.get(..65).and_then(|author| Ghid::from_bytes(author).ok());
    let author = named.as_ref().and_then(cast::person).filter(|author| author.suite() == suite);
    let request = match suite {
        Suite::Suite1 => seal1(author.unwrap_or(&cast.alice), &cast.bob, &letter),
        Suite::Suite3 => seal3(author.unwrap_or(&cast.alice), &cast.bob, &letter),
    };
    let verified = Unverified::parse(&request).expect("well-formed").verify(None).expect("outside");
    let Object::Request(request) = verified.object() else { panic!("a request") };
    let known = |ghid: &Ghid| cast::person(ghid).map(|person| person.identity().clone());
    let examined = request.examine(&cast.bob, known);
    let opened = request.open(&cast.bob).ok().and_then(|opened| {
        let author = cast::person(&opened.author())?;
        opened.authenticate(&cast.bob, author.identity()).ok()
    });
    assert_eq!(examined.as_ref().ok(), opened.as_ref(), "one verdict, however it is asked for");
    match examined {
        Ok(body) => {
            assert_eq!(rewrite(&author.expect("proven").ghid(), &body, letter.len()), letter);
        }
        Err(RequestFault::Decrypt | RequestFault::Recipient | RequestFault::Exchange) => {
            panic!("it was sealed to him")
        }
        Err(RequestFault::Mac) => assert!(author.is_none(), "it was authenticated"),
        Err(_) => {}
    }
}

/// The letter that says `body`; in suite 3 with zeros up to `padded_len`.
fn rewrite(author: &Ghid, body: &RequestBody, padded_len: usize) -> Vec<u8> {
    let (kind, payload) = match body {
        RequestBody::Handshake { target, secret } => {
            (*b"HS", [&target.as_bytes()[..], &[53], &secret.to_bytes()].concat())
        }
        RequestBody::Ack { request, status } => {
            (*b"AK", [&request.as_bytes()[..], &status.to_be_bytes()].concat())
        }
        RequestBody::Nak { request, status } => {
            (*b"NK", [&request.as_bytes()[..], &status.to_be_bytes()].concat())
        }
        RequestBody::Arbitrary(payload) => ([0, 0], payload.clone()),
    };
    let len = (payload.len() as u16).to_be_bytes();
    let mut letter = [&author.as_bytes()[..], &kind, &len, &payload].concat();
    if padded_len == 368 {
        letter.resize(368, 0);
    }
    letter
}

/// Magic, version, suite and recipient of a request.
fn header(recipient: &PrivateIdentity) -> Vec<u8> {
    let suite = recipient.suite().code();
    [b"GARQ\0\0\0\x0c", &[suite][..], recipient.ghid().as_bytes()].concat()
}

/// Appends the address, and returns it.
fn close(request: &mut Vec<u8>) -> [u8; 64] {
    request.push(1);
    let hash: [u8; 64] = Sha512::digest(&request).into();
    request.extend_from_slice(&hash);
    hash
}

fn salt(author: &PrivateIdentity, recipient: &PrivateIdentity) -> [u8; 64] {
    let (one, other) = (author.ghid().address(), recipient.ghid().address());
    std::array::from_fn(|at| one[at] ^ other[at])
}

fn hkdf<const L: usize>(ikm: &[u8], salt: &[u8], info: &[u8]) -> [u8; L] {
    let mut okm = [0; L];
    Hkdf::<Sha512>::new(Some(salt), ikm).expand(info, &mut okm).expect("short");
    okm
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 64] {
    let mut mac = <Hmac<Sha512> as hmac::KeyInit>::new_from_slice(key).expect("any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The last 32 bytes of a packed private identity of any suite are its exchange key.
fn exchange(me: &PrivateIdentity) -> StaticSecret {
    StaticSecret::from(*me.to_bytes().last_chunk::<32>().expect("some keys"))
}

/// GIDC bytes `at..at + len`.
fn key(of: &PrivateIdentity, at: usize, len: usize) -> Vec<u8> {
    of.identity().encode()[at..at + len].to_vec()
}

fn public(bytes: &[u8]) -> PublicKey {
    PublicKey::from(<[u8; 32]>::try_from(bytes).expect("32 bytes"))
}

/// Golix wire reference, section 10.1.
fn seal1(author: &PrivateIdentity, recipient: &PrivateIdentity, letter: &[u8]) -> Vec<u8> {
    let modulus = BoxedUint::from_be_slice(&key(recipient, 521, 512), 4096).expect("512 bytes");
    let modulus = rsa::PublicKey::new(modulus, BoxedUint::from(65537u64)).expect("a good key");
    let mut request = header(recipient);
    let sealed = modulus.oaep_encrypt_with_rng::<Sha512, _>(&mut Fives, letter).expect("it fits");
    request.extend_from_slice(&sealed);
    let hash = close(&mut request);
    let shared = exchange(author).diffie_hellman(&public(&key(recipient, 1033, 32)));
    let mac_key: [u8; 64] = hkdf(shared.as_bytes(), &salt(author, recipient), b"");
    request.extend_from_slice(&hmac(&mac_key, &hash));
    request
}

/// The README's table of suite 3.
fn seal3(author: &PrivateIdentity, recipient: &PrivateIdentity, letter: &[u8]) -> Vec<u8> {
    let ephemeral = StaticSecret::from([5; 32]);
    let e = PublicKey::from(&ephemeral);
    let encryption = public(&key(recipient, 41, 32));
    let s1 = ephemeral.diffie_hellman(&encryption);
    let s2 = exchange(author).diffie_hellman(&public(&key(recipient, 73, 32)));
    let (from, to) = (author.ghid(), recipient.ghid());
    let info = [b"golix-3 garq box\0", &to.as_bytes()[..], e.as_bytes(), encryption.as_bytes()];
    let okm: [u8; 76] = hkdf(s1.as_bytes(), &[0; 64], &info.concat());
    let commitment = &okm[44..];
    let info = [b"golix-3 garq mac\0", &from.as_bytes()[..], to.as_bytes(), e.as_bytes()];
    let ikm = [s2.to_bytes(), s1.to_bytes()].concat();
    let mac_key: [u8; 64] = hkdf(&ikm, &salt(author, recipient), &info.concat());
    let mac_input =
        [b"golix-3 garq mac\0", &to.as_bytes()[..], e.as_bytes(), commitment, letter].concat();
    let mut inner = [letter, &hmac(&mac_key, &mac_input)].concat();

    let mut request = header(recipient);
    request.extend_from_slice(e.as_bytes());
    request.extend_from_slice(commitment);
    let (key, nonce): ([u8; 32], [u8; 12]) =
        (okm[..32].try_into().expect("32"), okm[32..44].try_into().expect("12"));
    let tag = Aes256Gcm::new(&key.into())
        .encrypt_inout_detached(&nonce.into(), &request, inner.as_mut_slice().into())
        .expect("short");
    request.extend_from_slice(&inner);
    request.extend_from_slice(&tag);
    let hash = close(&mut request);
    let outer = [b"golix-3 garq outer\0\x01", &hash[..]].concat();
    request.extend_from_slice(&Sha512::digest(&outer));
    request
}

/// No chance at all: a seed of fives.
struct Fives;

impl TryRng for Fives {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(5)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(5)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(5);
        Ok(())
    }
}

impl TryCryptoRng for Fives {}
