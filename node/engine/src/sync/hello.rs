//! The beginning of a link: nonces, blinded interests, proofs.
//!
//! A device never says who it is. Each side names the identities that *it* looks for, blinded with
//! both nonces; the other side recognises its own and proves it. Who does not know an identity's
//! address learns nothing but how many somebody looks for.

use golix::object::{Object, Unverified};
use golix::{Ghid, Identity, PrivateIdentity, Suite};
use sha2::{Digest, Sha512};

use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::message::{Address, Cursor, LIST_MAX, Message, NOWHERE, Packed, Role, VERSION};
use crate::sync::Links;
use crate::timer::Timer;
use crate::turn::Turn;
use crate::view::ViewError;

const LABEL_INTEREST: &[u8] = b"hypergolix interest\0";
const LABEL_PROOF: &str = "hypergolix link proof";

impl Links {
    /// A link is up: says hello.
    pub(crate) fn greet(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        device: Vec<u8>,
        remote: bool,
        position: u64,
        role: Role,
    ) {
        let nonce = turn.random();
        self.add(link, device, remote, nonce, turn.now(), position);
        self.send(turn, link, Message::Hello { version: VERSION, nonce, role });
        self.watch(turn, link);
    }

    /// The other side said hello; whether it may go on.
    pub(crate) fn greeted(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        version: u16,
        nonce: [u8; 32],
        role: Role,
    ) -> bool {
        let Some(state) = self.get_mut(link) else {
            return false;
        };
        if version != VERSION {
            self.close(turn, link, "another version of the link protocol", false);
            return false;
        }
        if state.their_nonce.is_some() || nonce == state.our_nonce {
            self.close(turn, link, "a second or reflected hello", true);
            return false;
        }
        state.their_nonce = Some(nonce);
        state.role = role;
        true
    }

    /// Subscribes to addresses. Only the last message goes back to the cursor: each time the other side
    /// tells again of everything since then.
    pub(super) fn send_subscriptions(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        addresses: &[Address],
        cursor: Option<Cursor>,
    ) {
        let nowhere = cursor.map(|_| NOWHERE);
        let mut chunks = addresses.chunks(LIST_MAX).peekable();
        while let Some(chunk) = chunks.next() {
            let cursor = if chunks.peek().is_some() { nowhere } else { cursor };
            let addresses = chunk.to_vec();
            self.send(turn, link, Message::Subscribe { addresses, cursor });
        }
    }

    /// Whether a proof by the other side holds: `device` is ours.
    pub(crate) fn proves(
        &self,
        link: LinkId,
        device: &[u8],
        identity: &Identity,
        signature: &[u8],
    ) -> bool {
        let Some(state) = self.get(link) else {
            return false;
        };
        state.their_nonce.is_some_and(|theirs| {
            let statement = statement(&theirs, &state.our_nonce, &state.device, device);
            identity.verify_statement(LABEL_PROOF, &statement, signature)
        })
    }
}

impl Engine {
    pub(crate) fn link_up(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        device: Vec<u8>,
        remote: bool,
    ) {
        self.links.greet(turn, link, device, remote, self.feed.last(), Role::Node);
    }

    pub(super) fn hello(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        version: u16,
        nonce: [u8; 32],
        role: Role,
    ) -> Result<(), ViewError> {
        if !self.links.greeted(turn, link, version, nonce, role) {
            return Ok(());
        }
        self.ask_provider(turn, link);
        self.listen_soon(turn);
        self.fetches.linked(turn, &mut self.links, link);
        if let Role::Persister { epoch } = role {
            // One that nobody configured is told nothing, unless somebody whom we look for uses it.
            let ours = self.links.get(link).is_some_and(|state| state.remote);
            return if ours {
                self.persister_up(turn, link, epoch)
            } else {
                self.guest_up(turn, link)
            };
        }
        let mut identities: Vec<Ghid> = self.outbox.recipients();
        identities.extend(self.follows.all_sources());
        // Another device of our own account.
        identities.push(self.me);
        self.look_for(turn, link, identities);
        Ok(())
    }

    /// Names identities that we look for, once each.
    pub(super) fn look_for(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        identities: impl IntoIterator<Item = Ghid>,
    ) {
        let Some(state) = self.links.get_mut(link) else {
            return;
        };
        let Some(theirs) = state.their_nonce.filter(|_| state.role == Role::Node) else {
            return;
        };
        let ours = state.our_nonce;
        let tags: Vec<[u8; 16]> = identities
            .into_iter()
            .filter(|identity| state.interests.insert(*identity))
            .map(|identity| tag(&ours, &theirs, &identity))
            .collect();
        for tags in tags.chunks(LIST_MAX) {
            self.links.send(turn, link, Message::Interests { tags: tags.to_vec() });
        }
    }

    /// Proves our identity to whoever looks for it.
    pub(super) fn interests(&mut self, turn: &mut Turn<'_>, link: LinkId, tags: &[[u8; 16]]) {
        let Some(state) = self.links.get_mut(link) else {
            return;
        };
        let Some(theirs) = state.their_nonce else {
            return;
        };
        if state.proved || !tags.contains(&tag(&theirs, &state.our_nonce, &self.me)) {
            return;
        }
        self.prove(turn, link);
    }

    /// Says who we are.
    pub(super) fn prove(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        let Some(state) = self.links.get_mut(link) else {
            return;
        };
        let Some(theirs) = state.their_nonce else {
            return;
        };
        state.proved = true;
        let statement = statement(&state.our_nonce, &theirs, &self.device, &state.device);
        let identity = self.account.identity();
        match identity.suite() {
            Suite::Suite3 => {
                let message = proof(identity, &statement);
                self.links.send(turn, link, message);
            }
            Suite::Suite1 => turn.effect(Effect::Prove { link, statement }),
        }
        self.say_where(turn, link);
    }

    /// The other side claims an identity that we look for.
    pub(super) fn proof(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        identity: &[u8],
        signature: &[u8],
    ) -> Result<(), ViewError> {
        let Some(state) = self.links.get_mut(link) else {
            return Ok(());
        };
        if state.their_nonce.is_none() {
            return Ok(());
        }
        let Ok(identity) = Identity::from_bytes(identity) else {
            self.links.close(turn, link, "a proof without an identity", true);
            return Ok(());
        };
        let ghid = identity.ghid();
        let asked = state.interests.contains(&ghid);
        if !asked || !self.links.proves(link, &self.device, &identity, signature) {
            self.links.close(turn, link, "a proof that proves nothing", true);
            return Ok(());
        }
        let Some(state) = self.links.get_mut(link) else {
            return Ok(());
        };
        if !state.proven.insert(ghid) {
            return Ok(());
        }
        self.searches.found(&ghid);
        // Its persisters need not be visited any longer.
        self.search_soon(turn);
        self.listen_soon(turn);
        self.keep_identity(turn, &identity)?;
        self.keep_route_of(turn, link)?;
        if ghid == self.me {
            return self.own_device_up(turn, link);
        }
        self.subscribe_at(turn, link, &ghid)?;
        self.send_owed(turn, link, ghid)
    }

    /// Stores a GIDC: others' objects cannot be verified or sealed to without it.
    pub(crate) fn keep_identity(
        &mut self,
        turn: &mut Turn<'_>,
        identity: &Identity,
    ) -> Result<(), ViewError> {
        let gidc = Unverified::parse(&identity.encode())
            .ok()
            .and_then(|gidc| gidc.verify(None).ok())
            .filter(|gidc| matches!(gidc.object(), Object::Identity(_)));
        if let Some(gidc) = gidc
            && let Err(rejection) = self.store(turn, &gidc)?
        {
            turn.log("an identity was refused", rejection.to_string());
        }
        Ok(())
    }

    /// Subscribes to what we follow at an identity, and compares what both sides hold.
    fn subscribe_at(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        source: &Ghid,
    ) -> Result<(), ViewError> {
        let addresses = self.follows.at(source);
        if addresses.is_empty() {
            return Ok(());
        }
        // Without a cursor of ours the comparison below finds everything.
        let cursor = self.links.cursor(turn, link)?.unwrap_or(NOWHERE);
        let addresses: Vec<Address> = addresses.iter().copied().map(Address).collect();
        self.links.send_subscriptions(turn, link, &addresses, Some(cursor));
        self.compare(turn, link)?;
        self.compare_regularly(turn, link);
        Ok(())
    }

    /// Sees to it that a link where we follow something has its timer for comparisons.
    pub(super) fn compare_regularly(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        if let Some(state) = self.links.get_mut(link)
            && !std::mem::replace(&mut state.compares, true)
        {
            turn.effect(Effect::SetTimer {
                timer: Timer::Reconcile(link),
                at: turn.now() + self.config.reconcile_interval,
            });
        }
    }

    /// Tells links what became interesting or followed in this turn.
    pub(crate) fn tell_links_of_interests(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        let interests = self.links.take_new_interests();
        let follows = self.links.take_new_follows();
        if !interests.is_empty() {
            self.search_soon(turn);
            self.listen_soon(turn);
        }
        if !follows.is_empty() {
            self.follow_at_persisters(turn, &follows);
        }
        let owed: Vec<Ghid> =
            interests.iter().copied().filter(|identity| self.outbox.owes(identity)).collect();
        for link in self.links.persisters() {
            self.seek(turn, link, interests.iter().copied());
            self.owed_at(turn, link, &owed)?;
        }
        for link in self.links.guests_of(&interests) {
            self.owed_at(turn, link, &owed)?;
        }
        for link in self.links.ids() {
            let Some(state) = self.links.get(link) else {
                continue;
            };
            let proven = state.proven.clone();
            self.look_for(turn, link, interests.iter().copied());
            for (source, addresses) in &follows {
                if proven.contains(source) {
                    let addresses =
                        addresses.iter().copied().map(crate::message::Address).collect();
                    // No cursor: the state as it is now, then every change.
                    let message = Message::Subscribe { addresses, cursor: None };
                    self.links.send(turn, link, message);
                    self.compare_regularly(turn, link);
                }
            }
            if proven.contains(&self.me) {
                self.follow_at_own_device(turn, link, &follows);
            }
            for identity in interests.intersection(&proven) {
                self.send_owed(turn, link, *identity)?;
            }
        }
        Ok(())
    }
}

/// The proof that signs `statement`.
pub(crate) fn proof(identity: &PrivateIdentity, statement: &[u8]) -> Message {
    Message::Proof {
        identity: Packed::from(identity.identity().encode()),
        signature: Packed::from(identity.sign_statement(LABEL_PROOF, statement)),
    }
}

/// What `seeker`'s side calls an identity on this link.
fn tag(seeker: &[u8; 32], other: &[u8; 32], identity: &Ghid) -> [u8; 16] {
    let digest = Sha512::new()
        .chain_update(LABEL_INTEREST)
        .chain_update(seeker)
        .chain_update(other)
        .chain_update(identity)
        .finalize();
    digest[..16].try_into().expect("16 of 64 bytes")
}

/// What a proof signs: nobody can use it on another link, in the other direction, or between
/// other devices. Device keys have different lengths, so their lengths are part of it.
fn statement(
    prover: &[u8; 32],
    seeker: &[u8; 32],
    prover_device: &[u8],
    seeker_device: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(80 + prover_device.len() + seeker_device.len());
    bytes.extend_from_slice(prover);
    bytes.extend_from_slice(seeker);
    for device in [prover_device, seeker_device] {
        bytes.extend_from_slice(&(device.len() as u64).to_be_bytes());
        bytes.extend_from_slice(device);
    }
    bytes
}
