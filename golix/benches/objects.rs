//! What objects cost: making, reading, verifying, sealing and opening, in objects and bytes a second.
//!
//! `cargo bench -p golix --bench objects`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use golix::object::{
    Container, DynamicBinding, Object, Request, RequestBody, StaticBinding, Unverified,
};
use golix::{ChainKey, Ghid, Identity, PrivateIdentity, Secret, Suite};

fn alice() -> PrivateIdentity {
    PrivateIdentity::from_seeds(Suite::Suite3, [1; 32], [2; 32], [3; 32])
}

fn bindings(criterion: &mut Criterion) {
    let me = alice();
    let (birth, now) = (Ghid::of(b"birth"), Ghid::of(b"now"));
    let dynamic = DynamicBinding::dynamic_address(me.suite(), &me.ghid(), &birth);
    let targets = [now, Ghid::of(b"previous"), birth];
    let frame = DynamicBinding::next(&me, dynamic, 1, &targets).expect("a good frame");
    let parsed = Unverified::parse(frame.bytes()).expect("a good frame");

    let mut group = criterion.benchmark_group("suite3");
    group.throughput(Throughput::Elements(1));
    group.bench_function("make a binding", |b| b.iter(|| StaticBinding::make(&me, black_box(now))));
    group.bench_function("make a frame", |b| {
        b.iter(|| DynamicBinding::next(&me, dynamic, 1, black_box(&targets)));
    });
    group.bench_function("parse a frame", |b| {
        b.iter(|| Unverified::parse(black_box(frame.bytes())));
    });
    group.bench_function("verify a frame", |b| {
        b.iter(|| black_box(&parsed).clone().verify(Some(me.identity())));
    });
    let gidc = me.identity().encode();
    group.bench_function("read an identity", |b| b.iter(|| Identity::from_bytes(black_box(&gidc))));
    group.finish();
}

fn containers(criterion: &mut Criterion) {
    let me = alice();
    let secret = Secret::new(Suite::Suite3, [4; 32], [5; 16]);
    for size in [100, 10_000, 1_000_000] {
        let plaintext = vec![6; size];
        let made = Container::seal(&me, &secret, [7; 32], &plaintext);
        let Object::Container(container) = made.object() else { unreachable!("a container") };
        let mut group = criterion.benchmark_group(format!("suite3 container of {size}"));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function("seal", |b| {
            b.iter(|| Container::seal(&me, &secret, [7; 32], black_box(&plaintext)));
        });
        group.bench_function("parse and verify", |b| {
            b.iter(|| {
                let parsed = Unverified::parse(black_box(made.bytes()));
                parsed.expect("a good container").verify(Some(me.identity()))
            });
        });
        group.bench_function("open", |b| b.iter(|| container.open(black_box(&secret))));
        group.finish();
    }
}

fn requests(criterion: &mut Criterion) {
    let me = alice();
    let body = RequestBody::Ack { request: Ghid::of(b"request"), status: 0 };
    let made = Request::seal(&me, me.identity(), &body, [8; 64]).expect("a good request");
    let Object::Request(request) = made.object() else { unreachable!("a request") };
    let mut group = criterion.benchmark_group("suite3 request");
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

fn chains(criterion: &mut Criterion) {
    let (dynamic, chain) = (Ghid::of(b"dynamic"), ChainKey::new(0, 0, [9; 32]));
    let mut group = criterion.benchmark_group("suite3 chain");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 steps", |b| {
        b.iter(|| black_box(&chain).advance_to(&dynamic, 1000));
    });
    group.finish();
}

criterion_group!(benches, bindings, containers, requests, chains);
criterion_main!(benches);
