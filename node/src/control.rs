//! The control socket: how the command line speaks to a running daemon or server past the
//! application interface.
//!
//! A Unix socket, mode 0600, beside the pid file. One connection, one order, one answer: a line of
//! JSON each way, `{"do": …}` and `{"ok": …}` or `{"error": "…"}`. Only processes of the same user
//! are answered.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use golix::Ghid;
use hypergolix_engine::Control;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::ipc_service::Command;

/// Longest order, bytes.
const ORDER_MAX: u64 = 64 * 1024;

/// Longest answer that is read, bytes: a list of 10,000 users.
const ANSWER_MAX: u64 = 16 * 1024 * 1024;

/// Orders that are answered at once; more wait.
const AT_ONCE: usize = 8;

/// How long an order may take to arrive.
const ORDER_TIME: Duration = Duration::from_secs(5);

/// How long an answer may take; registering asks servers.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);

/// An order as it crosses the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// Figures.
    Status,
    /// Daemon: a page of what the user has and follows.
    Objects {
        /// Begin behind this address.
        after: Option<String>,
    },
    /// Daemon: take up the configuration file.
    Reload,
    /// Daemon: register at every linked persister.
    Register {
        /// What the operators gave out.
        token: Option<String>,
    },
    /// Daemon: provide an address in the distributed hash table.
    Publish {
        /// Which.
        address: String,
    },
    /// Daemon: no longer.
    Unpublish {
        /// Which.
        address: String,
    },
    /// Daemon: what is published.
    Published,
    /// Server: a page of who stores how much.
    Users {
        /// Begin behind this identity.
        after: Option<String>,
    },
    /// Server: register an identity, or take that back.
    Admit {
        /// Its address.
        identity: String,
        /// Whether it is registered from now on.
        registered: bool,
    },
    /// Server: make a token.
    Invite,
    /// Server: what an identity may store.
    Quota {
        /// Its address.
        identity: String,
        /// Bytes; as they are without, or as usual if neither figure is given.
        bytes: Option<u64>,
        /// Objects, likewise.
        objects: Option<u64>,
    },
    /// Server: ban an identity, or no longer.
    Ban {
        /// Its address.
        identity: String,
        /// Whether it is banned from now on.
        banned: bool,
    },
}

/// Takes up the configuration file; the sentence says what was wrong with it.
pub type Reload = dyn Fn() -> Result<(), String> + Send + Sync;

/// A socket that is listened on until this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    stop: CancellationToken,
}

impl ControlSocket {
    /// Listens. The pid file beside it is locked by this process, so a socket that has the name is
    /// left over from a process that ended. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system refuses; a path longer than about 100 bytes is no socket.
    pub fn listen(
        path: PathBuf,
        commands: mpsc::Sender<Command>,
        reload: Option<Arc<Reload>>,
    ) -> io::Result<Self> {
        match std::fs::symlink_metadata(&path) {
            Ok(found) if !found.file_type().is_socket() => {
                let text = format!("{} is a file of something else", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Ok(_) => std::fs::remove_file(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, commands, reload, stop.clone()));
        Ok(Self { path, stop })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.stop.cancel();
        // Best effort; the next process removes it otherwise.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(
    listener: UnixListener,
    commands: mpsc::Sender<Command>,
    reload: Option<Arc<Reload>>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let own = rustix::process::geteuid().as_raw();
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0) {
            continue;
        }
        let (commands, reload) = (commands.clone(), reload.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let (reader, mut writer) = stream.into_split();
            let mut line = String::new();
            let mut reader = tokio::io::BufReader::new(reader.take(ORDER_MAX));
            match tokio::time::timeout(ORDER_TIME, reader.read_line(&mut line)).await {
                Ok(Ok(len)) if len > 0 => {}
                _ => return,
            }
            let answer = match answer(&line, &commands, reload.as_deref()).await {
                Ok(value) => json!({ "ok": value }),
                Err(text) => json!({ "error": text }),
            };
            // Whoever asked may be gone.
            let _ = writer.write_all(format!("{answer}\n").as_bytes()).await;
        });
    }
}

async fn answer(
    line: &str,
    commands: &mpsc::Sender<Command>,
    reload: Option<&Reload>,
) -> Result<Value, String> {
    let order: Order = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let ghid = |text: String| text.parse::<Ghid>().map_err(|error| format!("{text:?}: {error}"));
    let control = match order {
        Order::Status => Control::Figures,
        Order::Reload => {
            let reload = reload.ok_or("a server has no configuration file")?;
            return reload().map(|()| Value::Null);
        }
        Order::Objects { after } => Control::Objects { after: after.map(ghid).transpose()? },
        Order::Register { token } => Control::Register { token },
        Order::Publish { address } => Control::Publish { address: ghid(address)? },
        Order::Unpublish { address } => Control::Unpublish { address: ghid(address)? },
        Order::Published => Control::Published,
        Order::Users { after } => Control::Users { after: after.map(ghid).transpose()? },
        Order::Admit { identity, registered } => {
            Control::Admit { identity: ghid(identity)?, registered }
        }
        Order::Invite => Control::Invite,
        Order::Quota { identity, bytes, objects } => {
            Control::Quota { identity: ghid(identity)?, bytes, objects }
        }
        Order::Ban { identity, banned } => Control::Ban { identity: ghid(identity)?, banned },
    };
    let (answer, answered) = oneshot::channel();
    let sent = commands.send(Command::Control(control, answer)).await;
    sent.map_err(|_| "it is stopping".to_owned())?;
    let text = tokio::time::timeout(ANSWER_TIME, answered)
        .await
        .map_err(|_| format!("there is no answer within {ANSWER_TIME:?}"))?
        .map_err(|_| "nothing was done: the store failed, or it is stopping".to_owned())??;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// The process that listens on a control socket; `None` if none does.
pub fn listener(path: &Path) -> Option<u32> {
    let stream = UnixStream::connect(path).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}

/// Gives one order and waits for the answer.
///
/// # Errors
/// A sentence: nobody listens, or what the other side says.
pub fn ask(path: &Path, order: &Order) -> Result<Value, String> {
    let failed = |error: io::Error| {
        format!("the process behind {} does not answer: {error}", path.display())
    };
    let stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER_TIME + ORDER_TIME)).map_err(failed)?;
    let order = serde_json::to_string(order).expect("an order is plain data");
    (&stream).write_all(format!("{order}\n").as_bytes()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new((&stream).take(ANSWER_MAX)).read_line(&mut line).map_err(failed)?;
    let mut answer: Value =
        serde_json::from_str(&line).map_err(|error| failed(io::Error::other(error.to_string())))?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["ok"].take()),
    }
}
