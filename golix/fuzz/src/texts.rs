//! Addresses, secrets and private identities.

use golix::{ChainKey, Ghid, PrivateIdentity, Secret, Suite};

/// An address of 65 bytes.
pub fn ghid_bytes(data: &[u8]) {
    let good = data.len() == 65 && data[0] == 1;
    match Ghid::from_bytes(data) {
        Ok(ghid) => {
            assert!(good);
            assert_eq!(ghid.as_bytes(), data);
            assert_eq!(Ghid::from_address(ghid.address()), ghid);
            assert_eq!(ghid.to_string().parse(), Ok(ghid));
            assert_eq!(ghid.short(), format!("Ghid('{}...')", &ghid.to_string()[1..6]));
        }
        Err(_) => assert!(!good),
    }
}

/// An address of 88 characters. The last byte of an input may ask for a text that is an address but
/// for one character.
pub fn ghid_text(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
    }
    if let [at, byte, rest @ ..] = data
        && let Some(address) = rest.first_chunk()
    {
        let mut text = Ghid::from_address(*address).to_string().into_bytes();
        let at = usize::from(*at) % text.len();
        text[at] = *byte;
        if let Ok(text) = std::str::from_utf8(&text) {
            check(text);
        }
    }
}

fn check(text: &str) {
    if let Ok(ghid) = text.parse::<Ghid>() {
        assert_eq!(text.len(), Ghid::TEXT_LEN);
        assert_eq!(ghid.to_string(), text, "one address, one spelling");
    }
}

/// SH, and a chain key that travels in one.
pub fn secret(data: &[u8]) {
    let head_is_good =
        data.len() == 53 && &data[..4] == b"SH\0\x02" && Suite::from_code(data[4]).is_some();
    let Ok(secret) = Secret::from_bytes(data) else {
        assert!(!head_is_good);
        return;
    };
    assert!(head_is_good);
    assert_eq!(secret.to_bytes(), data);
    assert_eq!((&secret.key()[..], &secret.seed()[..]), (&data[5..37], &data[37..]));
    let twin = Secret::new(secret.suite(), *secret.key(), *secret.seed());
    assert_eq!(twin, secret);
    if let Some(key) = ChainKey::from_handshake(&secret) {
        let back = key.to_handshake();
        assert_eq!((back.key(), back.seed()), (secret.key(), secret.seed()));
        let dynamic = Ghid::of(b"dynamic");
        let next = key.index().checked_add(1).and_then(|next| key.advance_to(&dynamic, next));
        assert_eq!(next.is_some(), key.index() != u64::MAX);
    }
}

/// A packed private identity.
pub fn private_identity(data: &[u8]) {
    let Ok(me) = PrivateIdentity::from_bytes(data) else { return };
    let bytes = me.to_bytes();
    match me.suite() {
        Suite::Suite3 => assert_eq!(&bytes[..], data),
        // PKCS#8 may be spelled in more ways than ours.
        Suite::Suite1 => {}
    }
    let back = PrivateIdentity::from_bytes(&bytes).expect("what is written can be read");
    assert_eq!(back.identity(), me.identity());
    assert_eq!(back.to_bytes(), bytes);
    let signature = back.sign_statement("fuzz", b"");
    assert!(me.identity().verify_statement("fuzz", b"", &signature));
}
