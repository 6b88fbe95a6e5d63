//! The environment's lock: one coordinator for each datacenter.
//!
//! A session and a key. Every write of the coordinator is a transaction that checks the session first,
//! so nobody writes whose lock was given away; that is why it needs no lock delay. The session's id is
//! kept in the data directory, which one process has at a time: a coordinator that was killed and comes
//! back ends its own old session, and need not wait until that runs out.

mod patience;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use calvin_consul::{
    Client, Consistency, Error, Key, SessionId,
    kv::{Entry, Write},
    session::{Behavior, SessionRequest},
};
use calvin_model::EnvironmentName;
use calvin_proto::machine::write_atomic;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use self::patience::{Patience, Wait};
use super::{access::Access, error::ConsulError, holds::SESSION_TTL, shared::Shared};

/// How long a lock is waited for that this run has not had yet: Consul ends a dead holder's session after at most two
/// of its lives; five seconds more for a busy server.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(2 * SESSION_TTL.as_secs() + 5);
/// Pause between two tries at a lock that somebody else has.
const LOCK_PAUSE: Duration = Duration::from_secs(1);
/// A third of the session's life: two renewals may fail.
pub(super) const RENEWAL: Duration = Duration::from_secs(SESSION_TTL.as_secs() / 3);
/// Time to give the lock back at the end; the coordinator's parts have 5 s.
const RELEASE: Duration = Duration::from_secs(3);
/// The file with the session's id.
const SESSION_FILE: &str = "consul-session";

/// Who holds the lock, for people; the value of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) host: String,
    pub(super) pid: u32,
    /// Its epoch, once it has one.
    pub(super) epoch: Option<u64>,
    /// Where agents reach it.
    pub(super) address: String,
}

/// The session of a run, as it is kept in the data directory. A copy of the directory has another
/// place, and is not who made the session.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    session: SessionId,
    host: String,
    /// The inode of the data directory.
    inode: u64,
}

/// What a look at the lock says.
#[derive(Debug)]
enum Look {
    Ours,
    /// Somebody else has it, or nobody is given it yet.
    Theirs(String),
    /// The session could not be written down, and nothing is locked with it.
    NotKept(io::Error),
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct LockKeeper {
    environment: EnvironmentName,
    key: Key,
    file: PathBuf,
    holder: Holder,
    shared: Shared,
    session: Option<SessionId>,
    /// It is written down.
    kept: bool,
    /// The datacenter is ours.
    is_home: bool,
    /// The session of an earlier run was ended.
    cleared: bool,
    patience: Patience,
}

impl Holder {
    /// This process.
    pub(super) fn this(address: String) -> Self {
        // Only for people, and to know its own session again.
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            host: host.trim().to_owned(),
            pid: std::process::id(),
            epoch: None,
            address,
        }
    }

    fn words(&self) -> String {
        let epoch = match self.epoch {
            Some(epoch) => format!(", epoch {epoch}"),
            None => String::new(),
        };
        let Self {
            host, pid, address, ..
        } = self;
        format!("process {pid} on host {host}, agents at {address}{epoch}")
    }

    fn value(&self) -> Vec<u8> {
        // Of texts and numbers alone, which JSON can say.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The holder that an entry names, for people.
fn named(entry: Option<&Entry>) -> String {
    let Some(entry) = entry.filter(|entry| entry.session.is_some()) else {
        return "somebody who has just lost it".to_owned();
    };
    match serde_json::from_slice::<Holder>(&entry.value) {
        Ok(holder) => holder.words(),
        Err(_) => {
            let session = entry.session.as_ref().map(SessionId::as_str);
            format!("session {}", session.unwrap_or_default())
        }
    }
}

impl LockKeeper {
    pub(super) fn new(
        environment: &EnvironmentName,
        key: Key,
        data: &Path,
        holder: Holder,
        shared: Shared,
    ) -> Self {
        Self {
            environment: environment.clone(),
            key,
            file: data.join(SESSION_FILE),
            holder,
            shared,
            session: None,
            kept: false,
            is_home: false,
            cleared: false,
            patience: Patience::default(),
        }
    }

    /// Takes the lock at the start. Where Consul cannot be asked it is taken later: until then nothing
    /// is decided.
    ///
    /// # Errors
    /// The datacenter is another one's, or another coordinator has the lock and does not lose it.
    pub(super) async fn begin(&mut self, access: &Access) -> Result<(), ConsulError> {
        let started = Instant::now();
        loop {
            let looked = match self.look(access.client()).await {
                Ok(looked) => looked,
                Err(error) => {
                    self.give_back(access.client()).await;
                    return Err(error);
                }
            };
            match looked {
                Ok(Look::Ours) => return Ok(()),
                // What holds is shown.
                Ok(Look::NotKept(_)) => return Ok(()),
                Ok(Look::Theirs(_)) => {}
                // Who found the lock taken is likely to be one too many, and starts only where Consul stays
                // away.
                Err(_) if self.patience.began() && started.elapsed() < LOCK_WAIT => {}
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        "could not take the environment's lock in Consul: nothing is decided until that works"
                    );
                    return Ok(());
                }
            }
            sleep(LOCK_PAUSE).await;
        }
    }

    /// Looks after the lock once. Says when to look again.
    ///
    /// # Errors
    /// As at the start, where it was not ours in this run.
    pub(super) async fn keep(&mut self, client: &Client) -> Result<Duration, ConsulError> {
        Ok(match self.look(client).await? {
            Ok(Look::Ours) => RENEWAL,
            Ok(Look::Theirs(_) | Look::NotKept(_)) | Err(_) => LOCK_PAUSE,
        })
    }

    /// Says with which epoch this coordinator speaks.
    pub(super) fn speaks(&mut self, epoch: u64) {
        self.holder.epoch = Some(epoch);
    }

    /// One look: renews what is there, or takes it.
    async fn look(&mut self, client: &Client) -> Result<Result<Look, Error>, ConsulError> {
        let at = Instant::now();
        let looked = self.try_look(client).await?;
        match &looked {
            Ok(Look::Ours) => {
                self.patience.ours();
                if let Some(session) = &self.session {
                    self.shared.locked(&self.key, session, at);
                }
            }
            Ok(Look::Theirs(holder)) => {
                self.shared.unlocked(format!(
                    "the lock of environment {} in Consul has {holder}: only one coordinator may decide; stop the other, or this one",
                    self.environment
                ));
                self.wait_for(holder)?;
            }
            Ok(Look::NotKept(error)) => {
                self.patience.unknown();
                self.shared.unlocked(format!(
                    "the session of the lock of environment {} in Consul could not be written down in {}: {error}; it is tried again, make room there",
                    self.environment,
                    self.file.display()
                ));
            }
            Err(error) => {
                self.patience.unknown();
                self.shared.lock_unknown(error);
            }
        }
        Ok(looked)
    }

    /// Another one has the lock: is it time to let it be?
    fn wait_for(&mut self, holder: &str) -> Result<(), ConsulError> {
        match self.patience.theirs(Instant::now()) {
            Wait::Begins => {
                tracing::warn!(%holder, wait = ?LOCK_WAIT, "another coordinator has the environment's lock: waiting, should it be dead");
            }
            Wait::GoesOn => {}
            Wait::Over => {
                return Err(ConsulError::Locked {
                    environment: self.environment.clone(),
                    holder: holder.to_owned(),
                    waited_s: LOCK_WAIT.as_secs(),
                });
            }
        }
        Ok(())
    }

    async fn try_look(&mut self, client: &Client) -> Result<Result<Look, Error>, ConsulError> {
        match self.check_home(client).await? {
            Ok(()) => {}
            Err(error) => return Ok(Err(error)),
        }
        if let Some(session) = self.session.clone() {
            match client.session_renew(&session).await {
                Ok(Some(_)) if self.kept => return Ok(self.read_back(client, &session).await),
                Ok(Some(_)) => return Ok(self.keep_and_acquire(client, &session).await),
                Ok(None) => {
                    tracing::error!(%session, "the session of the environment's lock is gone");
                    self.session = None;
                    self.kept = false;
                    // Servers that came back empty have nothing else either.
                    self.shared.suspect();
                    self.shared.unlocked(format!(
                        "the lock of environment {} in Consul was lost, because its session ended there; it is taken again",
                        self.environment
                    ));
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        let session = match self.new_session(client).await {
            Ok(session) => session,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.keep_and_acquire(client, &session).await)
    }

    /// Writes the session down before anything is locked with it: who comes back ends it then. One that
    /// cannot be written down is renewed until it can.
    async fn keep_and_acquire(
        &mut self,
        client: &Client,
        session: &SessionId,
    ) -> Result<Look, Error> {
        match self.write_down(session) {
            Ok(()) => self.kept = true,
            Err(error) => return Ok(Look::NotKept(error)),
        }
        self.acquire(client, session).await
    }

    /// Whether it is the environment's datacenter; asked once.
    async fn check_home(&mut self, client: &Client) -> Result<Result<(), Error>, ConsulError> {
        if self.is_home {
            return Ok(Ok(()));
        }
        match client.agent_self().await {
            Ok(agent) if agent.datacenter == self.environment.as_str() => {
                self.is_home = true;
                Ok(Ok(()))
            }
            Ok(agent) => Err(ConsulError::OtherDatacenter {
                address: client.address().to_string(),
                datacenter: agent.datacenter,
                environment: self.environment.clone(),
            }),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn new_session(&mut self, client: &Client) -> Result<SessionId, Error> {
        if !self.cleared {
            self.clear(client).await?;
            self.cleared = true;
        }
        let request = SessionRequest {
            name: format!("calvin coordinator of {}", self.environment),
            ttl: Some(SESSION_TTL),
            lock_delay: Duration::ZERO,
            behavior: Behavior::Release,
            // Gossip of the agent that is asked says nothing about this process.
            node_checks: Vec::new(),
        };
        let session = client.session_create(&request).await?;
        self.session = Some(session.clone());
        Ok(session)
    }

    fn write_down(&self, session: &SessionId) -> io::Result<()> {
        let kept = Kept {
            session: session.clone(),
            host: self.holder.host.clone(),
            inode: self.inode()?,
        };
        let text = serde_json::to_vec(&kept).map_err(io::Error::other)?;
        write_atomic(&self.file, &text, 0o600)
    }

    fn inode(&self) -> io::Result<u64> {
        let directory = self.file.parent().unwrap_or(Path::new("."));
        Ok(fs::metadata(directory)?.ino())
    }

    /// Ends the session of an earlier run of this data directory, which is over.
    async fn clear(&self, client: &Client) -> Result<(), Error> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, path = %self.file.display(), "could not read the session of an earlier run; it ends by itself");
                }
                return Ok(());
            }
        };
        let Ok(old) = serde_json::from_str::<Kept>(&text) else {
            return Ok(());
        };
        if old.host != self.holder.host || self.inode().ok() != Some(old.inode) {
            return Ok(());
        }
        client.session_destroy(&old.session).await
    }

    async fn acquire(&self, client: &Client, session: &SessionId) -> Result<Look, Error> {
        match client
            .kv_acquire(&self.key, self.holder.value(), session)
            .await?
        {
            Write::Done => Ok(Look::Ours),
            Write::Conflict => {
                let read = client.kv_get(&self.key, Consistency::Consistent).await?;
                Ok(Look::Theirs(named(read.value.as_ref())))
            }
        }
    }

    /// Whether the lock is still this session's: read with the others' consent, so that it proves as well
    /// that there is a leader.
    async fn read_back(&self, client: &Client, session: &SessionId) -> Result<Look, Error> {
        let read = client.kv_get(&self.key, Consistency::Consistent).await?;
        let entry = read
            .value
            .filter(|entry| entry.session.as_ref() == Some(session));
        match entry {
            Some(entry) if entry.value == self.holder.value() => Ok(Look::Ours),
            // Another value is written anew.
            Some(_) => self.acquire(client, session).await,
            // A lock that is lost is tried for again.
            None => {
                self.shared.suspect();
                self.acquire(client, session).await
            }
        }
    }

    /// Gives the lock back at a clean end. The lock first: who waits gets it at once.
    pub(super) async fn give_back(&mut self, client: &Client) {
        let Some(session) = self.session.take() else {
            return;
        };
        self.shared
            .unlocked("this coordinator ends, and has given its lock back".to_owned());
        let released = async {
            let _ = client
                .kv_release(&self.key, self.holder.value(), &session)
                .await?;
            client.session_destroy(&session).await
        };
        match timeout(RELEASE, released).await {
            Ok(Ok(())) => {
                // One that stays names a session that is gone.
                let _ = fs::remove_file(&self.file);
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "could not give the environment's lock back; it ends by itself");
            }
            Err(_) => {
                tracing::warn!("no time to give the environment's lock back; it ends by itself")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_as_people_look_for_it() {
        let mut holder = Holder {
            host: "c-1".into(),
            pid: 77,
            epoch: None,
            address: "10.0.0.5:7700".into(),
        };
        assert_eq!(
            holder.words(),
            "process 77 on host c-1, agents at 10.0.0.5:7700"
        );
        holder.epoch = Some(4);
        let mut entry = Entry {
            key: "calvin/prod/coordinator".into(),
            value: holder.value(),
            flags: 0,
            lock_index: 1,
            session: None,
            create_index: 1,
            modify_index: 1,
        };
        assert_eq!(named(Some(&entry)), "somebody who has just lost it");
        entry.session = Some("11111111-2222-3333-4444-555555555555".parse().unwrap());
        assert!(named(Some(&entry)).ends_with("epoch 4"), "{entry:?}");
        entry.value = b"by hand".to_vec();
        assert!(named(Some(&entry)).starts_with("session 1111"), "{entry:?}");
    }
}
