//! Objects of applications: create, read, update, freeze, hold, delete.

mod resolve;

use std::collections::BTreeSet;

use golix::object::{Container, Debinding, DynamicBinding, Object, StaticBinding, Verified};
use golix::persister::{Change, Notice, Plan, Rejection};
use golix::{ChainKey, Ghid, Secret, Suite};
use hypergolix_ipc::{ConnectionId, ErrorCode, IpcError, ObjectRecord, Reply};
use zeroize::Zeroizing;

pub(crate) use resolve::{Resolved, frame_salt};

use crate::content::Content;
use crate::engine::{Engine, News};
use crate::keyring::Record;
use crate::limits;
use crate::shelf;
use crate::signer::Nobody;
use crate::sync::Feed;
use crate::turn::Turn;
use crate::version_vector::VersionVector;
use crate::view::ViewError;

/// An answer, or the store failed.
pub(crate) type Answer = Result<Result<Reply, IpcError>, ViewError>;

impl Engine {
    /// Asks the rules to admit an object, stages the plan, and takes note of what changed.
    pub(crate) fn store(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Verified,
    ) -> Result<Result<Plan, Rejection>, ViewError> {
        let deleted = self.deleted_by(turn, object)?;
        let plan = match shelf::admit(turn, object)? {
            Ok(plan) => plan,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if let Some((address, debinding)) = deleted {
            Self::note_deletion(turn, &address, &debinding)?;
        }
        if let Object::Container(container) = object.object() {
            self.arrived.insert(object.ghid());
            self.contents.note_verified(container);
        }
        if let Object::StaticBinding(binding) = object.object() {
            // Its container may be here already, as the state of a dynamic object.
            self.arrived.insert(binding.target());
            if binding.binder() == self.me {
                Self::forget_deletion(turn, &binding.target())?;
            }
        }
        let mut gone = BTreeSet::new();
        for notice in &plan.notices {
            match notice {
                Notice::Updated { dynamic, .. } => self.changed(turn, *dynamic, None)?,
                Notice::Gone { address, debinding: Some(_) } => {
                    gone.insert(*address);
                }
                // Every push drops a container; those that were objects of their own follow below.
                Notice::Gone { debinding: None, .. }
                | Notice::Bound { .. }
                | Notice::Request { .. }
                | Notice::RequestGone { .. } => {}
            }
        }
        for change in &plan.changes {
            // A static object (these are in the feed) ends with its last static binding, also if a
            // dynamic object has the same container as its state.
            if let Change::Release { target, .. } = change
                && Feed::knows(turn, target)?
                && !shelf::is_object(turn, target)?
            {
                gone.insert(*target);
            }
        }
        for address in gone {
            self.gone(turn, address)?;
        }
        Ok(Ok(plan))
    }

    pub(crate) fn new_object(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        record: ObjectRecord,
    ) -> Answer {
        if let Err(error) = check_record(&record) {
            return Ok(Err(error));
        }
        let private = if record.private {
            match self.apps.token(connection) {
                Some(token) => Some(token),
                None => {
                    return Ok(Err(ipc_error(
                        "a private object needs an application token; register one first",
                    )));
                }
            }
        } else {
            None
        };
        let content = Content {
            epoch: 0,
            dynamic: record.dynamic,
            private,
            legroom: legroom(record.legroom),
            api: record.api,
            seen: VersionVector::default(),
            again: false,
            state: record.state,
        };
        let address = if record.dynamic {
            self.create_dynamic(turn, &content, connection)?
        } else {
            self.create_static(turn, &content)?
        };
        Ok(match address {
            Ok(address) => {
                if private.is_none() {
                    self.announce_to_own_apps(address, content.api, connection);
                }
                Ok(Reply::Address(address))
            }
            Err(rejection) => Err(refused(rejection)),
        })
    }

    /// Binding first, container second: a container that nothing binds is refused. The birth
    /// target is a random address; nothing is ever stored under it, and it makes the dynamic
    /// address, hence the object's keys, unique.
    fn create_dynamic(
        &mut self,
        turn: &mut Turn<'_>,
        content: &Content,
        connection: ConnectionId,
    ) -> Result<Result<Ghid, Rejection>, ViewError> {
        let birth = Ghid::from_address(turn.random());
        let suite = self.account.suite();
        let dynamic = DynamicBinding::dynamic_address(suite, &self.me, &birth);
        let chain = self.own_chain(turn, &dynamic, 1)?;
        let (frame, container) = self.seal_step(turn, &chain, dynamic, content, &[birth]);
        self.contents.put(dynamic, container.ghid(), content.clone());
        for object in [frame, container] {
            if let Err(rejection) = self.store(turn, &object)? {
                return Ok(Err(rejection));
            }
        }
        Self::wrote(turn, &dynamic)?;
        self.list_soon(turn, &dynamic);
        self.known_to(dynamic, connection);
        Ok(Ok(dynamic))
    }

    /// Frame and container of one step of an own object; `before` is what the frame's target vector
    /// goes on with, the birth target last.
    pub(crate) fn seal_step(
        &mut self,
        turn: &mut Turn<'_>,
        chain: &ChainKey,
        dynamic: Ghid,
        content: &Content,
        before: &[Ghid],
    ) -> (Verified, Verified) {
        let mut rest = before.to_vec();
        let secret = match self.account.suite() {
            Suite::Suite3 => chain.container_secret(&dynamic),
            Suite::Suite1 => {
                let salt = Ghid::from_address(turn.random());
                rest.insert(rest.len() - 1, salt);
                chain.salted_container_secret(&dynamic, &salt)
            }
        };
        let content = Content { epoch: chain.epoch(), ..content.clone() };
        let me = &self.signer();
        let container = Container::seal(me, &secret, turn.random(), &content.encode());
        rest.insert(0, container.ghid());
        let frame = DynamicBinding::next(me, dynamic, self.counter(chain.index()), &rest)
            .expect("the birth target proves the address");
        (frame, container)
    }

    fn create_static(
        &mut self,
        turn: &mut Turn<'_>,
        content: &Content,
    ) -> Result<Result<Ghid, Rejection>, ViewError> {
        let salt = turn.random();
        let suite = self.account.suite();
        let secret = match suite {
            Suite::Suite3 => self.account.static_secret(&salt),
            // No salt to derive it from again: it has to be kept.
            Suite::Suite1 => Secret::new(suite, turn.random(), turn.random()),
        };
        let me = &self.signer();
        let container = Container::seal(me, &secret, salt, &content.encode());
        let address = container.ghid();
        let binding = StaticBinding::make(me, address);
        if suite == Suite::Suite1 {
            let body = Zeroizing::new(secret.to_bytes());
            self.keyring.put(turn, Record::Secret, address.as_bytes(), &body[..])?;
        }
        for object in [binding, container] {
            if let Err(rejection) = self.store(turn, &object)? {
                return Ok(Err(rejection));
            }
        }
        self.feed.touch(turn, &address)?;
        Ok(Ok(address))
    }

    pub(crate) fn record_of(resolved: Resolved) -> ObjectRecord {
        ObjectRecord {
            address: Some(resolved.address),
            author: Some(resolved.binder),
            private: resolved.content.private.is_some(),
            dynamic: resolved.dynamic,
            legroom: resolved.content.legroom,
            api: resolved.content.api,
            link: false,
            state: resolved.content.state,
        }
    }

    pub(crate) fn update_object(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        record: ObjectRecord,
    ) -> Answer {
        if let Err(error) = check_record(&record) {
            return Ok(Err(error));
        }
        let Some(address) = record.address else {
            return Ok(Err(ipc_error("an update names the object's address")));
        };
        let Some(resolved) = self.visible(turn, connection, &address)? else {
            return Ok(Err(does_not_exist(&address)));
        };
        if !resolved.dynamic {
            return Ok(Err(ipc_error("a static object cannot be updated")));
        }
        if resolved.binder != self.me {
            return Ok(Err(IpcError {
                code: ErrorCode::InconsistentAuthor,
                text: "only the creator of an object can update it".into(),
            }));
        }
        if record.private && resolved.content.private.is_none() {
            return Ok(Err(ipc_error("a public object cannot become private")));
        }
        let Some(head) = shelf::head(turn, &address)? else {
            return Ok(Err(does_not_exist(&address)));
        };
        let step = (head.counter >> 8) + 1;
        if step > u64::MAX >> 8 {
            return Ok(Err(ipc_error("this object has had its last update; make a new one")));
        }
        let content = Content {
            epoch: 0,
            dynamic: true,
            private: if record.private { resolved.content.private } else { None },
            legroom: match record.legroom {
                0 => resolved.content.legroom,
                asked => asked,
            },
            api: resolved.content.api,
            seen: self.seen_before(&head, &resolved.content),
            again: false,
            state: record.state,
        };
        let chain = self.own_chain(turn, &address, step)?;
        let before = [head.target, head.birth];
        let (frame, container) = self.seal_step(turn, &chain, address, &content, &before);
        self.contents.put(address, container.ghid(), content);
        for object in [frame, container] {
            if let Err(rejection) = self.store(turn, &object)? {
                self.contents.forget(&address);
                return Ok(Err(refused(rejection)));
            }
        }
        Self::wrote(turn, &address)?;
        self.list_soon(turn, &address);
        self.known_to(address, connection);
        Ok(Ok(Reply::Done))
    }

    /// A binding of one's own to the container that the object points at now.
    pub(crate) fn freeze(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        address: Ghid,
    ) -> Answer {
        let Some(resolved) = self.visible(turn, connection, &address)? else {
            return Ok(Err(does_not_exist(&address)));
        };
        if !resolved.dynamic {
            return Ok(Err(ipc_error("a static object is frozen already")));
        }
        let copy = resolved.container;
        // The secret of this one step, which says nothing about any other.
        self.keyring.put(turn, Record::Secret, copy.as_bytes(), &resolved.secret.to_bytes())?;
        Ok(self.bind(turn, copy)?.map(|_| Reply::Address(copy)))
    }

    pub(crate) fn hold(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        address: Ghid,
    ) -> Answer {
        if self.visible(turn, connection, &address)?.is_none() {
            return Ok(Err(does_not_exist(&address)));
        }
        self.bind(turn, address)
    }

    /// By its creator: the binding goes, own holds too. By anybody else: their own hold goes.
    pub(crate) fn delete(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        address: Ghid,
    ) -> Answer {
        let hold = StaticBinding::make(&Nobody(self.account.identity().identity()), address).ghid();
        let held = shelf::holders(turn, &address, usize::MAX >> 1)?.contains(&hold);
        let Some(resolved) = self.visible(turn, connection, &address)? else {
            // To let go of what was held, and taken from us since, needs no key.
            if !held || self.resolve(turn, &address)?.is_some() {
                return Ok(Err(does_not_exist(&address)));
            }
            self.apps.untrack(connection, &address);
            return self.release(turn, address, hold);
        };
        let own_binding = resolved.dynamic && resolved.binder == self.me;
        if !own_binding && !held {
            return Ok(Err(ipc_error(
                "only its creator can delete an object; you neither created nor hold this one",
            )));
        }
        self.apps.untrack(connection, &address);
        if held && let Err(error) = self.release(turn, address, hold)? {
            return Ok(Err(error));
        }
        if own_binding {
            return self.unbind(turn, address);
        }
        Ok(Ok(Reply::Done))
    }

    /// Ends a hold of one's own.
    fn release(&mut self, turn: &mut Turn<'_>, address: Ghid, hold: Ghid) -> Answer {
        if let Err(error) = self.unbind(turn, hold)? {
            return Ok(Err(error));
        }
        // Persisters learn of it; to others the object looks as before.
        self.feed.touch(turn, &address)?;
        Ok(Ok(Reply::Done))
    }

    /// Binds `target` statically, also when an earlier binding of the same target was debound: the
    /// same binding always has the same address, so its debinding has to be debound first.
    fn bind(&mut self, turn: &mut Turn<'_>, target: Ghid) -> Answer {
        let binding = StaticBinding::make(&self.signer(), target);
        let answer = self.make_live(turn, binding)?;
        self.feed.touch(turn, &target)?;
        Ok(answer)
    }

    fn unbind(&mut self, turn: &mut Turn<'_>, target: Ghid) -> Answer {
        let debinding = Debinding::make(&self.signer(), target);
        self.make_live(turn, debinding)
    }

    /// Admits an object of our own that may have been debound before; walks the chain of
    /// debindings of debindings (Golix wire reference, 11.4) without recursion.
    fn make_live(&mut self, turn: &mut Turn<'_>, object: Verified) -> Answer {
        let mut stack = vec![object];
        while let Some(object) = stack.pop() {
            match self.store(turn, &object)? {
                Ok(_) => {}
                Err(Rejection::Debound(debinding)) if stack.len() < limits::DEBINDING_CHAIN_MAX => {
                    stack.push(object);
                    stack.push(Debinding::make(&self.signer(), debinding));
                }
                Err(rejection) => return Ok(Err(refused(rejection))),
            }
        }
        Ok(Ok(Reply::Done))
    }

    /// Marks the news of this turn about `address` as known to a connection.
    fn known_to(&mut self, address: Ghid, connection: ConnectionId) {
        for news in &mut self.news {
            if let News::Updated(updated, except) = news
                && *updated == address
            {
                *except = Some(connection);
            }
        }
    }

    pub(crate) fn changed(
        &mut self,
        turn: &mut Turn<'_>,
        address: Ghid,
        except: Option<ConnectionId>,
    ) -> Result<(), ViewError> {
        self.feed.touch(turn, &address)?;
        if address == self.account.user_id() {
            return Ok(());
        }
        if let Some(bucket) = self.pieces.bucket_of(&address) {
            return self.piece_changed(turn, address, bucket);
        }
        self.arrived.insert(address);
        self.news.push(News::Updated(address, except));
        Ok(())
    }

    fn gone(&mut self, turn: &mut Turn<'_>, address: Ghid) -> Result<(), ViewError> {
        self.contents.forget(&address);
        self.chains.forget(&address);
        self.feed.touch_if_known(turn, &address)?;
        self.forget_lost_states(turn, &address)?;
        self.news.push(News::Gone(address));
        Ok(())
    }

    fn counter(&self, step: u64) -> u64 {
        step << 8 | u64::from(self.config.slot)
    }
}

fn legroom(asked: u8) -> u8 {
    if asked == 0 { limits::LEGROOM_DEFAULT } else { asked }
}

fn check_record(record: &ObjectRecord) -> Result<(), IpcError> {
    if record.link {
        return Err(ipc_error("objects that link to another object are not supported"));
    }
    if record.state.len() > hypergolix_ipc::limits::STATE_MAX {
        return Err(ipc_error(format!(
            "a state of {} bytes is too large; the limit is {} bytes",
            record.state.len(),
            hypergolix_ipc::limits::STATE_MAX
        )));
    }
    Ok(())
}

pub(crate) fn ipc_error(text: impl Into<String>) -> IpcError {
    IpcError { code: ErrorCode::IpcError, text: text.into() }
}

pub(crate) fn does_not_exist(address: &Ghid) -> IpcError {
    IpcError {
        code: ErrorCode::DoesNotExist,
        text: format!("no object {address} is available to this application"),
    }
}

pub(crate) fn elsewhere(address: &Ghid) -> IpcError {
    IpcError {
        code: ErrorCode::DoesNotExist,
        text: format!(
            "object {address} of this account is not on this machine yet, and nobody who has it is \
             reached; 'hypergolix status' shows the remotes"
        ),
    }
}

pub(crate) fn revoked(address: &Ghid) -> IpcError {
    IpcError {
        code: ErrorCode::DoesNotExist,
        text: format!("the owner of {address} no longer shares it with this user"),
    }
}

fn refused(rejection: Rejection) -> IpcError {
    ipc_error(format!("the object was refused: {rejection}"))
}
