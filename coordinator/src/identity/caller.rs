//! Who calls the operator service: an operator with a certificate, or, over the socket on the
//! coordinator's machine, root or the coordinator's own user.

use calvin_model::OperatorRole;
use calvin_proto::transport::{PeerInfo, Shown};
use tonic::{Request, Status, transport::server::UdsConnectInfo};

use super::{Identity, Refusal, judge::Expired};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As history and audit name it: an operator's name, or `local:<uid>`.
    pub name: String,
    /// What it may do.
    pub role: OperatorRole,
}

/// One call, to be judged as often as it takes: what it opened may outlive the caller's certificate
/// or good name.
#[derive(Debug, Clone)]
pub struct Call {
    identity: Identity,
    tls: Option<PeerInfo>,
    socket: Option<UdsConnectInfo>,
    needed: OperatorRole,
}

impl Call {
    /// Says who calls, if they may do now what they asked for. A refusal is audited here.
    ///
    /// # Errors
    /// The status that the client is given, with the reason.
    pub fn judge(&self) -> Result<Caller, Status> {
        let (identity, needed) = (&self.identity, self.needed);
        let caller = match (&self.tls, &self.socket) {
            (Some(peer), _) => identity.remote_caller(peer),
            (None, Some(socket)) => local_caller(socket),
            (None, None) => Err(Refusal::PeerUnknown),
        };
        let caller = caller.and_then(|caller| {
            if caller.role >= needed {
                return Ok(caller);
            }
            Err(Refusal::RoleTooLow {
                who: caller.name,
                needed,
                has: caller.role,
            })
        });
        caller.map_err(|refusal| match &self.tls {
            Some(peer) => identity.refuse(peer, &refusal),
            None => {
                let audit = identity.audit();
                audit.refused(identity.now(), "local", "", &refusal);
                refusal.status()
            }
        })
    }
}

impl Identity {
    /// A call that needs the role `needed`, not judged yet.
    #[must_use]
    pub fn call<T>(&self, request: &Request<T>, needed: OperatorRole) -> Call {
        let extensions = request.extensions();
        Call {
            identity: self.clone(),
            tls: extensions.get::<PeerInfo>().cloned(),
            socket: extensions.get::<UdsConnectInfo>().cloned(),
            needed,
        }
    }

    /// Records that a peer was turned away, and gives what it is told.
    #[must_use]
    pub fn refuse(&self, peer: &PeerInfo, refusal: &Refusal) -> Status {
        let who = who(peer);
        let from = peer.address.to_string();
        self.audit().refused(self.now(), &who, &from, refusal);
        refusal.status()
    }

    fn remote_caller(&self, peer: &PeerInfo) -> Result<Caller, Refusal> {
        let certificate = self.certificate(peer, Expired::Refused)?;
        let (name, role) = self.check_operator(&certificate)?;
        Ok(Caller {
            name: name.to_string(),
            role,
        })
    }
}

/// Who a peer is, for the audit.
fn who(peer: &PeerInfo) -> String {
    match &peer.shown {
        Shown::Nothing => "nobody".to_owned(),
        Shown::Unreadable(_) => "unreadable".to_owned(),
        Shown::Certificate(certificate) => certificate.identity.to_string(),
    }
}

fn local_caller(socket: &UdsConnectInfo) -> Result<Caller, Refusal> {
    let uid = socket.peer_cred.ok_or(Refusal::PeerUnknown)?.uid();
    let own = rustix::process::geteuid();
    if uid != 0 && uid != own.as_raw() {
        return Err(Refusal::UserNotAllowed { uid });
    }
    Ok(Caller {
        name: format!("local:{uid}"),
        role: OperatorRole::Admin,
    })
}
