//! What an object says of its own length costs nothing: it is held against the bytes that are there,
//! before anything is made room for. Allocations are counted, not felt.

use golix::object::{
    Container, DecodeError, DynamicBinding, Request, RequestBody, StaticBinding, Unverified,
};
use golix::{Ghid, PrivateIdentity, Secret, Suite, limits};

fn me() -> PrivateIdentity {
    PrivateIdentity::from_seeds(Suite::Suite3, [1; 32], [2; 32], [3; 32])
}

/// What `read` gives, and the most bytes that it had allocated at a time.
fn cost<T>(read: impl FnOnce() -> T) -> (T, u64) {
    let mut result = None;
    let info = allocation_counter::measure(|| result = Some(read()));
    (result.expect("it ran"), info.bytes_max)
}

/// Refused for this reason, without a single allocation.
#[track_caller]
fn refused_for_free(bytes: &[u8], error: DecodeError) {
    let (parsed, peak) = cost(|| Unverified::parse(bytes));
    assert_eq!(parsed.unwrap_err(), error);
    assert_eq!(peak, 0, "{} bytes", bytes.len());
}

#[test]
fn the_counter_counts() {
    let (length, peak) = cost(|| std::hint::black_box(vec![0u8; 1 << 20]).len());
    assert!(length == 1 << 20 && peak >= 1 << 20, "{peak}");
}

#[test]
fn lengths_of_containers() {
    let secret = Secret::new(Suite::Suite3, [4; 32], [5; 16]);
    let made = Container::seal(&me(), &secret, [6; 32], b"attack at dawn");
    let true_len = made.bytes().len() as u64 - 211;
    for suite in Suite::ALL {
        let mut object = made.bytes().to_vec();
        object.resize(1000, 0);
        object[8] = suite.code();
        let fixed_len = 147 + suite.signature_len() as u64;
        let fits = object.len() as u64 - fixed_len;
        let max = limits::PLAINTEXT_MAX as u64;
        for len in
            [fits + 1, max, max + 1, 1 << 32, 1 << 40, u64::MAX / 2, u64::MAX - 700, u64::MAX]
        {
            object[74..82].copy_from_slice(&len.to_be_bytes());
            refused_for_free(&object, DecodeError::Length);
        }
        object[74..82].copy_from_slice(&(fits - 1).to_be_bytes());
        refused_for_free(&object, DecodeError::Trailing);
    }
    for short in [0, 1, 79] {
        let mut object = made.bytes().to_vec();
        assert_ne!(true_len, short);
        object[74..82].copy_from_slice(&short.to_be_bytes());
        refused_for_free(&object, DecodeError::Length);
    }
}

#[test]
fn lengths_of_target_vectors() {
    let made = DynamicBinding::first(&me(), Ghid::of(b"birth"));
    for len in [130, 195, 65_455, 65_520] {
        let mut object = made.bytes().to_vec();
        object[82..84].copy_from_slice(&u16::to_be_bytes(len));
        refused_for_free(&object, DecodeError::Length);
    }
    for len in [0, 1, 64, 66, 65_521, u16::MAX] {
        let mut object = made.bytes().to_vec();
        object[82..84].copy_from_slice(&len.to_be_bytes());
        refused_for_free(&object, DecodeError::TargetVector);
    }
}

#[test]
fn lengths_in_private_identities() {
    for len in [1, 2_000, u16::MAX] {
        let packed = [&b"PI\0\x01\x01"[..], &len.to_be_bytes(), &[0x30; 500]].concat();
        let (read, peak) = cost(|| PrivateIdentity::from_bytes(&packed).map(drop));
        assert!(read.is_err() && peak <= 1 << 16, "{len}: {peak}");
    }
    // A document that says of its parts that they are long.
    for inside in [&b"\x30\x84\xff\xff\xff\xff"[..], b"\x30\x83\xff\xff\xff\x02\x01\0", b"\x30\x80"]
    {
        let mut document = inside.to_vec();
        document.resize(500, 0);
        let (read, peak) =
            cost(|| PrivateIdentity::from_suite1_keys(&document, &document, [1; 32]));
        assert!(read.is_err() && peak <= 1 << 16, "{peak}");
    }
}

/// Cut anywhere, or of any other length: never more than a few times what came.
#[test]
fn nothing_costs_more_than_what_came() {
    let me = me();
    let secret = Secret::new(Suite::Suite3, [4; 32], [5; 16]);
    let body = RequestBody::Arbitrary(vec![7; 299]);
    let container = Container::seal(&me, &secret, [6; 32], &[8; 5000]);
    let (dynamic, targets) = {
        let birth = Ghid::of(b"birth");
        let dynamic = DynamicBinding::dynamic_address(Suite::Suite3, &me.ghid(), &birth);
        (dynamic, [container.ghid(), birth])
    };
    let objects = [
        me.identity().encode(),
        StaticBinding::make(&me, container.ghid()).bytes().to_vec(),
        DynamicBinding::next(&me, dynamic, 7, &targets).unwrap().bytes().to_vec(),
        Request::seal(&me, me.identity(), &body, [9; 64]).unwrap().bytes().to_vec(),
        container.bytes().to_vec(),
    ];
    for object in objects {
        for len in 0..object.len() {
            let (parsed, peak) = cost(|| Unverified::parse(&object[..len]));
            assert!(parsed.is_err() && peak == 0, "{len}: {peak}");
        }
        let (parsed, peak) = cost(|| Unverified::parse(&object));
        assert!(parsed.is_ok() && peak <= 3 * object.len() as u64 + 1024, "{peak}");
    }
}
