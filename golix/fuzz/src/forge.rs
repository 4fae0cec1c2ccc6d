//! Mends an object's fields, as a forger would, so that the reader gets further.

use golix::object::{DynamicBinding, Kind};
use golix::{Ghid, Signer, Suite};
use sha2::{Digest, Sha512};

use super::cast;

/// The bits of a recipe.
const SUITE_3: u8 = 1;
const HEAD: u8 = 2;
const AUTHOR: u8 = 4;
const LENGTHS: u8 = 8;
const ALGORITHMS: u8 = 16;
const DYNAMIC: u8 = 32;
const HASH: u8 = 64;
const END: u8 = 128;

/// The first byte of `data` says what to mend in the object of the others. RSA signatures cost too
/// much to be made here; in suite 1 the end of an object stays as it is.
pub fn cook(kind: Kind, data: &[u8]) -> Vec<u8> {
    let Some((&recipe, rest)) = data.split_first() else { return Vec::new() };
    let mut object = rest.to_vec();
    let suite = if recipe & SUITE_3 == 0 { Suite::Suite1 } else { Suite::Suite3 };
    let does = |bit: u8| recipe & bit != 0;
    if does(HEAD) {
        let head = [&kind.magic()[..], &kind.version().to_be_bytes(), &[suite.code()]].concat();
        put(&mut object, 0, &head);
    }
    if does(AUTHOR) && kind != Kind::Identity {
        let cast = cast::cast(suite);
        let who = if kind == Kind::Request { &cast.bob } else { &cast.alice };
        put(&mut object, 9, who.ghid().as_bytes());
    }
    let end_len = end_len(kind, suite);
    let Some(own_at) = object.len().checked_sub(Ghid::LEN + end_len) else { return object };
    if does(LENGTHS) && kind == Kind::Container {
        let len = own_at.saturating_sub(82) as u64;
        put(&mut object, 74, &len.to_be_bytes());
    }
    if does(LENGTHS) && kind == Kind::DynamicBinding {
        let len = own_at.saturating_sub(84 + Ghid::LEN) as u16;
        put(&mut object, 82, &len.to_be_bytes());
    }
    if does(ALGORITHMS) {
        for at in addresses(kind, own_at) {
            put(&mut object, at, &[1]);
        }
    }
    if does(DYNAMIC) && kind == Kind::DynamicBinding && own_at >= 84 + 2 * Ghid::LEN {
        let dynamic_at = own_at - Ghid::LEN;
        let binder = Ghid::from_bytes(&object[9..74]);
        let birth = Ghid::from_bytes(&object[dynamic_at - Ghid::LEN..dynamic_at]);
        if let (Ok(binder), Ok(birth)) = (binder, birth) {
            let dynamic = DynamicBinding::dynamic_address(suite, &binder, &birth);
            put(&mut object, dynamic_at, dynamic.as_bytes());
        }
    }
    if does(HASH) {
        let hash = Sha512::digest(&object[..=own_at]);
        put(&mut object, own_at + 1, &hash);
    }
    if does(END) && suite == Suite::Suite3 {
        end(kind, own_at, &mut object);
    }
    object
}

/// Signature by alice, or what follows a request.
fn end(kind: Kind, own_at: usize, object: &mut [u8]) {
    let own = &object[own_at..own_at + Ghid::LEN];
    let end = match (kind, Ghid::from_bytes(own)) {
        (Kind::Identity, _) | (_, Err(_)) => return,
        (Kind::Request, Ok(own)) => {
            Sha512::digest([b"golix-3 garq outer\0", &own.as_bytes()[..]].concat()).to_vec()
        }
        (_, Ok(own)) => {
            let mut signature = Vec::new();
            cast::cast(Suite::Suite3).alice.sign_object(&own, &mut signature);
            signature
        }
    };
    put(object, own_at + Ghid::LEN, &end);
}

/// Bytes after an object's own address.
pub fn end_len(kind: Kind, suite: Suite) -> usize {
    match kind {
        Kind::Identity => 0,
        Kind::Request => 64,
        Kind::Container | Kind::StaticBinding | Kind::DynamicBinding | Kind::Debinding => {
            suite.signature_len()
        }
    }
}

/// Where addresses begin, the object's own last.
fn addresses(kind: Kind, own_at: usize) -> Vec<usize> {
    let mut at = match kind {
        Kind::Identity => Vec::new(),
        Kind::Container | Kind::Request => vec![9],
        Kind::StaticBinding | Kind::Debinding => vec![9, 74],
        Kind::DynamicBinding => {
            [9].into_iter().chain((84..own_at).step_by(Ghid::LEN)).take(2000).collect()
        }
    };
    at.push(own_at);
    at
}

/// As much of `field` as there is room for.
fn put(object: &mut [u8], at: usize, field: &[u8]) {
    let end = object.len().min(at + field.len());
    if let Some(place) = object.get_mut(at..end) {
        place.copy_from_slice(&field[..place.len()]);
    }
}
