//! First inputs: something valid of everything.

use golix::object::Kind;
use golix::persister::{Head, HighWater, Mark, Owner, Pending};
use golix::{ChainKey, Ghid, Suite};

use super::cast;

/// Inputs, each with the target it is for.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    let a = Ghid::of(b"a");
    let b = Ghid::of(b"b");
    seeds.push(("ghid_bytes", a.as_bytes().to_vec()));
    seeds.push(("ghid_text", a.to_string().into_bytes()));
    seeds.push(("ghid_text", [&[3, b'-'][..], &a.address()].concat()));
    for suite in Suite::ALL {
        let cast = cast::cast(suite);
        let gidc = cast.alice.identity().encode();
        let objects = cast::objects(suite);
        let packed = objects.iter().map(|object| (object.kind(), object.bytes().to_vec()));
        for (kind, bytes) in packed.chain([(Kind::Identity, gidc)]) {
            let name = match kind {
                Kind::Identity => "identity",
                Kind::Container => "container",
                Kind::StaticBinding => "static_binding",
                Kind::DynamicBinding => "dynamic_binding",
                Kind::Debinding => "debinding",
                Kind::Request => "request",
            };
            // As it is, and with everything mended.
            for recipe in [0, 0xfe | u8::from(suite == Suite::Suite3)] {
                seeds.push((name, [&[recipe][..], &bytes].concat()));
                let at = Kind::ALL.iter().position(|one| *one == kind).expect("one of all");
                seeds.push(("verify", [&[at as u8, recipe][..], &bytes].concat()));
            }
        }
        seeds.push(("secret", cast::secret(suite).to_bytes().to_vec()));
        seeds.push(("private_identity", cast.alice.to_bytes().to_vec()));
        let from = cast.alice.ghid();
        let secret = cast::secret(suite).to_bytes();
        let handshake = [b"HS\0\x77", &a.as_bytes()[..], &[53], &secret].concat();
        let ack = [b"AK\0\x45", &a.as_bytes()[..], &[0, 0, 0, 1]].concat();
        let nak = [b"NK\0\x45", &a.as_bytes()[..], &[0, 0, 0, 0]].concat();
        for rest in [handshake, ack, nak, b"\0\0\0\x05hello".to_vec()] {
            let recipe = if suite == Suite::Suite1 { 31 } else { 0 };
            seeds.push(("letter", [&[recipe][..], from.as_bytes(), &rest].concat()));
        }
        let head = Head {
            suite,
            frame: a,
            counter: 7,
            binder: from,
            target: b,
            birth: b,
            proven: true,
            debound: false,
            forks: vec![b],
        };
        seeds.push(("rows", [&[0][..], &head.encode()].concat()));
    }
    let key = ChainKey::new(1, 2, [3; 32]);
    seeds.push(("secret", key.to_handshake().to_bytes().to_vec()));
    let newest = HighWater { counter: 9, frame: a };
    for owner in [Owner::Proven, Owner::Birth(b), Owner::Unproven(b)] {
        seeds.push(("rows", [&[1][..], &Mark { newest, owner }.encode()].concat()));
    }
    for row in [
        Pending::Collect { address: a },
        Pending::Announce { target: a, after: b },
        Pending::Unproven { debinder: a, debinding: b },
    ] {
        let key = row.key();
        seeds.push(("rows", [&[2, key.len() as u8][..], &key, &row.value()].concat()));
    }
    for object in cast::objects(Suite::Suite3) {
        seeds.push(("rows", [&[3][..], object.bytes()].concat()));
    }
    for which in 0..3 {
        seeds.push(("rules", [&[which][..], &(0..=251).collect::<Vec<u8>>()].concat()));
        seeds.push(("rules", [&[which][..], &(0..=251).rev().collect::<Vec<u8>>()].concat()));
        let binding_first: Vec<u8> = (7..28).chain(3..7).chain(28..251).collect();
        seeds.push(("rules", [&[which][..], &binding_first].concat()));
    }
    seeds
}
