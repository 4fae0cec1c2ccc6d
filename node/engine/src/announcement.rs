//! Announcements: what servers tell one another of what moved, for many to hear and few to understand.
//!
//! An announcement names an author only by a tag that changes every day, and objects only to those who
//! know their addresses. Whoever knows the author's address recognises the tag, and opens the rest.
//!
//! ```text
//! announcement  version 1 | tag 16 | counter u64 | u8 addresses | (length u8, multiaddr)* |
//!               AES-256-GCM(key, zeros, aad = everything before) of: u8 objects | (name 12 | frame u64)*
//! tag           HKDF-SHA-512(author, "tag" label | epoch u32)[..16]
//! key           HKDF-SHA-512(author, "key" label | epoch u32 | counter u64 | announcing device)[..32]
//! name          first 12 bytes of the address's digest
//! shard         SHA-512(label | author)[0] % 64
//! ```
//!
//! At most [`ANNOUNCEMENT_MAX`] bytes, big-endian. The counter is milliseconds since 1970 on the clock of
//! the device that announces, larger with each of its announcements; its day is the epoch. That device
//! signs (gossipsub does) and takes part in the key, so nobody else can say the same. `frame` is the
//! counter of the object's newest frame, 1 for a static object, [`GONE`] for one that was deleted.
//! Reference: docs/network.md, “Gossip”.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use golix::Ghid;
use hkdf::Hkdf;
use sha2::{Digest, Sha512};

use crate::route::epoch_of;

/// Longest announcement, bytes.
pub const ANNOUNCEMENT_MAX: usize = 256;

/// Shards of authors: one topic each.
pub const SHARDS: u8 = 64;

/// Objects of one announcement.
pub const MOVED_MAX: usize = 4;

/// Addresses of one announcement.
pub const ADDRESSES_MAX: usize = 4;

/// How old an announcement may be, milliseconds. Clocks differ.
pub const AGE_MAX: u64 = 3600 * 1000;

/// How far it may lie in the future, milliseconds.
pub const SKEW_MAX: u64 = 3600 * 1000;

/// The frame counter of an object that was deleted.
pub const GONE: u64 = u64::MAX;

/// Bytes of an object's name.
pub const NAME: usize = 12;

const VERSION: u8 = 1;
const TAG: usize = 16;
/// Bytes up to the addresses.
const HEAD: usize = 1 + TAG + 8;
const ITEM: usize = NAME + 8;
const SEAL: usize = 16;

const LABEL_TAG: &[u8] = b"hypergolix announcement tag\0";
const LABEL_KEY: &[u8] = b"hypergolix announcement key\0";
const LABEL_SHARD: &[u8] = b"hypergolix announcement shard\0";

/// An author, for those who do not know it.
pub type Tag = [u8; TAG];

/// The beginning of an address: enough to recognise it, and too little to ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub [u8; NAME]);

/// One object that moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Which.
    pub name: Name,
    /// The counter of its newest frame; 1 if it is static, [`GONE`] if it was deleted.
    pub counter: u64,
}

/// An announcement as everybody can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement<'a> {
    /// The author, blinded.
    pub tag: Tag,
    /// Milliseconds since 1970, larger with each announcement of one device.
    pub counter: u64,
    /// Where the announcing device says it is: multiaddrs' bytes.
    pub addresses: Vec<Vec<u8>>,
    head: &'a [u8],
    sealed: &'a [u8],
}

/// Bytes that are no announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the announcement is malformed")]
pub struct Malformed;

/// The shard of an author.
pub fn shard(author: &Ghid) -> u8 {
    Sha512::new().chain_update(LABEL_SHARD).chain_update(author).finalize()[0] % SHARDS
}

/// What an author is called on one day.
pub fn tag(author: &Ghid, epoch: u32) -> Tag {
    let mut tag = [0; TAG];
    Hkdf::<Sha512>::new(None, author.as_bytes())
        .expand_multi_info(&[LABEL_TAG, &epoch.to_be_bytes()], &mut tag)
        .expect("less than one block");
    tag
}

fn cipher(author: &Ghid, counter: u64, device: &[u8]) -> Aes256Gcm {
    let mut key = [0; 32];
    let epoch = epoch_of(counter).to_be_bytes();
    Hkdf::<Sha512>::new(None, author.as_bytes())
        .expand_multi_info(&[LABEL_KEY, &epoch, &counter.to_be_bytes(), device], &mut key)
        .expect("less than one block");
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(key))
}

impl Name {
    /// The name of an address.
    pub fn of(address: &Ghid) -> Self {
        Self(address.as_bytes()[1..=NAME].try_into().expect("12 of 64 bytes"))
    }

    /// The first address that could have this name; those that have it follow one another.
    pub fn first(self) -> Ghid {
        let mut bytes = *Ghid::of(&[]).as_bytes();
        bytes[1..].fill(0);
        bytes[1..=NAME].copy_from_slice(&self.0);
        Ghid::from_bytes(&bytes).expect("the algorithm of another address")
    }
}

impl<'a> Announcement<'a> {
    /// Reads what everybody can read.
    ///
    /// # Errors
    /// It is longer than [`ANNOUNCEMENT_MAX`], of another version, or not of this shape.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let parse = || {
            let head = bytes.get(..HEAD).filter(|_| bytes.len() <= ANNOUNCEMENT_MAX)?;
            let (version, rest) = head.split_first()?;
            let (tag, counter) = rest.split_first_chunk::<TAG>()?;
            let counter = u64::from_be_bytes(counter.try_into().ok()?);
            let (count, mut rest) = bytes[HEAD..].split_first()?;
            let count = usize::from(*count);
            if *version != VERSION || count > ADDRESSES_MAX {
                return None;
            }
            let mut addresses = Vec::with_capacity(count);
            for _ in 0..count {
                let (len, after) = rest.split_first()?;
                let (address, after) = after.split_at_checked(usize::from(*len))?;
                addresses.push(address.to_vec());
                rest = after;
            }
            let items = rest.len().checked_sub(1 + SEAL)?;
            if items == 0 || !items.is_multiple_of(ITEM) || items / ITEM > MOVED_MAX {
                return None;
            }
            let head = &bytes[..bytes.len() - rest.len()];
            Some(Self { tag: *tag, counter, addresses, head, sealed: rest })
        };
        parse().ok_or(Malformed)
    }

    /// The day whose tags it uses.
    pub fn epoch(&self) -> u32 {
        epoch_of(self.counter)
    }

    /// What moved, for those who know the author. `None`: it is not about this author, or `device`
    /// did not make it.
    pub fn open(&self, author: &Ghid, device: &[u8]) -> Option<Vec<Moved>> {
        if tag(author, self.epoch()) != self.tag {
            return None;
        }
        let payload = Payload { msg: self.sealed, aad: self.head };
        let cipher = cipher(author, self.counter, device);
        let plain = cipher.decrypt(&Nonce::from([0; 12]), payload).ok()?;
        let (count, items) = plain.split_first()?;
        if items.len() != usize::from(*count) * ITEM {
            return None;
        }
        let read = |item: &[u8]| {
            let (name, counter) = item.split_first_chunk::<NAME>()?;
            let counter = u64::from_be_bytes(counter.try_into().ok()?);
            Some(Moved { name: Name(*name), counter })
        };
        items.chunks(ITEM).map(read).collect()
    }
}

/// Makes an announcement of `device`: at most [`MOVED_MAX`] objects, and of the addresses those that
/// fit. `counter` must be larger than in every announcement of this device before.
pub fn seal(
    author: &Ghid,
    counter: u64,
    device: &[u8],
    addresses: &[Vec<u8>],
    moved: &[Moved],
) -> Vec<u8> {
    let moved = &moved[..moved.len().min(MOVED_MAX)];
    let sealed_len = 1 + moved.len() * ITEM + SEAL;
    let mut head = vec![VERSION];
    head.extend_from_slice(&tag(author, epoch_of(counter)));
    head.extend_from_slice(&counter.to_be_bytes());
    head.push(0);
    for address in addresses {
        let fits = head.len() + 1 + address.len() + sealed_len <= ANNOUNCEMENT_MAX;
        if fits && usize::from(head[HEAD]) < ADDRESSES_MAX {
            head[HEAD] += 1;
            head.push(address.len() as u8);
            head.extend_from_slice(address);
        }
    }
    let mut plain = vec![moved.len() as u8];
    for Moved { name, counter } in moved {
        plain.extend_from_slice(&name.0);
        plain.extend_from_slice(&counter.to_be_bytes());
    }
    let sealed = cipher(author, counter, device)
        .encrypt(&Nonce::from([0; 12]), Payload { msg: &plain, aad: &head })
        .expect("some bytes are far below the cipher's limit");
    head.extend_from_slice(&sealed);
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::EPOCH;

    const NOW: u64 = 20_000 * EPOCH + 12 * 3600 * 1000;
    const DEVICE: &[u8] = &[7; 38];

    fn moved(number: u8) -> Moved {
        Moved { name: Name::of(&Ghid::of(&[number])), counter: u64::from(number) << 8 | 1 }
    }

    fn author() -> Ghid {
        Ghid::of(b"author")
    }

    #[test]
    fn who_knows_the_author_reads_what_moved() {
        let items = [moved(1), moved(2), moved(3), moved(4)];
        let addresses = vec![vec![4; 8], vec![5; 20]];
        let bytes = seal(&author(), NOW, DEVICE, &addresses, &items);
        assert!(bytes.len() <= ANNOUNCEMENT_MAX);
        let read = Announcement::parse(&bytes).unwrap();
        assert_eq!((read.counter, &read.addresses), (NOW, &addresses));
        assert_eq!(read.tag, tag(&author(), epoch_of(NOW)));
        assert_eq!(read.open(&author(), DEVICE).unwrap(), items);
        // Nobody else reads it, and no other device can have said it.
        assert_eq!(read.open(&Ghid::of(b"another"), DEVICE), None);
        assert_eq!(read.open(&author(), &[8; 38]), None);
        // One that is called what the author is called, and does not open, was made up.
        let mut forged = bytes.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(Announcement::parse(&forged).unwrap().open(&author(), DEVICE), None);
        // Neither author nor objects are in it.
        let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(!contains(&author().as_bytes()[1..9]) && !contains(&moved(1).name.0[..8]));
    }

    #[test]
    fn tags_change_every_day() {
        let epoch = epoch_of(NOW);
        assert_ne!(tag(&author(), epoch), tag(&author(), epoch + 1));
        let tomorrow = seal(&author(), NOW + EPOCH, DEVICE, &[], &[moved(1)]);
        let tomorrow = Announcement::parse(&tomorrow).unwrap();
        assert_eq!(tomorrow.tag, tag(&author(), epoch + 1));
        assert!(tomorrow.open(&author(), DEVICE).is_some());
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let items: Vec<Moved> = (1..=9).map(moved).collect();
        let bytes = seal(&author(), NOW, DEVICE, &vec![vec![1; 60]; 9], &items);
        assert!(bytes.len() <= ANNOUNCEMENT_MAX, "{}", bytes.len());
        let read = Announcement::parse(&bytes).unwrap();
        assert_eq!(read.open(&author(), DEVICE).unwrap(), items[..MOVED_MAX]);
        assert_eq!(read.addresses.len(), 2);
    }

    #[test]
    fn malformed_ones_are_refused() {
        let good = seal(&author(), NOW, DEVICE, &[vec![9; 8]], &[moved(1)]);
        for len in 0..good.len() {
            assert_eq!(Announcement::parse(&good[..len]), Err(Malformed), "cut to {len}");
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(Announcement::parse(&longer), Err(Malformed), "a byte left over");
        assert_eq!(Announcement::parse(&vec![VERSION; 257]), Err(Malformed), "oversized");
        let mut other = good.clone();
        other[0] = 2;
        assert_eq!(Announcement::parse(&other), Err(Malformed), "another version");
        let mut many = good;
        many[HEAD] = 200;
        assert_eq!(Announcement::parse(&many), Err(Malformed), "too many addresses");
        // Five objects, of a device that does not hold to the format.
        let five = [&vec![0; HEAD + 1][..], &[0; 1 + 5 * ITEM + SEAL][..]].concat();
        let five = [&[VERSION], &five[1..]].concat();
        assert_eq!(Announcement::parse(&five), Err(Malformed), "too many objects");
    }

    #[test]
    fn names_find_their_address() {
        let addresses: std::collections::BTreeSet<Ghid> =
            (0..100_u8).map(|number| Ghid::of(&[number])).collect();
        for address in &addresses {
            let name = Name::of(address);
            assert_eq!(addresses.range(name.first()..).next(), Some(address));
        }
        let shards: std::collections::BTreeSet<u8> = addresses.iter().map(shard).collect();
        assert!(shards.len() > 40 && shards.iter().all(|shard| *shard < SHARDS));
    }
}
