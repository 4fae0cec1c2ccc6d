//! A peer that a test plays itself: says what it likes, signs what it likes.

use std::sync::Arc;

use golix::object::{Container, DynamicBinding, Request as Sealed, RequestBody, Verified};
use golix::{ChainKey, Ghid, Identity, PrivateIdentity, Suite};
use hypergolix_engine::message::{Address, Packed, Role, VERSION};
use hypergolix_engine::view::Table;
use hypergolix_engine::{Input, LinkId, Message};
use hypergolix_ipc::ApiId;
use sha2::{Digest, Sha512};

use super::World;

pub fn identity(seed: u8) -> Arc<PrivateIdentity> {
    let (sign, encrypt, exchange) = ([seed; 32], [seed ^ 0x55; 32], [seed ^ 0xaa; 32]);
    Arc::new(PrivateIdentity::from_seeds(Suite::Suite3, sign, encrypt, exchange))
}

/// One link of a played peer to a node.
pub struct Peer {
    pub node: usize,
    pub link: LinkId,
    pub me: Arc<PrivateIdentity>,
    pub device: Vec<u8>,
    pub nonce: [u8; 32],
    /// The node's.
    pub theirs: [u8; 32],
    pub role: Role,
}

impl Peer {
    /// Links and greets. The identity follows from `seed`.
    pub fn link(world: &mut World, node: usize, seed: u8) -> Self {
        let mut peer = Self::silent(world, node, seed);
        peer.greet(world);
        peer
    }

    /// A persister of the node's choice.
    pub fn persister(world: &mut World, node: usize, seed: u8, epoch: u64) -> Self {
        let mut peer = Self::played(world, node, seed, true);
        peer.role = Role::Persister { epoch };
        peer.greet(world);
        peer
    }

    /// Links and says nothing.
    pub fn silent(world: &mut World, node: usize, seed: u8) -> Self {
        Self::played(world, node, seed, false)
    }

    fn played(world: &mut World, node: usize, seed: u8, remote: bool) -> Self {
        let device = vec![seed | 0x80; 38];
        let link = world.play(node, device.clone(), remote);
        let nonce = Sha512::digest(link.0.to_be_bytes())[..32].try_into().expect("32 bytes");
        let mut peer = Self {
            node,
            link,
            me: identity(seed),
            device,
            nonce,
            theirs: [0; 32],
            role: Role::Node,
        };
        match peer.heard(world).as_slice() {
            [Message::Hello { version: VERSION, nonce, .. }] => peer.theirs = *nonce,
            other => panic!("a node greets first: {other:?}"),
        }
        peer
    }

    pub fn greet(&mut self, world: &mut World) {
        let nonce = self.nonce;
        self.say(world, Message::Hello { version: VERSION, nonce, role: self.role });
    }

    pub fn say(&self, world: &mut World, message: Message) {
        let bytes = message.encode();
        let message = Message::decode(&bytes).expect("well formed");
        world.input(self.node, Input::LinkMessage { link: self.link, message });
    }

    /// What the node sent since the last time.
    pub fn heard(&self, world: &mut World) -> Vec<Message> {
        world.played.get_mut(&(self.node, self.link)).map(std::mem::take).unwrap_or_default()
    }

    pub fn is_up(&self, world: &World) -> bool {
        world.played.contains_key(&(self.node, self.link))
    }

    /// The tag by which this side looks for an identity.
    pub fn tag(&self, identity: &Ghid) -> [u8; 16] {
        tag(&self.nonce, &self.theirs, identity)
    }

    pub fn looks_for(&self, tags: &[[u8; 16]], identity: &Ghid) -> bool {
        tags.contains(&tag(&self.theirs, &self.nonce, identity))
    }

    pub fn proof(&self, world: &World) -> Message {
        let statement =
            statement(&self.nonce, &self.theirs, &self.device, &world.nodes[self.node].device);
        let signature = self.me.sign_statement("hypergolix link proof", &statement).into();
        Message::Proof { identity: self.gidc(), signature }
    }

    pub fn prove(&self, world: &mut World) {
        let proof = self.proof(world);
        self.say(world, proof);
        assert!(self.is_up(world), "the proof was asked for: {:?}", world.closed);
    }

    pub fn gidc(&self) -> Packed {
        Packed::from(self.me.identity().encode())
    }

    /// Publishes, and returns the results.
    pub fn publish(&self, world: &mut World, objects: Vec<Packed>) -> Vec<u32> {
        self.heard(world);
        self.say(world, Message::Publish { id: 77, objects });
        self.heard(world)
            .into_iter()
            .find_map(|message| match message {
                Message::Published { id: 77, results } => Some(results),
                _ => None,
            })
            .expect("an answer")
    }

    pub fn get(&self, world: &mut World, address: Ghid) -> Vec<Packed> {
        self.heard(world);
        self.say(world, Message::Get { id: 78, address: Address(address) });
        self.heard(world)
            .into_iter()
            .find_map(|message| match message {
                Message::Object { id: 78, objects } => Some(objects),
                _ => None,
            })
            .expect("an answer")
    }

    /// A sealed request to the node.
    pub fn request(&self, world: &World, body: &RequestBody, ephemeral: u64) -> Packed {
        let recipient = identity_of(world, self.node);
        let mut bytes = [7; 64];
        bytes[..8].copy_from_slice(&ephemeral.to_be_bytes());
        pack(&Sealed::seal(&self.me, &recipient, body, bytes).expect("sealed"))
    }
}

pub fn tag(seeker: &[u8; 32], other: &[u8; 32], identity: &Ghid) -> [u8; 16] {
    let digest = Sha512::new()
        .chain_update(b"hypergolix interest\0")
        .chain_update(seeker)
        .chain_update(other)
        .chain_update(identity)
        .finalize();
    digest[..16].try_into().expect("16 bytes")
}

pub fn statement(prover: &[u8; 32], seeker: &[u8; 32], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = [&prover[..], seeker].concat();
    for device in [from, to] {
        bytes.extend_from_slice(&(device.len() as u64).to_be_bytes());
        bytes.extend_from_slice(device);
    }
    bytes
}

pub fn identity_of(world: &World, node: usize) -> Identity {
    let node = &world.nodes[node];
    let key = (Table::Objects, node.account.fingerprint().as_bytes().to_vec());
    Identity::from_bytes(&node.disk.0[&key]).expect("stored")
}

pub fn pack(object: &Verified) -> Packed {
    Packed::from(object.bytes().to_vec())
}

pub fn content(state: &[u8], dynamic: bool) -> Vec<u8> {
    [&[0, 0, 0, 0, 1, u8::from(dynamic), 7][..], &ApiId::JSON.0, state].concat()
}

/// A dynamic object of a played peer.
pub struct Thing {
    pub me: Arc<PrivateIdentity>,
    pub birth: Ghid,
    pub dynamic: Ghid,
    pub chain: ChainKey,
}

impl Thing {
    pub fn new(me: &Arc<PrivateIdentity>, number: u64) -> Self {
        let birth = Ghid::of(&number.to_be_bytes());
        let dynamic = DynamicBinding::dynamic_address(Suite::Suite3, &me.ghid(), &birth);
        Self { me: Arc::clone(me), birth, dynamic, chain: ChainKey::new(0, 0, [9; 32]) }
    }

    /// Frame and container of a step; `salt` makes them different ones.
    pub fn step(&self, step: u64, state: &[u8], salt: u8) -> (Verified, Verified) {
        self.sealed(step, &content(state, true), salt)
    }

    pub fn sealed(&self, step: u64, plain: &[u8], salt: u8) -> (Verified, Verified) {
        let secret = self
            .chain
            .advance_to(&self.dynamic, step)
            .expect("near")
            .container_secret(&self.dynamic);
        let container = Container::seal(&self.me, &secret, [salt; 32], plain);
        let targets = [container.ghid(), self.birth];
        let frame =
            DynamicBinding::next(&self.me, self.dynamic, step << 8 | 1, &targets).expect("proven");
        (frame, container)
    }

    pub fn handshake(&self, step: u64) -> RequestBody {
        let chain = self.chain.advance_to(&self.dynamic, step).expect("near");
        RequestBody::Handshake { target: self.dynamic, secret: chain.to_handshake() }
    }
}

/// A link from which a thing was shared at step 1, and followed: both sides are proven.
pub fn shares(world: &mut World, node: usize, seed: u8) -> (Peer, Thing) {
    let peer = Peer::link(world, node, seed);
    let thing = Thing::new(&peer.me, u64::from(seed));
    let (frame, container) = thing.step(1, b"first", 1);
    let request = peer.request(world, &thing.handshake(1), 1);
    let results = peer.publish(world, vec![peer.gidc(), request, pack(&frame), pack(&container)]);
    assert_eq!(results, [0, 0, 0, 0]);
    peer.prove(world);
    (peer, thing)
}
