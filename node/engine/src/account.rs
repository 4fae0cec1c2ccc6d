//! An account: its identity, its account key, and how a password opens both.
//!
//! The account's *root object* is an ordinary dynamic object whose container anybody may open:
//! it holds key slots, each of which seals the same random account key, and the identity's
//! private keys sealed under the account key. `user id` is its dynamic address.

mod devices;
mod manifest;
mod passphrase;
mod pieces;
mod seen;
mod slots;

use std::sync::Arc;

use golix::object::{Container, DynamicBinding, Kind, Object, OpenedRequest, Unverified, Verified};
use golix::{Ghid, Identity, PrivateIdentity, Secret, Signer as _, Suite};
use zeroize::Zeroizing;

pub use passphrase::{PASSWORD_LEN_MIN, ScryptCost};

use crate::keyring::{Keyring, derive};
use crate::message::{Message, Packed};
use crate::shelf;
use crate::sync::{Feed, proof};
use crate::turn::Turn;
use crate::view::{Entropy, Row, Table, Time, View, ViewError, Write};
pub(crate) use devices::{has_others, slot};
pub use devices::{is_of_the_device, restored};
pub(crate) use pieces::Pieces;
pub(crate) use seen::{Seen, slot_of};
use slots::{Slots, SlotsError};

/// Meta row: user id and fingerprint, 130 bytes.
const META_ACCOUNT: &[u8] = b"account";

/// The first frame of an account's root: step 1, device slot 0.
const ROOT_COUNTER: u64 = 1 << 8;

/// An unlocked account.
#[derive(Clone)]
pub struct Account {
    identity: Arc<PrivateIdentity>,
    key: Zeroizing<[u8; 32]>,
    user_id: Ghid,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.user_id.short())
    }
}

/// Uses the private keys of an account, away from the loop that decides: in suite 1 every use takes
/// some 15 ms of a core.
#[derive(Debug, Clone)]
pub struct Keys(Arc<PrivateIdentity>);

impl Keys {
    /// Does what [`Effect::OpenRequest`](crate::Effect) asks. `None` for everything that does not
    /// open.
    pub fn open(&self, request: &[u8]) -> Option<Arc<OpenedRequest>> {
        let request = Unverified::parse(request).ok()?.verify(None).ok()?;
        match request.object() {
            Object::Request(request) => request.open(&self.0).ok().map(Arc::new),
            _ => None,
        }
    }

    /// The signature that an [`Outcome`](crate::Outcome) left out.
    pub fn sign(&self, object: &Ghid) -> Vec<u8> {
        let mut signature = Vec::new();
        self.0.sign_object(object, &mut signature);
        signature
    }

    /// The GIDC, and its signature of a statement under a label.
    pub(crate) fn vouch(&self, label: &str, statement: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (self.0.identity().encode(), self.0.sign_statement(label, statement))
    }

    /// Does what [`Effect::Prove`](crate::Effect) asks; the message to send.
    pub fn prove(&self, statement: &[u8]) -> Message {
        proof(&self.0, statement)
    }
}

/// What is known of an account without its password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The dynamic address of the account's root object.
    pub user_id: Ghid,
    /// The address of the account's identity.
    pub fingerprint: Ghid,
}

/// Opens an account when the password is lost: 128 random bits, shown once.
#[derive(Clone)]
pub struct RecoveryKey(Zeroizing<[u8; 16]>);

impl RecoveryKey {
    /// Eight groups of four hexadecimal digits.
    pub fn to_text(&self) -> Zeroizing<String> {
        let groups: Vec<String> =
            self.0.chunks(2).map(|pair| format!("{:02x}{:02x}", pair[0], pair[1])).collect();
        Zeroizing::new(groups.join("-"))
    }

    /// Reads what [`RecoveryKey::to_text`] wrote; case and separators do not matter.
    pub fn from_text(text: &str) -> Option<Self> {
        let digits: Zeroizing<Vec<u8>> = Zeroizing::new(
            text.chars()
                .filter(|c| !matches!(c, '-' | ' '))
                .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
                .collect::<Option<_>>()?,
        );
        if digits.len() != 32 {
            return None;
        }
        let mut key = Zeroizing::new([0; 16]);
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Some(Self(key))
    }
}

/// Why no account could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// Fewer characters than [`PASSWORD_LEN_MIN`].
    #[error("the password is too short: it needs at least {PASSWORD_LEN_MIN} characters")]
    PasswordTooShort,
    /// The scrypt cost lies outside of what a login would accept.
    #[error("the scrypt cost 2^{0} is outside of 2^15 to 2^20")]
    Cost(u8),
}

/// Why a password could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The new password will not do.
    #[error(transparent)]
    Password(#[from] AccountError),
    /// The account's root object cannot be read.
    #[error(transparent)]
    Root(#[from] UnlockError),
}

/// Why an account stays locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// No account in this store.
    #[error("there is no account here")]
    NoAccount,
    /// No key slot opens with it.
    #[error("wrong password")]
    WrongPassword,
    /// The root object is missing or damaged.
    #[error("the account's root object is damaged: {0}")]
    Damaged(&'static str),
    /// A key slot asks for more memory or time than any honest one.
    #[error("the account's key slot asks for unreasonable scrypt parameters")]
    HostileParameters,
    /// The store failed.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl From<SlotsError> for UnlockError {
    fn from(error: SlotsError) -> Self {
        match error {
            SlotsError::Damaged => Self::Damaged("the key slots cannot be read"),
            SlotsError::Hostile => Self::HostileParameters,
            SlotsError::NoneOpens => Self::WrongPassword,
        }
    }
}

impl Account {
    /// The identity's address.
    pub fn fingerprint(&self) -> Ghid {
        self.identity.ghid()
    }

    /// The dynamic address of the root object.
    pub fn user_id(&self) -> Ghid {
        self.user_id
    }

    /// The identity's suite.
    pub fn suite(&self) -> Suite {
        self.identity.suite()
    }

    /// The dynamic addresses that this account keeps for itself: its root object, and the objects its
    /// records travel in, whether anything was written to them or not.
    pub fn own_addresses(&self) -> Vec<Ghid> {
        let mut addresses = Pieces::new(self).addresses().to_vec();
        addresses.push(self.user_id);
        addresses
    }

    /// Uses the private keys of this account, on any thread.
    pub fn keys(&self) -> Keys {
        Keys(Arc::clone(&self.identity))
    }

    pub(crate) fn identity(&self) -> &PrivateIdentity {
        &self.identity
    }

    pub(crate) fn keyring(&self, slot: u8) -> Keyring {
        Keyring::new(&self.key, slot)
    }

    /// The birth target of the object that a bucket of account records travels in.
    pub(crate) fn piece_birth(&self, bucket: u8) -> Ghid {
        Ghid::from_address(derive(&self.key, b"hypergolix account piece\0", &[&[bucket]]))
    }

    /// `CK[0]` of an own dynamic object: from the account key and the object's address, which its
    /// random birth target makes unique. Nothing has to be stored for an object.
    pub(crate) fn chain_start(&self, dynamic: &Ghid) -> [u8; 32] {
        derive(&self.key, b"hypergolix own chain\0", &[dynamic.as_bytes()])
    }

    /// The first chain key of a later epoch of an own dynamic object.
    pub(crate) fn epoch_start(&self, dynamic: &Ghid, epoch: u32) -> [u8; 32] {
        let epoch = epoch.to_be_bytes();
        derive(&self.key, b"hypergolix own epoch\0", &[dynamic.as_bytes(), &epoch])
    }

    /// The secret of an own static object: from the account key and the container's salt.
    pub(crate) fn static_secret(&self, salt: &[u8; 32]) -> Secret {
        let okm: Zeroizing<[u8; 48]> =
            Zeroizing::new(derive(&self.key, b"hypergolix own static\0", &[salt]));
        let mut key = [0; 32];
        let mut seed = [0; 16];
        key.copy_from_slice(&okm[..32]);
        seed.copy_from_slice(&okm[32..]);
        Secret::new(self.identity.identity().suite(), key, seed)
    }
}

/// Makes an account: a fresh identity, a random account key, and the root object with a password
/// slot and a recovery slot. The writes have to be committed before the account is used.
///
/// Takes as long as scrypt does, half a second at the default cost, and in suite 1 the two seconds
/// that the search for keys takes.
///
/// # Errors
/// [`AccountError`].
pub fn create(
    password: &str,
    suite: Suite,
    cost: ScryptCost,
    entropy: &mut dyn Entropy,
) -> Result<(Account, Vec<Write>, RecoveryKey), AccountError> {
    check(password, cost)?;
    let mut seeds = Zeroizing::new([[0; 32]; 3]);
    seeds.iter_mut().for_each(|seed| entropy.fill(seed));
    let [sign, encrypt, exchange] = *seeds;
    let identity = PrivateIdentity::from_seeds(suite, sign, encrypt, exchange);
    create_for(identity, password, cost, entropy)
}

fn check(password: &str, cost: ScryptCost) -> Result<(), AccountError> {
    if password.chars().count() < PASSWORD_LEN_MIN {
        return Err(AccountError::PasswordTooShort);
    }
    if !cost.is_reasonable() {
        return Err(AccountError::Cost(cost.log_n));
    }
    Ok(())
}

/// Makes an account for an identity that exists, for example one made by the original library.
///
/// # Errors
/// [`AccountError`].
pub fn create_for(
    identity: PrivateIdentity,
    password: &str,
    cost: ScryptCost,
    entropy: &mut dyn Entropy,
) -> Result<(Account, Vec<Write>, RecoveryKey), AccountError> {
    check(password, cost)?;
    let suite = identity.suite();
    let mut turn = Turn::new(&Nothing, entropy, Time::default());
    let key = Zeroizing::new(turn.random::<32>());
    let recovery = RecoveryKey(Zeroizing::new(turn.random()));
    let birth = Ghid::from_address(turn.random());
    let user_id = DynamicBinding::dynamic_address(suite, &identity.ghid(), &birth);

    let slots =
        Slots::seal(&mut turn, &user_id, &key, &identity.to_bytes(), password, cost, &recovery.0);
    let secret = root_secret(suite, &identity.ghid());
    let container = Container::seal(&identity, &secret, turn.random(), &slots.encode());
    let frame = DynamicBinding::next(&identity, user_id, ROOT_COUNTER, &[container.ghid(), birth])
        .expect("a new address with its birth target last proves itself");
    let gidc = Unverified::parse(&identity.identity().encode())
        .ok()
        .and_then(|gidc| gidc.verify(None).ok())
        .expect("a fresh identity verifies");
    for object in [gidc, frame, container] {
        shelf::admit(&mut turn, &object)
            .expect("nothing is read from a store")
            .expect("the rules admit the first objects of an account");
    }
    turn.put(
        Table::Meta,
        META_ACCOUNT,
        [&user_id.as_bytes()[..], identity.ghid().as_bytes()].concat(),
    );
    Ok((Account { identity: Arc::new(identity), key, user_id }, turn.finish().writes, recovery))
}

/// What a store tells about its account without the password; `None` where there is no account.
///
/// # Errors
/// The store failed, or its account row is damaged.
pub fn summary(view: &dyn View) -> Result<Option<Summary>, ViewError> {
    let Some(row) = view.get(Table::Meta, META_ACCOUNT)? else {
        return Ok(None);
    };
    let damaged = || ViewError("the account row is damaged".into());
    let (user_id, fingerprint) = row.split_at_checked(Ghid::LEN).ok_or_else(damaged)?;
    Ok(Some(Summary {
        user_id: Ghid::from_bytes(user_id).map_err(|_| damaged())?,
        fingerprint: Ghid::from_bytes(fingerprint).map_err(|_| damaged())?,
    }))
}

/// Opens the account of a store. Takes as long as scrypt does.
///
/// # Errors
/// [`UnlockError`]; a wrong password, a damaged root and a hostile root differ.
pub fn unlock(view: &dyn View, password: &str) -> Result<Account, UnlockError> {
    unlock_with(view, |slots, user_id| slots.open_with_password(user_id, password))
}

/// Opens the account of a store with its recovery key.
///
/// # Errors
/// [`UnlockError`].
pub fn unlock_with_recovery_key(
    view: &dyn View,
    recovery: &RecoveryKey,
) -> Result<Account, UnlockError> {
    unlock_with(view, |slots, user_id| slots.open_with_recovery_key(user_id, &recovery.0))
}

/// Joins an account on a device that has nothing of it: `objects` is what makes the root object at
/// the address `user_id` readable, as any device that holds it sends it. The writes have to be
/// committed before the account is used.
///
/// # Errors
/// [`UnlockError`]: also for objects that do not prove that they are this account's root.
pub fn join(
    user_id: &Ghid,
    objects: &[Packed],
    password: &str,
    entropy: &mut dyn Entropy,
) -> Result<(Account, Vec<Write>), UnlockError> {
    let open = |slots: &Slots, user_id: &Ghid| slots.open_with_password(user_id, password);
    join_with(user_id, objects, entropy, open)
}

/// As [`join`], with the recovery key.
///
/// # Errors
/// [`UnlockError`].
pub fn join_with_recovery_key(
    user_id: &Ghid,
    objects: &[Packed],
    recovery: &RecoveryKey,
    entropy: &mut dyn Entropy,
) -> Result<(Account, Vec<Write>), UnlockError> {
    let open = |slots: &Slots, user_id: &Ghid| slots.open_with_recovery_key(user_id, &recovery.0);
    join_with(user_id, objects, entropy, open)
}

/// The counter of the newest frame of an account's root among `objects`; `None` if they do not prove
/// that they are it. Of several devices that hold the root, the one with the highest has the newest.
pub fn root_counter(user_id: &Ghid, objects: &[Packed]) -> Option<u64> {
    let root = Root::read(user_id, objects).ok()?;
    match root.frame.object() {
        Object::DynamicBinding(frame) => Some(frame.counter()),
        _ => None,
    }
}

/// The objects of a root, verified.
struct Root {
    identity: Identity,
    gidc: Verified,
    frame: Verified,
    container: Verified,
}

impl Root {
    fn read(user_id: &Ghid, objects: &[Packed]) -> Result<Self, UnlockError> {
        let parsed: Vec<Unverified> =
            objects.iter().filter_map(|bytes| Unverified::parse(bytes).ok()).collect();
        for gidc in parsed.iter().filter(|object| object.kind() == Kind::Identity) {
            let Ok(gidc) = gidc.clone().verify(None) else { continue };
            let Object::Identity(identity) = gidc.object() else { continue };
            let signed: Vec<Verified> = parsed
                .iter()
                .filter(|object| object.author() == Some(identity.ghid()))
                .filter_map(|object| object.clone().verify(Some(identity)).ok())
                .collect();
            let newest = signed
                .iter()
                .filter_map(|object| match object.object() {
                    Object::DynamicBinding(frame)
                        if frame.dynamic() == *user_id && frame.is_proven() =>
                    {
                        Some((frame.counter(), frame.target(), object))
                    }
                    _ => None,
                })
                .max_by_key(|(counter, ..)| *counter);
            if let Some((_, target, frame)) = newest
                && let Some(container) = signed.iter().find(|object| object.ghid() == target)
            {
                let (frame, container) = (frame.clone(), container.clone());
                return Ok(Self { identity: identity.clone(), gidc, frame, container });
            }
        }
        Err(UnlockError::Damaged("what was found under the user id is not an account"))
    }
}

fn join_with(
    user_id: &Ghid,
    objects: &[Packed],
    entropy: &mut dyn Entropy,
    open: impl FnOnce(&Slots, &Ghid) -> Result<Zeroizing<[u8; 32]>, SlotsError>,
) -> Result<(Account, Vec<Write>), UnlockError> {
    let root = Root::read(user_id, objects)?;
    let account = open_root(user_id, &root.identity, root.container.object(), open)?;
    let mut turn = Turn::new(&Nothing, entropy, Time::default());
    for object in [&root.gidc, &root.frame, &root.container] {
        shelf::admit(&mut turn, object)?
            .map_err(|_| UnlockError::Damaged("its objects do not fit together"))?;
    }
    turn.put(
        Table::Meta,
        META_ACCOUNT,
        [&user_id.as_bytes()[..], account.fingerprint().as_bytes()].concat(),
    );
    devices::draw_slot(&mut turn, devices::Drawn::Joining)?;
    Ok((account, turn.finish().writes))
}

fn unlock_with(
    view: &dyn View,
    open: impl FnOnce(&Slots, &Ghid) -> Result<Zeroizing<[u8; 32]>, SlotsError>,
) -> Result<Account, UnlockError> {
    let Some(Summary { user_id, fingerprint }) = summary(view)? else {
        return Err(UnlockError::NoAccount);
    };
    let author = stored_identity(view, &fingerprint)?;
    let head = shelf::stored_head(view, &user_id)?
        .ok_or(UnlockError::Damaged("its binding is missing"))?;
    let container = stored(view, &head.target, &author)?;
    open_root(&user_id, &author, container.object(), open)
}

fn open_root(
    user_id: &Ghid,
    author: &Identity,
    container: &Object,
    open: impl FnOnce(&Slots, &Ghid) -> Result<Zeroizing<[u8; 32]>, SlotsError>,
) -> Result<Account, UnlockError> {
    let slots = read_slots(author, container)?;
    let key = open(&slots, user_id)?;
    let identity = slots.open_identity(user_id, &key)?;
    let identity = PrivateIdentity::from_bytes(&identity)
        .map_err(|_| UnlockError::Damaged("its private keys cannot be read"))?;
    if identity.ghid() != author.ghid() {
        return Err(UnlockError::Damaged("its private keys belong to another identity"));
    }
    Ok(Account { identity: Arc::new(identity), key, user_id: *user_id })
}

fn read_slots(author: &Identity, container: &Object) -> Result<Slots, UnlockError> {
    let Object::Container(container) = container else {
        return Err(UnlockError::Damaged("its container is missing"));
    };
    let plain = container
        .open(&root_secret(author.suite(), &author.ghid()))
        .map_err(|_| UnlockError::Damaged("its container does not open"))?;
    Ok(Slots::decode(&plain)?)
}

/// Gives an account another password: one frame of its root. The old password opens nothing any
/// more, except in copies of the old root that somebody kept; the recovery key stays.
///
/// # Errors
/// [`ChangeError`].
pub fn change_password(
    view: &dyn View,
    account: &Account,
    password: &str,
    cost: ScryptCost,
    entropy: &mut dyn Entropy,
) -> Result<Vec<Write>, ChangeError> {
    check(password, cost)?;
    let me = account.identity();
    let head = shelf::stored_head(view, &account.user_id)
        .map_err(UnlockError::from)?
        .ok_or(UnlockError::Damaged("its binding is missing"))?;
    let container = stored(view, &head.target, me.identity())?;
    let mut slots = read_slots(me.identity(), container.object())?;
    let mut turn = Turn::new(view, entropy, Time::default());
    slots.replace_password(&mut turn, &account.user_id, &account.key, password, cost);
    let slot = devices::slot(&mut turn, 1).map_err(UnlockError::from)?;
    let secret = root_secret(me.suite(), &me.ghid());
    let container = Container::seal(me, &secret, turn.random(), &slots.encode());
    let counter = ((head.counter >> 8) + 1) << 8 | u64::from(slot);
    let targets = [container.ghid(), head.target, head.birth];
    let frame = DynamicBinding::next(me, account.user_id, counter, &targets)
        .map_err(|_| UnlockError::Damaged("its binding is not ours"))?;
    for object in [frame, container] {
        shelf::admit(&mut turn, &object)
            .map_err(UnlockError::from)?
            .map_err(|_| UnlockError::Damaged("the rules refuse its new frame"))?;
    }
    Feed::open(&mut turn)
        .and_then(|mut feed| feed.touch(&mut turn, &account.user_id))
        .map_err(UnlockError::from)?;
    Ok(turn.finish().writes)
}

fn stored_identity(view: &dyn View, fingerprint: &Ghid) -> Result<Identity, UnlockError> {
    let missing = UnlockError::Damaged("its identity is missing");
    let Some(bytes) = view.get(Table::Objects, fingerprint.as_bytes())? else {
        return Err(missing);
    };
    Identity::from_bytes(&bytes).map_err(|_| missing)
}

fn stored(view: &dyn View, ghid: &Ghid, author: &Identity) -> Result<Verified, UnlockError> {
    let bytes = view
        .get(Table::Objects, ghid.as_bytes())?
        .ok_or(UnlockError::Damaged("its container is missing"))?;
    Unverified::parse(&bytes)
        .ok()
        .and_then(|object| object.verify(Some(author)).ok())
        .ok_or(UnlockError::Damaged("its container does not verify"))
}

/// The root's container is sealed like any other, under a key that everybody can derive: what it
/// holds is sealed by itself, and a new device has to read it before it has any key.
fn root_secret(suite: Suite, fingerprint: &Ghid) -> Secret {
    let okm: [u8; 48] = derive(&[0; 32], b"hypergolix root\0", &[fingerprint.as_bytes()]);
    let mut key = [0; 32];
    let mut seed = [0; 16];
    key.copy_from_slice(&okm[..32]);
    seed.copy_from_slice(&okm[32..]);
    Secret::new(suite, key, seed)
}

/// A store with nothing in it.
pub(crate) struct Nothing;

impl View for Nothing {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(None)
    }

    fn range(&self, _: Table, _: &[u8], _: &[u8], _: usize) -> Result<Vec<Row>, ViewError> {
        Ok(Vec::new())
    }

    fn len(&self, _: Table) -> Result<u64, ViewError> {
        Ok(0)
    }
}
