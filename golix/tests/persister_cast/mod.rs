//! Who and what the persister tests play with: three identities and short ways to make objects.

#![allow(dead_code, reason = "every test file uses another part of it")]

use std::sync::LazyLock;

use golix::object::{
    Container, Debinding, DynamicBinding, Object, Request, RequestBody, StaticBinding, Unverified,
    Verified,
};
use golix::{Ghid, PrivateIdentity, Secret, Suite};

/// An identity of fixed seeds.
fn person(seed: u8) -> PrivateIdentity {
    let seeds = [seed, seed.wrapping_add(100), seed.wrapping_add(200)];
    let [sign, encrypt, exchange] = seeds.map(|seed| [seed; 32]);
    PrivateIdentity::from_seeds(Suite::Suite3, sign, encrypt, exchange)
}

pub static ALICE: LazyLock<PrivateIdentity> = LazyLock::new(|| person(1));
pub static BOB: LazyLock<PrivateIdentity> = LazyLock::new(|| person(2));
pub static MALLORY: LazyLock<PrivateIdentity> = LazyLock::new(|| person(3));

/// The public identity, as an object to publish.
pub fn identity(of: &PrivateIdentity) -> Verified {
    let bytes = of.identity().encode();
    Unverified::parse(&bytes).expect("we packed it").verify(None).expect("an identity")
}

/// A container whose content, secret and salt follow from `name`.
pub fn container(author: &PrivateIdentity, name: &str) -> Verified {
    let digest = Ghid::of(name.as_bytes()).address();
    let (salt, key) = (digest.first_chunk::<32>().copied(), digest.last_chunk::<32>().copied());
    let secret = Secret::new(Suite::Suite3, key.expect("64 bytes"), [7; 16]);
    Container::seal(author, &secret, salt.expect("64 bytes"), name.as_bytes())
}

pub fn bind(binder: &PrivateIdentity, target: Ghid) -> Verified {
    StaticBinding::make(binder, target)
}

pub fn debind(debinder: &PrivateIdentity, target: Ghid) -> Verified {
    Debinding::make(debinder, target)
}

/// The first frame of the binding that `birth` proves.
pub fn first_frame(binder: &PrivateIdentity, birth: Ghid) -> Verified {
    DynamicBinding::first(binder, birth)
}

pub fn dynamic(binder: &PrivateIdentity, birth: Ghid) -> Ghid {
    DynamicBinding::dynamic_address(Suite::Suite3, &binder.ghid(), &birth)
}

/// A later frame: `targets` newest first, the birth target is added.
pub fn frame(binder: &PrivateIdentity, birth: Ghid, counter: u64, targets: &[Ghid]) -> Verified {
    let mut vector = targets.to_vec();
    vector.push(birth);
    DynamicBinding::next(binder, dynamic(binder, birth), counter, &vector).expect("a good frame")
}

/// A request with `name` in it.
pub fn request(author: &PrivateIdentity, recipient: &PrivateIdentity, name: &str) -> Verified {
    let body = RequestBody::Arbitrary(name.as_bytes().to_vec());
    let digest = Ghid::of(name.as_bytes()).address();
    Request::seal(author, recipient.identity(), &body, digest).expect("a small body")
}

/// The address that others use: the dynamic one of a frame, else the object's own.
pub fn address(object: &Verified) -> Ghid {
    match object.object() {
        Object::DynamicBinding(frame) => frame.dynamic(),
        Object::Identity(_)
        | Object::Container(_)
        | Object::StaticBinding(_)
        | Object::Debinding(_)
        | Object::Request(_) => object.ghid(),
    }
}
