//! Who is who in an environment: its CA, join tokens, certificates of instances and operators,
//! and the audit of what was refused and what admins did.
//!
//! All of it is one [`Identity`], cheap to clone. Its records are kept in memory and written
//! through to tables of the environment's store, so that a look costs neither disk nor lock and an
//! answer is given only after it is durable. What changes something waits for the disk: call it
//! where that is allowed. Time comes from the caller, so that a test can make a
//! certificate expire.

mod adopt;
mod audit;
mod authority;
mod caller;
mod certificate;
mod error;
mod instances;
mod judge;
mod known;
mod operators;
mod records;
mod refusal;
mod server;
#[cfg(test)]
mod tests;
mod token;

use std::{
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use calvin_model::{EnvironmentName, InstanceId};
use calvin_proto::convert::Trust;
use rustls::ServerConfig;
use tokio::sync::watch;

pub use audit::{Audit, AuditEntry, AuditError};
pub use authority::TrustedCa;
pub use caller::{Call, Caller};
pub use certificate::Issued;
pub use error::IdentityError;
pub use instances::{EnrolClaim, EnrolError, Enrolled};
pub use judge::Expired;
pub use operators::{AddedOperator, OperatorView};
pub use refusal::{REASON_HEADER, Refusal};
pub use server::Rotated;
pub use token::ConsulToken;

use authority::Authority;
use known::{Instances, Known, Operators};
use records::Records;
use server::ServerCertificate;
use token::TokenKey;

pub(crate) use crate::runtime::wall_ms;
use crate::store::Database;

/// Where the time comes from.
pub type Now = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Life of an instance's certificate. It is renewed at half of it, so a coordinator may be away
/// for twelve hours before the first one expires; and an expired one may still renew.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Life of a join token: a machine that has not enrolled an hour after it was asked for is lost.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// Certificates begin so long before they are made, for machines whose clock is behind.
pub const BACKDATED: Duration = Duration::from_secs(3600);

/// What an environment's identity is opened with.
#[derive(Debug, Clone)]
pub struct IdentityOptions {
    /// The environment.
    pub environment: EnvironmentName,
    /// The data directory; CA keys lie in `ca/` and the audit in `audit.log`.
    pub data: PathBuf,
    /// Every coordinator's agent listener, as agents reach it.
    pub coordinators: Vec<SocketAddr>,
    /// Life of an instance's certificate.
    pub certificate_life: Duration,
    /// Life of a join token.
    pub token_life: Duration,
}

impl IdentityOptions {
    /// The usual lives.
    #[must_use]
    pub fn new(environment: EnvironmentName, data: PathBuf, coordinators: Vec<SocketAddr>) -> Self {
        Self {
            environment,
            data,
            coordinators,
            certificate_life: CERTIFICATE_LIFE,
            token_life: TOKEN_LIFE,
        }
    }
}

/// The identities of one environment. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    options: IdentityOptions,
    now: Now,
    token_key: TokenKey,
    records: Records,
    audit: Audit,
    tls: Arc<ArcSwap<ServerConfig>>,
    trust: watch::Sender<Arc<Trust>>,
    state: Mutex<State>,
    known: ArcSwap<Known>,
}

/// What changes, under one lock, which only those take that change it. It is held over a commit:
/// an answer is given only when it is durable, and answers to one instance come one after the
/// other.
struct State {
    authority: Authority,
    server: ServerCertificate,
    instances: Instances,
    operators: Operators,
    keeps: CasKept,
}

/// Which CAs are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CasKept {
    /// Those that something on record rests on.
    #[default]
    Needed,
    /// Every one: the records may lack those that rest on it.
    All,
}

impl State {
    fn known(&self) -> Known {
        Known {
            instances: Arc::clone(&self.instances),
            operators: Arc::clone(&self.operators),
            trusted: self.authority.trusted(),
            signs: self.authority.newest().key_id.clone(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("environment", &self.inner.options.environment)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Opens an environment's identity; makes its CA at the first start.
    ///
    /// # Errors
    /// Where keys or records cannot be read or written.
    pub fn open(
        options: IdentityOptions,
        database: Arc<Database>,
        now: Now,
    ) -> Result<Self, IdentityError> {
        let at = now();
        let directory = options.data.join("ca");
        let records = Records::open(database)?;
        let (instances, operators) = (records.instances()?, records.operators()?);
        // Whoever is on record trusts the CA that signed for it and no new one.
        let on_record = instances.len() + operators.len();
        if on_record > 0 && !Authority::is_in(&directory)? {
            return Err(IdentityError::KeysGone {
                path: directory,
                on_record,
            });
        }
        let authority = Authority::open(&directory, &options.environment, at)?;
        let token_key = TokenKey::open(&directory)?;
        let server = ServerCertificate::issue(&authority, &options.environment, at)?;
        let config = server.config(&authority)?;
        let trust = watch::Sender::new(Arc::new(Trust {
            ca_pem: authority.bundle_pem(),
            coordinators: options.coordinators.clone(),
        }));
        let state = State {
            authority,
            server,
            instances: Arc::new(instances),
            operators: Arc::new(operators),
            keeps: CasKept::default(),
        };
        let audit = Audit::open(&options.data)?;
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                now,
                token_key,
                records,
                audit,
                tls: Arc::new(ArcSwap::from_pointee(config)),
                trust,
                known: ArcSwap::from_pointee(state.known()),
                state: Mutex::new(state),
            }),
        })
    }

    /// The environment.
    #[must_use]
    pub fn environment(&self) -> &EnvironmentName {
        &self.inner.options.environment
    }

    /// The TLS configuration of both listeners; swapped in place when certificate or CA change.
    #[must_use]
    pub fn tls(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.inner.tls)
    }

    /// Whom agents are to trust, and each change of it.
    #[must_use]
    pub fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.inner.trust.subscribe()
    }

    /// Every CA certificate that is trusted now, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.inner.trust.borrow().ca_pem.clone()
    }

    /// Every coordinator's agent listener.
    #[must_use]
    pub fn coordinators(&self) -> Vec<SocketAddr> {
        self.inner.options.coordinators.clone()
    }

    /// The ACL token of an instance's Consul node; always the same one.
    #[must_use]
    pub fn consul_token(&self, instance: &InstanceId) -> ConsulToken {
        self.inner.token_key.consul(self.environment(), instance)
    }

    /// The audit.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    /// The time that certificates are judged by.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        (self.inner.now)()
    }

    /// What is in effect; costs no lock.
    fn known(&self) -> Arc<Known> {
        self.inner.known.load_full()
    }

    /// Puts in effect what was committed.
    fn publish(&self, state: &State) {
        self.inner.known.store(Arc::new(state.known()));
    }

    /// For who changes something. May wait for as long as the disk takes.
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the records in memory is one assignment after its commit, so a panic
        // elsewhere cannot have left them half changed.
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
