//! What both benches need.

use data_encoding::{BASE64, HEXLOWER};
use golix::{PrivateIdentity, Suite};

/// Somebody of each suite.
pub fn alice(suite: Suite) -> PrivateIdentity {
    match suite {
        Suite::Suite1 => {
            let (signature, encryption, exchange) = saved_keys();
            PrivateIdentity::from_suite1_keys(&signature, &encryption, exchange).expect("good keys")
        }
        Suite::Suite3 => PrivateIdentity::from_seeds(suite, [1; 32], [2; 32], [3; 32]),
    }
}

/// The keys of an identity in the vectors, since RSA keys take long to make.
pub fn saved_keys() -> (Vec<u8>, Vec<u8>, [u8; 32]) {
    let vectors = include_str!("../../tests/vectors/golix-negative.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).expect("JSON");
    let alice = &vectors["identities"]["alice"];
    let text = |key: &str, field: &str| alice[key][field].as_str().expect("a text").as_bytes();
    let rsa = |key| BASE64.decode(text(key, "pkcs8_der_b64")).expect("base64");
    let exchange = HEXLOWER.decode(text("exchange", "private")).expect("hex");
    (rsa("signature"), rsa("encryption"), exchange.try_into().expect("32 bytes"))
}
