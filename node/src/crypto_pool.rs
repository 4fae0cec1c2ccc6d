//! Private-key operations, away from the loop.
//!
//! Opening a request takes 0.2 ms of a core in suite 3 and 15 ms in suite 1, a signature of suite 1
//! as long, and the loop must not stand still meanwhile. A few threads of low priority do them; the
//! engine bounds how much is under way.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use golix::Ghid;
use golix::object::OpenedRequest;
use hypergolix_engine::account::Keys;
use hypergolix_engine::message::Packed;
use hypergolix_engine::{LinkId, Message};
use tokio::sync::mpsc as done;

/// How much lower than the loop's the priority of these threads is.
const NICE: i32 = 10;

/// More threads than this gain nothing: nobody signs or is sent so much.
const THREADS_MAX: usize = 4;

/// Something to be done.
#[derive(Debug)]
pub(crate) enum Job {
    /// Open a request.
    Open { number: u64, request: Packed },
    /// Sign an object.
    Sign { object: Ghid },
    /// Prove who we are over a link.
    Prove { link: LinkId, statement: Vec<u8> },
}

/// Something that was done.
#[derive(Debug)]
pub(crate) enum Done {
    /// A request was opened, or does not open.
    Opened { number: u64, opened: Option<Arc<OpenedRequest>> },
    /// An object was signed; `None` only by a defect.
    Signed { object: Ghid, signature: Option<Vec<u8>> },
    /// A proof to send; `None` only by a defect.
    Proven { link: LinkId, proof: Option<Message> },
}

/// The threads and their queue. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct CryptoPool {
    jobs: mpsc::Sender<Job>,
    done: done::UnboundedReceiver<Done>,
}

impl CryptoPool {
    /// Starts a thread for each core.
    #[expect(clippy::disallowed_methods, reason = "the engine bounds what is under way")]
    pub(crate) fn new(keys: &Keys) -> Self {
        let (jobs, queue) = mpsc::channel();
        let (results, done) = done::unbounded_channel();
        let queue = Arc::new(Mutex::new(queue));
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
        for number in 0..threads {
            let (queue, results, keys) = (Arc::clone(&queue), results.clone(), keys.clone());
            let spawned = thread::Builder::new()
                .name(format!("crypto {number}"))
                .spawn(move || work(&queue, &results, &keys));
            if let Err(error) = spawned {
                tracing::warn!(%error, "a thread for private keys cannot be started");
            }
        }
        Self { jobs, done }
    }

    /// Without a thread: for servers, which have no keys.
    #[expect(clippy::disallowed_methods, reason = "nothing is ever sent")]
    pub(crate) fn idle() -> Self {
        let ((jobs, _), (_, done)) = (mpsc::channel(), done::unbounded_channel());
        Self { jobs, done }
    }

    /// Queues a job; its result comes by [`Self::finished`].
    pub(crate) fn submit(&self, job: Job) {
        // Fails only without a thread, which was logged.
        let _ = self.jobs.send(job);
    }

    /// The next result. Never ends while the pool lives.
    pub(crate) async fn finished(&mut self) -> Done {
        match self.done.recv().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }

    /// A result that is there already.
    pub(crate) fn try_finished(&mut self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>, results: &done::UnboundedSender<Done>, keys: &Keys) {
    let own = Some(rustix::thread::gettid());
    if let Err(error) = rustix::process::setpriority_process(own, NICE) {
        tracing::debug!(%error, "threads for private keys run with normal priority");
    }
    loop {
        // One thread waits in here, the others for their turn to.
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        // A defect in there must not take the thread away, and with it everybody's requests.
        let done = match job {
            Ok(Job::Open { number, request }) => {
                Done::Opened { number, opened: guarded(|| keys.open(&request)).flatten() }
            }
            Ok(Job::Sign { object }) => {
                Done::Signed { object, signature: guarded(|| keys.sign(&object)) }
            }
            Ok(Job::Prove { link, statement }) => {
                Done::Proven { link, proof: guarded(|| keys.prove(&statement)) }
            }
            Err(mpsc::RecvError) => return,
        };
        if results.send(done).is_err() {
            return;
        }
    }
}

fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
