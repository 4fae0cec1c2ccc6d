//! `TypedObj<T>`: an object whose state is JSON, seen as a Rust type.

use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Object;
use super::error::LinkError;
use super::json;
use super::obj::Obj;
use super::updates::{Update, Updates};
use crate::ids::ApiId;

/// An object whose state is a `T`, kept as JSON that the Python `JsonObj` reads.
///
/// Everything that does not concern the state is [`Obj`]'s, through `Deref`.
///
/// ```no_run
/// # async fn example() -> Result<(), hypergolix_ipc::client::LinkError> {
/// use hypergolix_ipc::client::{HgxLink, NewOptions, TypedObj};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Status { cpu: f32, memory: f32 }
///
/// let link = HgxLink::connect(7772).await?;
/// let status = Status { cpu: 0.5, memory: 0.25 };
/// let obj: TypedObj<Status> = link.new(&status, NewOptions::default()).await?;
/// obj.set(&Status { cpu: 0.6, ..status })?;
/// obj.push().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TypedObj<T> {
    obj: Obj,
    state: PhantomData<fn() -> T>,
}

impl<T> Clone for TypedObj<T> {
    fn clone(&self) -> Self {
        Self { obj: self.obj.clone(), state: PhantomData }
    }
}

impl<T> Deref for TypedObj<T> {
    type Target = Obj;

    fn deref(&self) -> &Obj {
        &self.obj
    }
}

impl<T: Serialize + DeserializeOwned> TypedObj<T> {
    /// The state.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`], [`LinkError::Unreadable`].
    pub fn value(&self) -> Result<T, LinkError> {
        Ok(serde_json::from_slice(&self.obj.state()?)?)
    }

    /// Changes the state here; [`Obj::push`] makes it known.
    ///
    /// # Errors
    /// [`LinkError::DeadObject`], [`LinkError::StateTooLarge`], [`LinkError::Unreadable`].
    pub fn set(&self, value: &T) -> Result<(), LinkError> {
        self.obj.set_state(json::pack(value)?)
    }

    /// A static copy.
    ///
    /// # Errors
    /// As [`Obj::freeze`]; [`LinkError::Unreadable`].
    pub async fn freeze(&self) -> Result<Self, LinkError> {
        Self::from_obj(self.obj.freeze().await?)
    }

    /// What happens to the object from now on, except this application's own pushes.
    pub fn updates(&self) -> TypedUpdates<T> {
        TypedUpdates { updates: self.obj.updates(), state: PhantomData }
    }

    /// Calls `callback` for every update, one at a time, in order; replaces an earlier callback.
    /// A state that is not a `T` is logged and left out.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn on_update<F, R>(&self, mut callback: F)
    where
        F: FnMut(Update<T>) -> R + Send + 'static,
        R: Future<Output = ()> + Send,
        T: Send + 'static,
    {
        let ghid = self.obj.ghid();
        // The decoded value moves into the callback's future, so that nothing but `R` is kept.
        let mut calls = move |update| match decode(update) {
            Ok(update) => Some(callback(update)),
            Err(error) => {
                tracing::warn!(%ghid, %error, "an update is not what this object holds");
                None
            }
        };
        self.obj.on_update(move |update| {
            let call = calls(update);
            async move {
                if let Some(call) = call {
                    call.await;
                }
            }
        });
    }
}

/// The updates of a [`TypedObj`].
#[derive(Debug)]
pub struct TypedUpdates<T> {
    updates: Updates,
    state: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> TypedUpdates<T> {
    /// The next update; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// [`LinkError::Unreadable`] for a state that is not a `T`; the next ones may be.
    pub async fn next(&mut self) -> Option<Result<Update<T>, LinkError>> {
        self.updates.next().await.map(decode)
    }
}

fn decode<T: DeserializeOwned>(update: Update) -> Result<Update<T>, LinkError> {
    Ok(match update {
        Update::State(state) => Update::State(serde_json::from_slice(&state)?),
        Update::Deleted => Update::Deleted,
    })
}

impl<T: Serialize + DeserializeOwned> Object for TypedObj<T> {
    type State = T;
    const API_ID: ApiId = ApiId::JSON;

    fn pack(state: &T) -> Result<Vec<u8>, LinkError> {
        json::pack(state)
    }

    fn from_obj(obj: Obj) -> Result<Self, LinkError> {
        serde_json::from_slice::<T>(&obj.state()?)?;
        Ok(Self { obj, state: PhantomData })
    }
}
