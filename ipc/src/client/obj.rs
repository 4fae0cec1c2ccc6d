//! `Obj`: one object with a state of plain bytes.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use golix::Ghid;
use tokio::task::AbortHandle;

use super::driver::Answer;
use super::error::LinkError;
use super::updates::{Readers, Update, Updates};
use super::{HgxLink, Inner, Object};
use crate::ids::ApiId;
use crate::limits::{LEGROOM_DEFAULT, STATE_MAX};
use crate::message::{Reply, Request};
use crate::object_record::ObjectRecord;

/// An object whose state is bytes. A cloneable handle: all clones are the same object.
///
/// Made by [`HgxLink::new`] and [`HgxLink::get`]. While a handle exists the object follows its
/// updates; dropping the last one tells the daemon that they are no longer wanted.
///
/// ```no_run
/// # async fn example() -> Result<(), hypergolix_ipc::client::LinkError> {
/// use hypergolix_ipc::client::{HgxLink, NewOptions, Obj};
///
/// let link = HgxLink::connect(7772).await?;
/// let obj: Obj = link.new(&b"hello"[..], NewOptions::default()).await?;
/// obj.set_state(b"hello, world".to_vec())?;
/// obj.push().await?;
/// println!("{} holds {} bytes", obj.ghid(), obj.state()?.len());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Obj(Arc<ObjCore>);

/// What all handles of an object share.
pub(super) struct ObjCore {
    inner: Arc<Inner>,
    ghid: Ghid,
    binder: Option<Ghid>,
    api_id: ApiId,
    dynamic: bool,
    legroom: u8,
    state: Mutex<State>,
    readers: Readers,
    callback: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct State {
    /// What the application sees.
    local: Arc<[u8]>,
    /// What the daemon is known to hold.
    upstream: Arc<[u8]>,
    /// Counts the application's own changes.
    changes: u64,
    private: bool,
    dead: bool,
}

/// A push on its way: which of the application's changes it carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct PushMark(u64);

impl Obj {
    /// Where the object is.
    pub fn ghid(&self) -> Ghid {
        self.0.ghid
    }

    /// The fingerprint of its creator.
    pub fn binder(&self) -> Option<Ghid> {
        self.0.binder
    }

    /// Its type.
    pub fn api_id(&self) -> ApiId {
        self.0.api_id
    }

    /// Whether its state can change.
    pub fn dynamic(&self) -> bool {
        self.0.dynamic
    }

    /// Past states that its record keeps the way to.
    pub fn legroom(&self) -> u8 {
        self.0.legroom
    }

    /// Whether only this application may see it.
    pub fn private(&self) -> bool {
        self.0.state().private
    }

    /// Whether it was deleted or discarded.
    pub fn is_dead(&self) -> bool {
        self.0.state().dead
    }

    /// Whether this user made it.
    pub fn is_mine(&self) -> bool {
        self.0.binder.is_some() && self.0.binder == self.0.inner.shared.fingerprint()
    }

    /// Its state, as far as this application knows.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`].
    pub fn state(&self) -> Result<Arc<[u8]>, LinkError> {
        Ok(Arc::clone(&self.0.alive()?.local))
    }

    /// Changes the state here; [`Obj::push`] makes it known. An update that arrives in between
    /// replaces it.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`], [`LinkError::StateTooLarge`].
    pub fn set_state(&self, state: impl Into<Arc<[u8]>>) -> Result<(), LinkError> {
        let new = state.into();
        check_size(&new)?;
        let mut state = self.0.alive()?;
        state.local = new;
        state.changes += 1;
        Ok(())
    }

    /// Makes a private object public; takes effect with the next [`Obj::push`]. There is no way
    /// back.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`].
    pub fn make_public(&self) -> Result<(), LinkError> {
        self.0.alive()?.private = false;
        Ok(())
    }

    /// Makes the state known to everybody who follows the object. Returns once it is durable.
    ///
    /// Repeated by itself if the connection is lost meanwhile.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`]; [`LinkError::LocallyImmutable`] for static and other users'
    /// objects; a refusal.
    pub async fn push(&self) -> Result<(), LinkError> {
        let (record, mark) = {
            let state = self.0.alive()?;
            if !self.0.dynamic || !self.is_mine() {
                return Err(LinkError::LocallyImmutable);
            }
            let record = ObjectRecord {
                address: Some(self.0.ghid),
                author: None,
                private: state.private,
                dynamic: false,
                legroom: self.0.legroom,
                api: ApiId::ZERO,
                link: false,
                state: Arc::clone(&state.local),
            };
            (record, PushMark(state.changes))
        };
        self.0.inner.ask_push(record, mark).await
    }

    /// Asks upstream for news. If there are any, the state has changed when this returns.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`], or a refusal.
    pub async fn sync(&self) -> Result<(), LinkError> {
        drop(self.0.alive()?);
        self.0.inner.ask_done(Request::Sync(self.0.ghid)).await
    }

    /// Lets another user read the object, now and in future. Returns once the share is durable;
    /// it arrives when the recipient's daemon is reachable.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`], [`LinkError::Unsharable`], or a refusal.
    pub async fn share(&self, recipient: Ghid) -> Result<(), LinkError> {
        if self.0.alive()?.private {
            return Err(LinkError::Unsharable);
        }
        self.0.inner.ask_done(Request::Share { object: self.0.ghid, recipient }).await
    }

    /// Keeps the object's future states from somebody it was shared with. What they have read, they
    /// have; other recipients go on reading.
    ///
    /// # Errors
    /// Only the creator can, for dynamic objects; only this project's daemon knows the request.
    pub async fn unshare(&self, recipient: Ghid) -> Result<(), LinkError> {
        let object = self.ghid();
        self.0.inner.ask_done(Request::Unshare { object, recipient }).await
    }

    /// Makes a static copy of the state that the daemon holds.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`], [`LinkError::LocallyImmutable`] for a static object, or a
    /// refusal.
    pub async fn freeze(&self) -> Result<Obj, LinkError> {
        drop(self.0.alive()?);
        if !self.0.dynamic {
            return Err(LinkError::LocallyImmutable);
        }
        match self.0.inner.ask(Request::Freeze(self.0.ghid)).await? {
            Answer::Reply(Reply::Address(copy)) => self.0.inner.get(copy).await,
            answer => Err(answer.unexpected()),
        }
    }

    /// Keeps the object, even if its creator deletes it.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`], or a refusal.
    pub async fn hold(&self) -> Result<(), LinkError> {
        drop(self.0.alive()?);
        self.0.inner.ask_done(Request::Hold(self.0.ghid)).await
    }

    /// No more updates: this object is dead from here on, the real one unharmed.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`], or a refusal.
    pub async fn discard(&self) -> Result<(), LinkError> {
        drop(self.0.alive()?);
        self.0.inner.ask_done(Request::Discard(self.0.ghid)).await
    }

    /// Deletes the object for everybody who does not hold it.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`], or a refusal.
    pub async fn delete(&self) -> Result<(), LinkError> {
        drop(self.0.alive()?);
        self.0.inner.ask_done(Request::Delete(self.0.ghid)).await
    }

    /// What happens to the object from now on, except this application's own pushes.
    pub fn updates(&self) -> Updates {
        let updates = self.0.readers.subscribe();
        if self.is_dead() {
            self.0.readers.close();
        }
        updates
    }

    /// Calls `callback` for every update, one at a time, in order; replaces an earlier callback.
    /// It ends with the object.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn on_update<F, R>(&self, mut callback: F)
    where
        F: FnMut(Update) -> R + Send + 'static,
        R: Future<Output = ()> + Send,
    {
        let mut updates = self.updates();
        let task = tokio::spawn(async move {
            while let Some(update) = updates.next().await {
                callback(update).await;
            }
        });
        self.set_callback(Some(task.abort_handle()));
    }

    /// Ends the callback.
    pub fn clear_callback(&self) {
        self.set_callback(None);
    }

    /// The link that the object belongs to.
    pub fn link(&self) -> HgxLink {
        HgxLink(Arc::clone(&self.0.inner))
    }

    fn set_callback(&self, callback: Option<AbortHandle>) {
        let mut current = self.0.callback.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = std::mem::replace(&mut *current, callback) {
            earlier.abort();
        }
    }

    pub(super) fn from_record(inner: Arc<Inner>, ghid: Ghid, record: ObjectRecord) -> Self {
        Self(Arc::new(ObjCore {
            inner,
            ghid,
            binder: record.author,
            api_id: record.api,
            dynamic: record.dynamic,
            legroom: if record.legroom == 0 { LEGROOM_DEFAULT } else { record.legroom },
            state: Mutex::new(State {
                local: Arc::clone(&record.state),
                upstream: record.state,
                changes: 0,
                private: record.private,
                dead: false,
            }),
            readers: Readers::default(),
            callback: Mutex::new(None),
        }))
    }

    pub(super) fn core(&self) -> &Arc<ObjCore> {
        &self.0
    }

    pub(super) fn from_core(core: Arc<ObjCore>) -> Self {
        Self(core)
    }
}

impl ObjCore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<MutexGuard<'_, State>, LinkError> {
        let state = self.state();
        if state.dead { Err(LinkError::DeadObject) } else { Ok(state) }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The daemon told a new state.
    pub(super) fn updated(&self, new: &Arc<[u8]>) {
        {
            let mut state = self.state();
            state.local = Arc::clone(new);
            state.upstream = Arc::clone(new);
        }
        self.readers.send(&Update::State(Arc::clone(new)));
    }

    /// The daemon was asked again, after a time without connection.
    pub(super) fn refetched(&self, new: &Arc<[u8]>) {
        if *self.state().upstream != **new {
            self.updated(new);
        }
    }

    /// A push was acknowledged. If another application's state arrived while it was under way and
    /// the application changed nothing since, ours is the newer one: the daemon does not echo it.
    pub(super) fn pushed(&self, record: &ObjectRecord, mark: PushMark) {
        let overwritten = {
            let mut state = self.state();
            state.upstream = Arc::clone(&record.state);
            let overwritten = state.changes == mark.0 && state.local != record.state;
            if overwritten {
                state.local = Arc::clone(&record.state);
            }
            overwritten
        };
        if overwritten {
            self.readers.send(&Update::State(Arc::clone(&record.state)));
        }
    }

    /// The object is gone, through somebody else.
    pub(super) fn deleted(&self) {
        self.state().dead = true;
        self.readers.send(&Update::Deleted);
        self.readers.close();
    }

    /// The link was stopped: there will be no more updates.
    pub(super) fn ended(&self) {
        self.readers.close();
    }

    /// The object is gone, through this application.
    pub(super) fn let_go(&self) {
        self.state().dead = true;
        self.readers.close();
    }
}

impl Drop for ObjCore {
    fn drop(&mut self) {
        self.readers.close();
        if !self.is_dead() {
            self.inner.shared.let_go(&self.inner.commands, self.ghid);
        }
    }
}

impl Object for Obj {
    type State = [u8];
    const API_ID: ApiId = ApiId::OBJ;

    fn pack(state: &[u8]) -> Result<Vec<u8>, LinkError> {
        Ok(state.to_vec())
    }

    fn from_obj(obj: Obj) -> Result<Self, LinkError> {
        Ok(obj)
    }
}

impl fmt::Debug for Obj {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Obj")
            .field("ghid", &self.0.ghid)
            .field("api_id", &self.0.api_id)
            .field("state", &*self.0.state())
            .finish_non_exhaustive()
    }
}

pub(super) fn check_size(state: &[u8]) -> Result<(), LinkError> {
    if state.len() > STATE_MAX { Err(LinkError::StateTooLarge(state.len())) } else { Ok(()) }
}
