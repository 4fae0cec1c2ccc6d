//! No changed object is accepted: every single-bit flip of every kind, and many larger edits.
//!
//! `GOLIX_MUTANTS=1000000 cargo test --release -p golix --test mutants` makes a million of the latter.

mod forge;

use golix::object::{
    Container, Debinding, DynamicBinding, Kind, Object, Request, RequestBody, RequestError,
    StaticBinding, Unverified,
};
use golix::{Ghid, PrivateIdentity, Secret, Suite};

struct World {
    alice: PrivateIdentity,
    bob: PrivateIdentity,
    secret: Secret,
    /// One of each kind, and a frame with history.
    objects: Vec<Vec<u8>>,
}

fn world() -> World {
    let alice = PrivateIdentity::from_seeds(Suite::Suite3, [1; 32], [2; 32], [3; 32]);
    let bob = PrivateIdentity::from_seeds(Suite::Suite3, [4; 32], [5; 32], [6; 32]);
    let secret = Secret::new(Suite::Suite3, [7; 32], [8; 16]);
    let container = Container::seal(&alice, &secret, [9; 32], b"attack at dawn");
    let birth = Ghid::of(b"birth");
    let dynamic = DynamicBinding::dynamic_address(Suite::Suite3, &alice.ghid(), &birth);
    let body = RequestBody::Handshake { target: dynamic, secret: secret.clone() };
    let targets = [container.ghid(), Ghid::of(b"previous"), birth];
    let objects = vec![
        alice.identity().encode(),
        container.bytes().to_vec(),
        StaticBinding::make(&alice, container.ghid()).bytes().to_vec(),
        DynamicBinding::first(&alice, birth).bytes().to_vec(),
        DynamicBinding::next(&alice, dynamic, 7, &targets).unwrap().bytes().to_vec(),
        Debinding::make(&alice, container.ghid()).bytes().to_vec(),
        Request::seal(&alice, bob.identity(), &body, [10; 64]).unwrap().bytes().to_vec(),
    ];
    World { alice, bob, secret, objects }
}

impl World {
    /// Whether anybody who knows alice takes these bytes for hers.
    fn accepts(&self, bytes: &[u8]) -> bool {
        let Ok(parsed) = Unverified::parse(bytes) else { return false };
        let author = parsed.author().map(|_| self.alice.identity());
        parsed.verify(author).is_ok()
    }

    /// Whether bob takes these bytes for a request by alice.
    fn receives(&self, bytes: &[u8]) -> bool {
        let Ok(verified) = Unverified::parse(bytes).map(Unverified::assume_verified) else {
            return false;
        };
        let Object::Request(request) = verified.object() else { return false };
        let read = request.open(&self.bob).and_then(|opened| {
            if opened.author() != self.alice.ghid() {
                return Err(RequestError);
            }
            opened.authenticate(&self.bob, self.alice.identity())
        });
        read.is_ok()
    }
}

#[test]
fn unchanged_objects_are_accepted() {
    let world = world();
    for object in &world.objects {
        assert!(world.accepts(object));
    }
    assert!(world.receives(&world.objects[6]));
}

#[test]
fn every_flipped_bit_is_refused() {
    let world = world();
    for object in &world.objects {
        let mut mutant = object.clone();
        for bit in 0..object.len() * 8 {
            mutant[bit / 8] ^= 1 << (bit % 8);
            assert!(!world.accepts(&mutant), "bit {bit} of {:?}", &object[..4]);
            mutant[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// A forger mends the address too, which needs no key: then the signature must refuse it.
#[test]
fn every_flipped_bit_is_refused_under_a_mended_address() {
    let world = world();
    for object in &world.objects {
        let kind = Unverified::parse(object).unwrap().kind();
        if kind == Kind::Identity || kind == Kind::Request {
            continue;
        }
        for bit in 0..(object.len() - forge::TAIL_LEN) * 8 {
            let mut mutant = object.clone();
            mutant[bit / 8] ^= 1 << (bit % 8);
            forge::rehash(&mut mutant, forge::TAIL_LEN);
            assert!(!world.accepts(&mutant), "bit {bit} of {kind:?}");
        }
    }
}

/// The outer part of a request can be mended by anyone; then its recipient must refuse it.
#[test]
fn every_flipped_bit_of_a_mended_request_is_refused_by_its_recipient() {
    let world = world();
    for bit in 0..586 * 8 {
        let mut mutant = world.objects[6].clone();
        mutant[bit / 8] ^= 1 << (bit % 8);
        forge::rehash(&mut mutant, forge::TAIL_LEN);
        forge::outer(&mut mutant);
        assert!(!world.receives(&mutant), "bit {bit}");
    }
}

/// The author himself cannot make one address open to two contents: the commitment tells.
#[test]
fn every_flipped_bit_of_a_resigned_payload_does_not_open() {
    let world = world();
    let end = world.objects[1].len() - forge::TAIL_LEN;
    for bit in 82 * 8..end * 8 {
        let mut mutant = world.objects[1].clone();
        mutant[bit / 8] ^= 1 << (bit % 8);
        forge::rehash(&mut mutant, forge::TAIL_LEN);
        forge::resign(&mut mutant, &[1; 32]);
        let verified =
            Unverified::parse(&mutant).unwrap().verify(Some(world.alice.identity())).unwrap();
        let Object::Container(container) = verified.object() else { panic!("a container") };
        assert!(container.open(&world.secret).is_err(), "bit {bit}");
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): repeatable edits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
fn edits_and_splices_are_refused() {
    let world = world();
    let count = std::env::var("GOLIX_MUTANTS").map_or(20_000, |count| count.parse().unwrap());
    let mut random = Random(1);
    let mut tried = 0;
    while tried < count {
        let mut mutant = world.objects[random.below(world.objects.len())].clone();
        for _ in 0..=random.below(3) {
            edit(&world, &mut random, &mut mutant);
        }
        let hashed = random.next().is_multiple_of(2) && mutant.len() > forge::TAIL_LEN + 82;
        if hashed && !mutant.starts_with(b"GIDC") && !mutant.starts_with(b"GARQ") {
            forge::rehash(&mut mutant, forge::TAIL_LEN);
        }
        if world.objects.contains(&mutant) {
            continue;
        }
        assert!(!world.accepts(&mutant), "mutant {tried}: {mutant:02x?}");
        tried += 1;
    }
}

fn edit(world: &World, random: &mut Random, mutant: &mut Vec<u8>) {
    let at = random.below(mutant.len());
    let len = random.below(mutant.len() - at);
    match random.below(9) {
        0 => mutant.truncate(at),
        1 => mutant.extend((0..len).map(|_| random.next() as u8)),
        2 => drop(mutant.drain(at..at + len)),
        3 => mutant.insert(at, random.next() as u8),
        4 => mutant[at..at + len].reverse(),
        // Head bytes, where kind, version, suite and lengths stand.
        5 => {
            let at = random.below(mutant.len().min(90));
            mutant[at] = random.next() as u8;
        }
        6 => mutant[at] = [0, 1, 2, 3, 65, 255][random.below(6)],
        // A piece of another object, at its own place or at ours.
        7 => {
            let donor = &world.objects[random.below(world.objects.len())];
            let end = (at + len).min(donor.len());
            if at < end {
                mutant[at..end].copy_from_slice(&donor[at..end]);
            }
        }
        _ => {
            let donor = &world.objects[random.below(world.objects.len())];
            let tail = random.below(donor.len());
            mutant.truncate(at);
            mutant.extend_from_slice(&donor[tail..]);
        }
    }
    if mutant.is_empty() {
        mutant.push(0);
    }
}
