//! The lock of an `exclusive` fleet, which its instance holds in Consul while it is at work: what to ask
//! of Consul, what the workload may do, and until when. Pure: time and answers are handed in, and
//! `keeper` does what comes out. Why this keeps two from being at work is told in
//! `calvin_consul::exclusive`.
//!
//! - The workload starts with the lock only, and its lease is reckoned from when the last renewal that
//!   succeeded was sent. While Consul is silent nothing is ordered: the lease runs out by itself, and
//!   goes on when the session is found to live still.
//! - A session that is gone is a lock that is lost: what runs is killed.
//! - An agent that is started again may know no session, or an old one, because the disk was full. What
//!   runs is under a lease all the same: before it is killed Consul is asked whether a session of this
//!   machine holds the lock, and the agent goes on with that one.
//! - The lock is taken, and given back, only when nothing of the workload runs. So what runs has the
//!   fence of the lock that is held, and never an older one.

mod ask;
mod facts;
mod gate;
mod keeper;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use calvin_consul::{
    SessionId,
    exclusive::{LEASE, RENEW_EVERY, TTL},
};
use calvin_model::InstanceId;

use facts::{Facts, Gate, Work};
pub use keeper::{Keeper, KeeperEnds, KeptSession, LockSeen};

use crate::{
    retry::Backoff,
    workload::{Command, WorkloadOrder},
};

/// Pauses after what failed: quick against the lease.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// How often a lock that somebody else has is asked for without a sign that it is free: the query that
/// waits for that may have failed.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// What is to be asked of Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// To make a session.
    Create,
    /// Who holds the lock.
    Look,
    /// Whether a session of this machine holds the lock, and which.
    Find,
    /// To give this session the lock, and who holds it then.
    Acquire(SessionId),
    /// To let this session live on.
    Renew(SessionId),
    /// To take the lock back from this session.
    Release(SessionId),
    /// To end this session.
    Destroy(SessionId),
}

/// What Consul said, or why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The session was made.
    Created(SessionId),
    /// Who holds the lock.
    Holds(Holder),
    /// A session of this machine holds the lock, or none does.
    Found(Option<Held>),
    /// The session lives on.
    Renewed,
    /// There is no such session any more.
    Gone,
    /// The session does not hold the lock any more.
    Released,
    /// The session is ended.
    Destroyed,
    /// Nothing can be known of what was asked.
    Failed(String),
}

/// A lock as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holder {
    /// The session that holds it.
    pub(super) session: Option<SessionId>,
    /// The instance that acquired it last.
    pub(super) instance: Option<InstanceId>,
    /// Grows with each holder.
    pub(super) fence: u64,
    /// Grows with each change.
    pub(super) index: u64,
}

/// A lock that a session of this machine holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) session: SessionId,
    pub(super) fence: u64,
    pub(super) index: u64,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    /// What the runner is to do with the workload; nothing where it goes on with what it was told.
    pub(super) command: Option<Command>,
    /// Until when the work may run.
    pub(super) lease: Option<Duration>,
    /// What to ask of Consul. There is no other before its answer is handed in.
    pub(super) ask: Option<Ask>,
    /// When to look again if nothing happens.
    pub(super) due: Option<Duration>,
}

/// Who took the lock for what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Maybe a run of the agent before this one, with a session that is not on disk.
    Before,
    /// This one, or with a session that this one knows.
    Known,
}

/// The lock, as it is known.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    session: Option<Session>,
    taken: Taken,
    /// What was asked and is not answered.
    asking: Option<Ask>,
    pauses: Backoff,
    /// When what failed may be asked again.
    retry_at: Duration,
    /// Why the lock could not be taken or given back, last.
    trouble: Option<String>,
}

#[derive(Debug, Clone)]
struct Session {
    id: SessionId,
    /// When the last renewal that succeeded was sent.
    renewed: Option<Duration>,
    renew_at: Duration,
    pauses: Backoff,
    /// Why it could not be renewed, last.
    trouble: Option<String>,
    /// By then Consul has ended it, if it is not renewed any more.
    over_at: Duration,
    hold: Hold,
}

/// Whether a session holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hold {
    /// Nobody has looked yet.
    Unknown,
    /// It does.
    Held { fence: u64, index: u64 },
    /// It does not. Who does, if anybody.
    Not {
        by: Option<InstanceId>,
        free: bool,
        again_at: Duration,
    },
    /// It was taken back.
    Released,
}

impl Lock {
    /// With the session that an earlier run of the agent kept, if it did.
    pub(super) fn new(kept: Option<SessionId>, now: Duration) -> Self {
        Self {
            session: kept.map(|id| Session::new(id, now)),
            taken: Taken::Before,
            asking: None,
            pauses: Backoff::new(PAUSES.0, PAUSES.1),
            retry_at: Duration::ZERO,
            trouble: None,
        }
    }

    /// The session that is to be renewed by a later run.
    pub(super) fn session(&self) -> Option<&SessionId> {
        self.session.as_ref().map(|session| &session.id)
    }

    /// The fencing number, where the lock is held.
    pub(super) fn fence(&self) -> Option<u64> {
        match self.session.as_ref()?.hold {
            Hold::Held { fence, .. } => Some(fence),
            Hold::Unknown | Hold::Not { .. } | Hold::Released => None,
        }
    }

    /// Until when the work may run.
    pub(super) fn lease(&self) -> Option<Duration> {
        self.fence()?;
        Some(self.session.as_ref()?.renewed? + LEASE)
    }

    /// Whether a change of the lock is to be handed in as soon as it happens.
    pub(super) fn watches(&self) -> bool {
        let hold = self.session.as_ref().map(|session| &session.hold);
        matches!(hold, Some(Hold::Held { .. } | Hold::Not { .. }))
    }

    /// What to do at `now`.
    pub(super) fn next(&mut self, facts: &Facts, now: Duration) -> Next {
        match facts.work {
            // What a lock was taken for is gone, and its session is nothing to go on with.
            Work::Gone | Work::Free => self.taken = Taken::Known,
            Work::Leased | Work::Unknown => {}
        }
        let ask = self.ask(facts, now);
        if ask.is_some() {
            self.asking.clone_from(&ask);
        }
        Next {
            command: self.command(facts),
            lease: self.lease(),
            ask,
            due: self.due(now),
        }
    }

    fn is_lost(&self) -> bool {
        match &self.session {
            None => self.taken == Taken::Known,
            Some(session) => match session.hold {
                Hold::Not { .. } | Hold::Released => true,
                Hold::Unknown | Hold::Held { .. } => false,
            },
        }
    }

    fn command(&self, facts: &Facts) -> Option<Command> {
        if (facts.gate, facts.work) == (Gate::Locked, Work::Leased) && self.is_lost() {
            // Whoever has the lock now may be at work.
            return Some(Command::Kill);
        }
        match (facts.wanted?, facts.gate, facts.work) {
            (WorkloadOrder::Stop, ..) => Some(Command::Stop),
            (WorkloadOrder::Start, Gate::Unknown, _) => None,
            // It runs in the other way.
            (WorkloadOrder::Start, Gate::Free, Work::Leased)
            | (WorkloadOrder::Start, Gate::Locked, Work::Free) => Some(Command::Stop),
            (WorkloadOrder::Start, Gate::Free, Work::Unknown | Work::Gone | Work::Free) => {
                Some(Command::Start { fence: None })
            }
            (WorkloadOrder::Start, Gate::Locked, Work::Unknown | Work::Gone | Work::Leased) => {
                let fence = Some(self.fence()?);
                Some(Command::Start { fence })
            }
        }
    }

    fn ask(&self, facts: &Facts, now: Duration) -> Option<Ask> {
        if self.asking.is_some() {
            return None;
        }
        let may_ask = now >= self.retry_at;
        let Some(session) = &self.session else {
            let starts = facts.is_to_hold() && facts.work == Work::Gone;
            let ask = match self.taken {
                Taken::Before if facts.may_have_held() => Some(Ask::Find),
                Taken::Before | Taken::Known => starts.then_some(Ask::Create),
            };
            return ask.filter(|_| may_ask);
        };
        let id = || session.id.clone();
        if session.hold == Hold::Released || facts.is_to_leave() {
            let ask = match session.hold {
                Hold::Unknown | Hold::Held { .. } => Ask::Release(id()),
                Hold::Not { .. } | Hold::Released => Ask::Destroy(id()),
            };
            return may_ask.then_some(ask);
        }
        if now >= session.renew_at {
            return Some(Ask::Renew(id()));
        }
        let takes = facts.is_to_hold() && facts.work == Work::Gone;
        match session.hold {
            Hold::Unknown if takes && may_ask => Some(Ask::Acquire(id())),
            // Taken anew, it would have a fence that what runs does not have.
            Hold::Unknown if facts.work == Work::Leased && may_ask => Some(Ask::Look),
            Hold::Not { free, again_at, .. } if takes && may_ask && (free || now >= again_at) => {
                Some(Ask::Acquire(id()))
            }
            Hold::Unknown | Hold::Not { .. } | Hold::Held { .. } | Hold::Released => None,
        }
    }

    fn due(&self, now: Duration) -> Option<Duration> {
        if self.asking.is_some() {
            return None;
        }
        let session = self.session.as_ref();
        let again_at = match session.map(|session| &session.hold) {
            Some(Hold::Not { again_at, .. }) => Some(*again_at),
            Some(Hold::Unknown | Hold::Held { .. } | Hold::Released) | None => None,
        };
        let renew_at = session.map(|session| session.renew_at);
        let due = [Some(self.retry_at), renew_at, again_at];
        due.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Takes the answer to what was asked, which was sent at `sent`. `random` is from 0 to 1.
    pub(super) fn answered(&mut self, sent: Duration, answer: Answer, now: Duration, random: f64) {
        let Some(asked) = self.asking.take() else {
            return;
        };
        if let Answer::Failed(trouble) = answer {
            self.failed(&asked, trouble, now, random);
            return;
        }
        if let Ask::Renew(_) = asked {
            match (answer, &mut self.session) {
                (Answer::Renewed, Some(session)) => session.renewed(sent),
                // It is gone, and with it the lock.
                _ => self.session = None,
            }
            return;
        }
        self.pauses.reset();
        self.retry_at = now;
        self.trouble = None;
        match (answer, &mut self.session) {
            (Answer::Created(id), session) => {
                session.insert(Session::new(id, now)).renewed(sent);
            }
            (Answer::Found(found), session) => {
                let guards = self.taken == Taken::Before;
                self.taken = Taken::Known;
                *session = found
                    .filter(|_| guards)
                    .map(|held| Session::adopted(held, now));
            }
            (Answer::Holds(holder), Some(session)) => {
                session.hold = session.hold_of(holder, now);
                self.taken = Taken::Known;
                // Free, and we did not get it: not at once again.
                if let Hold::Not { free: true, .. } = session.hold {
                    self.retry_at = now + PAUSES.0;
                }
            }
            (Answer::Released, Some(session)) => session.hold = Hold::Released,
            (Answer::Gone | Answer::Destroyed, session) => *session = None,
            (Answer::Renewed | Answer::Holds(_) | Answer::Released | Answer::Failed(_), _) => {}
        }
    }

    fn failed(&mut self, asked: &Ask, trouble: String, now: Duration, random: f64) {
        if let Ask::Renew(_) = asked {
            if let Some(session) = &mut self.session {
                session.renew_at = now + session.pauses.pause(random);
                session.trouble = Some(trouble);
            }
            return;
        }
        self.retry_at = now + self.pauses.pause(random);
        self.trouble = Some(trouble);
        let leaves = matches!(asked, Ask::Release(_) | Ask::Destroy(_));
        if let Some(session) = &mut self.session {
            // It may have failed because the session is gone: a renewal tells.
            session.renew_at = session.renew_at.min(self.retry_at);
            if leaves && now > session.over_at {
                self.session = None;
            }
        }
    }

    /// Takes the lock as a query that waits for its changes saw it.
    pub(super) fn seen(&mut self, holder: Holder, now: Duration) {
        let Some(session) = &mut self.session else {
            return;
        };
        match session.hold {
            // What was seen may be from before.
            Hold::Held { index, .. } if holder.index <= index => {}
            Hold::Held { .. } | Hold::Not { .. } => {
                let mine = holder.session.as_ref() == Some(&session.id);
                let held = matches!(session.hold, Hold::Held { .. });
                // What one holds without knowing it is found by asking for it.
                if held || !mine {
                    session.hold = session.hold_of(holder, now);
                }
            }
            Hold::Unknown | Hold::Released => {}
        }
    }
}

impl Session {
    fn new(id: SessionId, now: Duration) -> Self {
        Self {
            id,
            renewed: None,
            renew_at: now,
            pauses: Backoff::new(PAUSES.0, PAUSES.1),
            trouble: None,
            over_at: now + TTL * 2,
            hold: Hold::Unknown,
        }
    }

    /// One that was found to hold the lock. How long it has not been renewed, nobody knows.
    fn adopted(held: Held, now: Duration) -> Self {
        let (fence, index) = (held.fence, held.index);
        Self {
            hold: Hold::Held { fence, index },
            ..Self::new(held.session, now)
        }
    }

    /// A renewal that was sent then has succeeded.
    fn renewed(&mut self, sent: Duration) {
        self.renewed = self.renewed.max(Some(sent));
        self.renew_at = sent + RENEW_EVERY;
        // Consul ends it between one and two TTLs after that.
        self.over_at = sent + TTL * 2;
        self.pauses.reset();
        self.trouble = None;
    }

    fn hold_of(&self, holder: Holder, now: Duration) -> Hold {
        if holder.session.as_ref() == Some(&self.id) {
            return Hold::Held {
                fence: holder.fence,
                index: holder.index,
            };
        }
        let free = holder.session.is_none();
        Hold::Not {
            by: holder.instance.filter(|_| !free),
            free,
            again_at: now + ASK_AGAIN,
        }
    }
}
