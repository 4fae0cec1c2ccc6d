//! A million changed objects of both suites, and none of them is taken for its author's.
//!
//! The systematic ones by default, some 200,000; the million in CI:
//! `GOLIX_MUTATIONS=1000000 cargo test -p golix --test mutations -- --nocapture`
//!
//! Every bit of an object of each kind and suite is flipped, as it is and under an address mended as a
//! forger would (who needs no key for that); every length is cut, every byte of head, lengths and
//! algorithms is given every value; and the rest are random edits and splices of several objects.
//! Whoever an object names is asked whether it is his, and a request is opened by its recipient. What
//! comes out byte for byte as one of the originals is no mutation, and not counted.
//!
//! The table says which rule refused how many: most fall by their hash, cheaply, and those with a
//! mended one by their signature, or by what the recipient finds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use data_encoding::{BASE64, HEXLOWER};
use golix::object::{
    Container, Debinding, DynamicBinding, Kind, Object, Request, RequestBody, StaticBinding,
    Unverified,
};
use golix::{Ghid, Identity, PrivateIdentity, Secret, Suite};
use sha2::{Digest, Sha512};

/// What is made at least; the systematic ones are more.
const DEFAULT: usize = 100_000;

struct Original {
    suite: Suite,
    kind: Kind,
    bytes: Vec<u8>,
}

impl Original {
    /// Bytes after the address.
    fn end_len(&self) -> usize {
        match self.kind {
            Kind::Identity => 0,
            Kind::Request => 64,
            Kind::Container | Kind::StaticBinding | Kind::DynamicBinding | Kind::Debinding => {
                self.suite.signature_len()
            }
        }
    }

    /// Makes the address right, and of a suite-3 request what follows from it.
    fn mend(&self, mutant: &mut [u8]) {
        let Some(own_at) = mutant.len().checked_sub(Ghid::LEN + self.end_len()) else { return };
        let hash = Sha512::digest(&mutant[..=own_at]);
        mutant[own_at + 1..own_at + Ghid::LEN].copy_from_slice(&hash);
        if self.kind == Kind::Request && self.suite == Suite::Suite3 {
            let own = &mutant[own_at..own_at + Ghid::LEN];
            let outer = Sha512::digest([b"golix-3 garq outer\0", own].concat());
            mutant[own_at + Ghid::LEN..].copy_from_slice(&outer);
        }
    }
}

struct World {
    people: Vec<PrivateIdentity>,
    originals: Vec<Original>,
    genuine: BTreeSet<Vec<u8>>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut people = suite1_people();
    people.truncate(2);
    for seed in [1, 2] {
        let [a, b, c] = [seed, seed + 100, seed + 200].map(|seed| [seed; 32]);
        people.push(PrivateIdentity::from_seeds(Suite::Suite3, a, b, c));
    }
    let mut originals = Vec::new();
    for (alice, bob) in [(&people[0], &people[1]), (&people[2], &people[3])] {
        let suite = alice.suite();
        let secret = Secret::new(suite, [7; 32], [8; 16]);
        let container = Container::seal(alice, &secret, [9; 32], b"attack at dawn");
        let birth = Ghid::of(b"birth");
        let dynamic = DynamicBinding::dynamic_address(suite, &alice.ghid(), &birth);
        let targets = [container.ghid(), Ghid::of(b"previous"), birth];
        let body = RequestBody::Handshake { target: container.ghid(), secret };
        let objects = [
            StaticBinding::make(alice, container.ghid()),
            DynamicBinding::first(alice, birth),
            DynamicBinding::next(alice, dynamic, 7, &targets).unwrap(),
            Debinding::make(alice, container.ghid()),
            Request::seal(alice, bob.identity(), &body, [10; 64]).unwrap(),
            container,
        ];
        let gidc = alice.identity().encode();
        originals.push(Original { suite, kind: Kind::Identity, bytes: gidc });
        originals.extend(objects.iter().map(|object| {
            let bytes = object.bytes().to_vec();
            Original { suite, kind: object.kind(), bytes }
        }));
    }
    let genuine = originals.iter().map(|original| original.bytes.clone()).collect();
    World { people, originals, genuine }
});

/// RSA keys take long to make; a file of vectors has some.
#[expect(clippy::disallowed_methods, reason = "vectors are files")]
fn suite1_people() -> Vec<PrivateIdentity> {
    let file = "tests/vectors/golix-negative.json";
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let person = |it: &serde_json::Value| {
        let text = |key: &str, field: &str| it[key][field].as_str().expect("a text").as_bytes();
        let rsa = |key| BASE64.decode(text(key, "pkcs8_der_b64")).unwrap();
        let exchange = HEXLOWER.decode(text("exchange", "private")).unwrap().try_into().unwrap();
        PrivateIdentity::from_suite1_keys(&rsa("signature"), &rsa("encryption"), exchange).unwrap()
    };
    vectors["identities"].as_object().expect("identities by name").values().map(person).collect()
}

impl World {
    fn identity(&self, ghid: &Ghid) -> Option<Identity> {
        self.people.iter().map(PrivateIdentity::identity).find(|it| it.ghid() == *ghid).cloned()
    }

    /// The rule that refuses it; `None` if somebody takes it for what it says.
    fn refusal(&self, bytes: &[u8]) -> Option<&'static str> {
        let parsed = match Unverified::parse(bytes) {
            Ok(parsed) => parsed,
            Err(error) => return Some(error.rule()),
        };
        let author = match parsed.author() {
            Some(author) => match self.identity(&author) {
                Some(identity) => Some(identity),
                None => return Some("AUTHOR_UNKNOWN"),
            },
            None => None,
        };
        let verified = match parsed.verify(author.as_ref()) {
            Ok(verified) => verified,
            Err(error) => return Some(error.rule()),
        };
        match verified.object() {
            // Keys under another address are another identity, and nobody we know.
            Object::Identity(identity) => {
                self.identity(&identity.ghid()).is_none().then_some("(another identity)")
            }
            Object::Request(request) => {
                let to = request.recipient();
                let Some(me) = self.people.iter().find(|person| person.ghid() == to) else {
                    return Some("RECIPIENT_UNKNOWN");
                };
                request
                    .examine(me, |ghid| self.identity(ghid))
                    .err()
                    .map(golix::object::RequestFault::rule)
            }
            Object::Container(_)
            | Object::StaticBinding(_)
            | Object::DynamicBinding(_)
            | Object::Debinding(_) => None,
        }
    }
}

/// One changed object.
#[derive(Clone, Copy)]
enum Mutation {
    /// This bit, the address mended or not.
    Flip { of: usize, bit: usize, mended: bool },
    /// Cut after so many bytes.
    Cut { of: usize, len: usize, mended: bool },
    /// So many bytes more.
    Longer { of: usize, by: usize, mended: bool },
    /// This byte gets this value.
    Byte { of: usize, at: usize, value: u8, mended: bool },
    /// Whatever follows from this number.
    Random(u64),
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

impl Mutation {
    /// The changed bytes, and which object they were.
    fn apply(self) -> (&'static Original, Vec<u8>) {
        let originals = &WORLD.originals;
        let (of, mended, mut mutant);
        match self {
            Self::Flip { of: which, bit, mended: mend } => {
                (of, mended) = (&originals[which], mend);
                mutant = of.bytes.clone();
                mutant[bit / 8] ^= 1 << (bit % 8);
            }
            Self::Cut { of: which, len, mended: mend } => {
                (of, mended) = (&originals[which], mend);
                mutant = of.bytes[..len].to_vec();
            }
            Self::Longer { of: which, by, mended: mend } => {
                (of, mended) = (&originals[which], mend);
                mutant = of.bytes.clone();
                mutant.resize(of.bytes.len() + by, 0);
            }
            Self::Byte { of: which, at, value, mended: mend } => {
                (of, mended) = (&originals[which], mend);
                mutant = of.bytes.clone();
                mutant[at] = value;
            }
            Self::Random(seed) => {
                let mut random = Random(seed);
                of = &originals[random.below(originals.len())];
                mutant = of.bytes.clone();
                for _ in 0..=random.below(3) {
                    edit(&mut random, &mut mutant);
                }
                // To open a request of suite 1 takes ten milliseconds and more.
                let slow = of.kind == Kind::Request && of.suite == Suite::Suite1;
                mended = random.below(if slow { 400 } else { 4 }) == 0;
            }
        }
        if mended {
            of.mend(&mut mutant);
        }
        (of, mutant)
    }
}

fn edit(random: &mut Random, mutant: &mut Vec<u8>) {
    let originals = &WORLD.originals;
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
            let donor = &originals[random.below(originals.len())].bytes;
            let end = (at + len).min(donor.len());
            if at < end {
                mutant[at..end].copy_from_slice(&donor[at..end]);
            }
        }
        _ => {
            let donor = &originals[random.below(originals.len())].bytes;
            let tail = random.below(donor.len());
            mutant.truncate(at);
            mutant.extend_from_slice(&donor[tail..]);
        }
    }
    if mutant.is_empty() {
        mutant.push(0);
    }
}

/// Where a byte says what the others mean: head, lengths, algorithms.
fn meaningful(original: &Original) -> Vec<usize> {
    let own_at = original.bytes.len() - original.end_len() - Ghid::LEN;
    let mut at: Vec<usize> = (0..9).chain([own_at]).collect();
    match original.kind {
        Kind::Identity => {}
        Kind::Container => at.extend([9].into_iter().chain(74..82)),
        Kind::StaticBinding | Kind::Debinding => at.extend([9, 74]),
        Kind::DynamicBinding => {
            at.extend([9].into_iter().chain(74..84).chain((84..own_at).step_by(Ghid::LEN)));
        }
        Kind::Request => at.push(9),
    }
    at
}

/// The systematic ones, then as many random ones as are missing.
fn mutations(count: usize) -> Vec<Mutation> {
    let all = count >= 1_000_000;
    let mut list = Vec::new();
    for (of, original) in WORLD.originals.iter().enumerate() {
        let len = original.bytes.len();
        // To open a request of suite 1 takes ten milliseconds and more, so not all are sent on.
        let slow = original.kind == Kind::Request && original.suite == Suite::Suite1;
        let stride = match (slow, all) {
            (true, true) => 5,
            (true, false) => 53,
            (false, true) => 1,
            (false, false) => 11,
        };
        // The MAC of such a request is no part of its address, and only opening it shows.
        let mac_at = if slow { len - 64 } else { len };
        for bit in 0..len * 8 {
            if bit < mac_at * 8 || bit % stride == 0 {
                list.push(Mutation::Flip { of, bit, mended: false });
            }
            if bit < (len - original.end_len()) * 8 && bit % stride == 0 {
                list.push(Mutation::Flip { of, bit, mended: true });
            }
        }
        for mended in [false, true] {
            list.extend((0..len).map(|len| Mutation::Cut { of, len, mended }));
            list.extend((1..=130).map(|by| Mutation::Longer { of, by, mended }));
        }
        for at in meaningful(original) {
            for value in 0..=255 {
                list.push(Mutation::Byte { of, at, value, mended: false });
                if !slow || value % 16 == 0 {
                    list.push(Mutation::Byte { of, at, value, mended: true });
                }
            }
        }
    }
    let missing = count.saturating_sub(list.len()) as u64;
    list.extend((0..missing).map(|seed| Mutation::Random(seed << 16)));
    list
}

type Table = BTreeMap<(u8, [u8; 4]), BTreeMap<&'static str, usize>>;

/// Tries some of them; none may be accepted.
fn refuse(some: &[Mutation]) -> Table {
    let mut table = Table::new();
    for mutation in some {
        let (original, mutant) = mutation.apply();
        if WORLD.genuine.contains(&mutant) {
            continue;
        }
        let Some(rule) = WORLD.refusal(&mutant) else {
            panic!("accepted: {:?}, {}", original.kind, HEXLOWER.encode(&mutant));
        };
        let row = (original.suite.code(), original.kind.magic());
        *table.entry(row).or_default().entry(rule).or_default() += 1;
    }
    table
}

fn render(table: &Table) -> String {
    let mut text = String::new();
    for ((suite, magic), rules) in table {
        let total: usize = rules.values().sum();
        let magic = String::from_utf8_lossy(magic);
        write!(text, "suite {suite} {magic} {total:>7}:").unwrap();
        for (rule, count) in rules {
            write!(text, " {rule} {count}").unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_originals_are_accepted() {
    for original in &WORLD.originals {
        assert_eq!(WORLD.refusal(&original.bytes), None);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own setting, and threads")]
#[expect(clippy::disallowed_macros, reason = "tests may say what they did")]
fn no_mutation_is_accepted() {
    let count = std::env::var("GOLIX_MUTATIONS").map_or(DEFAULT, |count| count.parse().unwrap());
    // Somewhat more, because a few come out as originals and are not counted.
    let list = mutations(count + count / 20);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut table = Table::new();
    std::thread::scope(|scope| {
        // Interleaved, because the slow ones stand together.
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                let list = &list;
                scope.spawn(move || {
                    let mine: Vec<_> = list.iter().skip(first).step_by(threads).copied().collect();
                    refuse(&mine)
                })
            })
            .collect();
        for worker in workers {
            for (row, rules) in worker.join().expect("none is accepted") {
                let row = table.entry(row).or_default();
                for (rule, n) in rules {
                    *row.entry(rule).or_default() += n;
                }
            }
        }
    });
    let total: usize = table.values().flat_map(BTreeMap::values).sum();
    println!("{}{total} changed objects, none accepted", render(&table));
    assert!(total >= count, "{total} of {count}");
}

/// A signature is a number below the modulus. Where there is room for another one that is the same
/// modulo it, that is no signature.
#[test]
fn a_signature_of_suite_1_has_one_spelling() {
    let alice = &WORLD.people[0];
    let modulus = alice.identity().encode()[9..521].to_vec();
    let mut tried = 0;
    for n in 0..40u8 {
        let made = StaticBinding::make(alice, Ghid::of(&[n]));
        let mut bytes = made.bytes().to_vec();
        let at = bytes.len() - 512;
        let mut carry = 0;
        for (byte, add) in bytes[at..].iter_mut().zip(&modulus).rev() {
            let sum = u16::from(*byte) + u16::from(*add) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        if carry == 0 {
            assert_eq!(WORLD.refusal(&bytes), Some("SIGNATURE"));
            tried += 1;
        }
        if tried == 3 {
            return;
        }
    }
    panic!("there was room for {tried} only");
}
