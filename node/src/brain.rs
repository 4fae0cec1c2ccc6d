//! What decides in the loop: a user's engine, or a server's persister; and how to start it again.

use hypergolix_engine::{
    Account, Effect, Engine, EngineConfig, Input, Message, Outcome, Persister, PersisterConfig,
    Time, View, ViewError,
};
use hypergolix_ipc::Request;

use crate::run::OsEntropy;

/// What a loop is for. It outlives the brain, which is made anew after a failure of the store.
#[derive(Debug)]
pub enum Purpose {
    /// The node of one account, unlocked.
    Node(Account, EngineConfig),
    /// A persister.
    Server(PersisterConfig),
}

pub(crate) enum Brain {
    Node(Box<Engine>),
    Server(Box<Persister>),
}

impl Purpose {
    /// Starts on what the store holds.
    pub(crate) fn start(
        &self,
        device: &[u8],
        now: Time,
        view: &dyn View,
    ) -> Result<(Brain, Outcome), ViewError> {
        let (device, entropy) = (device.to_vec(), Box::new(OsEntropy));
        match self {
            Self::Node(account, config) => {
                Engine::open(account.clone(), *config, device, entropy, now, view)
                    .map(|(engine, outcome)| (Brain::Node(Box::new(engine)), outcome))
            }
            Self::Server(config) => Persister::open(config.clone(), device, entropy, now, view)
                .map(|(persister, outcome)| (Brain::Server(Box::new(persister)), outcome)),
        }
    }
}

impl Brain {
    pub(crate) fn handle(
        &mut self,
        input: Input,
        now: Time,
        view: &dyn View,
    ) -> Result<Outcome, ViewError> {
        match self {
            Self::Node(engine) => engine.handle(input, now, view),
            Self::Server(persister) => persister.handle(input, now, view),
        }
    }

    /// Takes those effects out that need not wait for the commit.
    pub(crate) fn ahead_of_commit(&self, effects: &mut Vec<Effect>) -> Vec<Effect> {
        match self {
            Self::Node(_) => Vec::new(),
            Self::Server(_) => Persister::ahead_of_commit(effects),
        }
    }

    /// Says whether the disk is full.
    pub(crate) fn set_low_on_space(&mut self, is: bool) {
        match self {
            // What would make the store larger does not reach it.
            Self::Node(_) => {}
            Self::Server(persister) => persister.set_low_on_space(is),
        }
    }

    /// Whether an input has to be refused while the disk is full. A persister refuses by itself,
    /// object by object.
    pub(crate) fn cannot_take_when_full(&self, input: &Input) -> bool {
        matches!(self, Self::Node(_)) && makes_the_store_larger(input)
    }
}

/// What a node refuses while the disk is full.
fn makes_the_store_larger(input: &Input) -> bool {
    match input {
        Input::AppRequest { request, .. } => match request {
            Request::New(_)
            | Request::Update(_)
            | Request::Share { .. }
            | Request::Freeze(_)
            | Request::Hold(_)
            | Request::RegisterToken(None)
            | Request::SetStartup(_) => true,
            Request::Whoami
            | Request::RegisterToken(Some(_))
            | Request::RegisterApi(_)
            | Request::DeregisterApi(_)
            | Request::StartupObject
            | Request::ClearStartup
            | Request::Get(_)
            | Request::Sync(_)
            | Request::Discard(_)
            | Request::Delete(_)
            | Request::LostStates
            | Request::DismissLost(_)
            | Request::Unshare { .. }
            | Request::Status => false,
        },
        // Unanswered, so the other device offers it again.
        Input::LinkMessage { message, .. } => {
            matches!(message, Message::Publish { .. } | Message::Event { .. })
        }
        _ => false,
    }
}
