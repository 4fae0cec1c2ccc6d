//! Signatures: at once where they cost microseconds, later where they cost milliseconds.
//!
//! A signature is no part of an object's address, so everything can be decided before it exists. In
//! suite 1 the engine leaves its place empty and says which ones are missing; the node makes them on
//! other threads, puts them in, and only then commits and sends.

use std::cell::RefCell;
use std::collections::BTreeMap;

use golix::object::set_signature;
use golix::{Ghid, Identity, PrivateIdentity, Signer, Suite};

use crate::effect::Effect;
use crate::message::{Message, Packed};
use crate::view::{Table, View, ViewError, Write};

/// Signs for the engine.
pub(crate) struct Later<'a> {
    identity: &'a PrivateIdentity,
    unsigned: &'a RefCell<Vec<Ghid>>,
}

impl<'a> Later<'a> {
    pub(crate) fn new(identity: &'a PrivateIdentity, unsigned: &'a RefCell<Vec<Ghid>>) -> Self {
        Self { identity, unsigned }
    }
}

impl Signer for Later<'_> {
    fn identity(&self) -> &Identity {
        self.identity.identity()
    }

    fn sign_object(&self, object: &Ghid, out: &mut Vec<u8>) {
        match self.identity.suite() {
            Suite::Suite3 => self.identity.sign_object(object, out),
            Suite::Suite1 => {
                self.unsigned.borrow_mut().push(*object);
                leave_empty(self.identity.suite(), out);
            }
        }
    }
}

/// Makes objects for their addresses alone.
pub(crate) struct Nobody<'a>(pub(crate) &'a Identity);

impl Signer for Nobody<'_> {
    fn identity(&self) -> &Identity {
        self.0
    }

    fn sign_object(&self, _: &Ghid, out: &mut Vec<u8>) {
        leave_empty(self.0.suite(), out);
    }
}

fn leave_empty(suite: Suite, out: &mut Vec<u8>) {
    out.resize(out.len() + suite.signature_len(), 0);
}

/// Signatures that outcomes left out, by the addresses of their objects.
#[derive(Debug, Default)]
pub struct Signatures(BTreeMap<Ghid, Vec<u8>>);

impl Signatures {
    /// Adds one.
    pub fn insert(&mut self, object: Ghid, signature: Vec<u8>) {
        self.0.insert(object, signature);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows of `view` that these complete: a later input may have dropped some again.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn writes(&self, view: &dyn View) -> Result<Vec<Write>, ViewError> {
        let mut writes = Vec::with_capacity(self.0.len());
        for (object, signature) in &self.0 {
            let key = object.as_bytes().to_vec();
            if let Some(mut bytes) = view.get(Table::Objects, &key)? {
                set_signature(&mut bytes, signature)
                    .map_err(|error| ViewError(error.to_string()))?;
                writes.push(Write { table: Table::Objects, key, value: Some(bytes) });
            }
        }
        Ok(writes)
    }

    /// Completes the objects that an effect sends.
    pub fn complete(&self, effect: &mut Effect) {
        if let Effect::Send {
            message:
                Message::Publish { objects, .. }
                | Message::Object { objects, .. }
                | Message::Event { objects, .. },
            ..
        } = effect
        {
            for object in objects {
                self.complete_object(object);
            }
        }
    }

    fn complete_object(&self, object: &mut Packed) {
        let len = Suite::Suite1.signature_len();
        // The address of an object stands right before its signature.
        if let Some(start) = object.len().checked_sub(len + Ghid::LEN)
            && let Ok(ghid) = Ghid::from_bytes(&object[start..start + Ghid::LEN])
            && let Some(signature) = self.0.get(&ghid)
        {
            // Something else with these bytes in this place stays what it is.
            let _ = set_signature(object, signature);
        }
    }
}
