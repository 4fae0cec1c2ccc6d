//! What objects cost: making, reading, verifying, sealing and opening, in objects and bytes a second;
//! and how much of that is ours.
//!
//! `cargo bench -p golix --bench objects`
//!
//! At the end it prints ratios to bare operations of the cryptographic crates, measured in turns in the
//! same run, so that they mean the same on any machine:
//!
//! | what | goal |
//! | --- | --- |
//! | parse and verify a frame of suite 3 to Ed25519 (strict) and SHA-512 of its bytes | at most 1.3 |
//! | seal, and parse, verify and open, 1 MiB: of the speed of the slower of AES-256-GCM and SHA-512 | at least 60 % |
//! | make, and parse and verify, a binding of suite 1 to RSASSA-PSS | at most 1.1 |
//!
//! Only `-- ratios` prints nothing but them.

mod common;

use std::hint::black_box;

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use common::{alice, saved_keys};
use criterion::{Criterion, Throughput, criterion_group};
use ed25519_dalek::{Signer as _, SigningKey};
use golix::object::{
    Container, DynamicBinding, Object, Request, RequestBody, StaticBinding, Unverified, Verified,
};
use golix::{ChainKey, Ghid, Identity, Secret, Signer, Suite};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rsa::pkcs8::DecodePrivateKey;
use sha2::{Digest, Sha512};

const MIB: usize = 1 << 20;

fn name(suite: Suite) -> String {
    format!("suite{}", suite.code())
}

fn frame(me: &dyn Signer) -> Verified {
    let (birth, now) = (Ghid::of(b"birth"), Ghid::of(b"now"));
    let (suite, ghid) = (me.identity().suite(), me.identity().ghid());
    let dynamic = DynamicBinding::dynamic_address(suite, &ghid, &birth);
    DynamicBinding::next(me, dynamic, 1, &[now, Ghid::of(b"previous"), birth])
        .expect("a good frame")
}

fn verify(object: &[u8], author: &Identity) -> Verified {
    let parsed = Unverified::parse(object).expect("a good object");
    parsed.verify(Some(author)).expect("its author's")
}

fn bindings(criterion: &mut Criterion) {
    for suite in Suite::ALL {
        let me = alice(suite);
        let made = frame(&me);
        let parsed = Unverified::parse(made.bytes()).expect("a good frame");

        let mut group = criterion.benchmark_group(name(suite));
        group.throughput(Throughput::Elements(1));
        group.bench_function("make a binding", |b| {
            b.iter(|| StaticBinding::make(&me, black_box(Ghid::of(b"now"))));
        });
        group.bench_function("make a frame", |b| b.iter(|| frame(black_box(&me))));
        group.bench_function("parse a frame", |b| {
            b.iter(|| Unverified::parse(black_box(made.bytes())));
        });
        group.bench_function("verify a frame", |b| {
            b.iter(|| black_box(&parsed).clone().verify(Some(me.identity())));
        });
        let gidc = me.identity().encode();
        group.bench_function("read an identity", |b| {
            b.iter(|| Identity::from_bytes(black_box(&gidc)));
        });
        group.bench_function("read a stored identity", |b| {
            b.iter(|| Identity::from_stored(black_box(&gidc)));
        });
        group.finish();
    }
}

fn containers(criterion: &mut Criterion) {
    for suite in Suite::ALL {
        let me = alice(suite);
        let secret = Secret::new(suite, [4; 32], [5; 16]);
        for size in [100, 10_000, 1_000_000] {
            let plaintext = vec![6; size];
            let made = Container::seal(&me, &secret, [7; 32], &plaintext);
            let Object::Container(container) = made.object() else { unreachable!("a container") };
            let mut group =
                criterion.benchmark_group(format!("{} container of {size}", name(suite)));
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function("seal", |b| {
                b.iter(|| Container::seal(&me, &secret, [7; 32], black_box(&plaintext)));
            });
            group.bench_function("parse and verify", |b| {
                b.iter(|| verify(black_box(made.bytes()), me.identity()));
            });
            group.bench_function("open", |b| b.iter(|| container.open(black_box(&secret))));
            group.finish();
        }
    }
}

fn requests(criterion: &mut Criterion) {
    for suite in Suite::ALL {
        let me = alice(suite);
        let body = RequestBody::Ack { request: Ghid::of(b"request"), status: 0 };
        let made = Request::seal(&me, me.identity(), &body, [8; 64]).expect("a good request");
        let Object::Request(request) = made.object() else { unreachable!("a request") };
        let mut group = criterion.benchmark_group(format!("{} request", name(suite)));
        group.throughput(Throughput::Elements(1));
        group.bench_function("seal", |b| {
            b.iter(|| Request::seal(&me, me.identity(), black_box(&body), [8; 64]));
        });
        group.bench_function("open and authenticate", |b| {
            b.iter(|| {
                let opened = black_box(request).open(&me).expect("to me");
                opened.authenticate(&me, me.identity()).expect("from me")
            });
        });
        group.finish();
    }
}

fn chains(criterion: &mut Criterion) {
    let (dynamic, chain) = (Ghid::of(b"dynamic"), ChainKey::new(0, 0, [9; 32]));
    let mut group = criterion.benchmark_group("suite3 chain");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 steps", |b| {
        b.iter(|| black_box(&chain).advance_to(&dynamic, 1000));
    });
    group.finish();
}

// --- ratios -------------------------------------------------------------------------------------

/// The median time of each, in seconds, measured in turns so that both have the same weather.
#[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "benches measure time")]
fn in_turns<A, B>(rounds: usize, ours: impl Fn() -> A, bare: impl Fn() -> B) -> (f64, f64) {
    fn once<T>(run: impl Fn() -> T) -> f64 {
        let start = std::time::Instant::now();
        black_box(run());
        start.elapsed().as_secs_f64()
    }
    let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        of_ours.push(once(&ours));
        of_bare.push(once(&bare));
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    (median(of_ours), median(of_bare))
}

#[expect(clippy::disallowed_macros, reason = "benches say what they found")]
fn times(what: &str, (ours, bare): (f64, f64), goal: f64) {
    let (ratio, ours, bare) = (ours / bare, ours * 1e6, bare * 1e6);
    println!("{what:<56} {ours:9.1} us to {bare:9.1} us: {ratio:.2} (goal: at most {goal})");
}

#[expect(clippy::disallowed_macros, reason = "benches say what they found")]
fn speed(what: &str, (ours, bare): (f64, f64), goal: f64) {
    let mib = |seconds: f64| 1.0 / seconds;
    let share = 100.0 * bare / ours;
    let (ours, bare) = (mib(ours), mib(bare));
    println!("{what:<56} {ours:7.0} of {bare:7.0} MiB/s: {share:.0} % (goal: at least {goal} %)");
}

/// Leaves the place of the signature empty.
struct Unsigned<'a>(&'a Identity);

impl Signer for Unsigned<'_> {
    fn identity(&self) -> &Identity {
        self.0
    }

    fn sign_object(&self, _object: &Ghid, out: &mut Vec<u8>) {
        out.resize(out.len() + self.0.suite().signature_len(), 0);
    }
}

fn ratios() {
    let three = alice(Suite::Suite3);
    let made = frame(&three);
    let (key, message) = (SigningKey::from_bytes(&[1; 32]), [1; 78]);
    let (public, signature) = (key.verifying_key(), key.sign(&message));
    let found = in_turns(
        4001,
        || verify(made.bytes(), three.identity()),
        || (Sha512::digest(made.bytes()), public.verify_strict(&message, &signature)),
    );
    times("suite 3, parse and verify a frame", found, 1.3);

    let (signature_der, ..) = saved_keys();
    let one = alice(Suite::Suite1);
    let key = rsa::PrivateKey::from_pkcs8_der(&signature_der).expect("a good key");
    let hash = [2; 64];
    let sign = || {
        let mut rng = StdRng::seed_from_u64(1);
        key.pss_sign_prehash_with_rng::<Sha512, _>(&mut rng, &hash).expect("signed")
    };
    let made = StaticBinding::make(&one, Ghid::of(b"target"));
    let found = in_turns(101, || StaticBinding::make(&one, Ghid::of(b"target")), sign);
    times("suite 1, make a binding", found, 1.1);
    let (public, signature) = (key.to_public_key(), sign());
    let found = in_turns(
        2001,
        || verify(made.bytes(), one.identity()),
        || public.pss_verify_prehash::<Sha512>(&hash, &signature),
    );
    times("suite 1, parse and verify a binding", found, 1.1);

    let plaintext = vec![3; MIB];
    let gcm = Aes256Gcm::new(&[4; 32].into());
    let cipher = || {
        let mut buffer = plaintext.clone();
        gcm.encrypt_inout_detached(&[5; 12].into(), b"", buffer.as_mut_slice().into())
            .expect("sealed")
    };
    let hash = || Sha512::digest(&plaintext);
    let (cipher_time, hash_time) = in_turns(51, cipher, hash);
    let slower: &dyn Fn() = if cipher_time > hash_time {
        &|| {
            black_box(cipher());
        }
    } else {
        &|| {
            black_box(hash());
        }
    };
    for me in [&one, &three] {
        let suite = me.suite();
        let secret = Secret::new(suite, [6; 32], [7; 16]);
        let made = Container::seal(me, &secret, [8; 32], &plaintext);
        let unsigned = Unsigned(me.identity());
        let what = format!("suite {}, seal 1 MiB (without the signature)", suite.code());
        let found =
            in_turns(51, || Container::seal(&unsigned, &secret, [8; 32], &plaintext), slower);
        speed(&what, found, 60.0);
        let what = format!("suite {}, parse, verify and open 1 MiB", suite.code());
        let open = || {
            let verified = verify(made.bytes(), me.identity());
            let Object::Container(container) = verified.object() else {
                unreachable!("a container")
            };
            container.open(&secret).expect("its secret")
        };
        speed(&what, in_turns(51, open, slower), 60.0);
    }
}

criterion_group!(benches, bindings, containers, requests, chains);

fn main() {
    if !std::env::args_os().any(|argument| argument == "ratios") {
        benches();
        Criterion::default().configure_from_args().final_summary();
    }
    ratios();
}
