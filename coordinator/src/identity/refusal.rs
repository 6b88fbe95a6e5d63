//! Every reason for which somebody is turned away: a word that stays the same for tools, and a
//! sentence that says what to do. The same goes to the client and into the audit.

use calvin_model::{EnvironmentName, InstanceId, OperatorName, OperatorRole};
use calvin_proto::transport::PeerError;
use tonic::{Code, Status, metadata::MetadataValue};

/// The header that carries the word.
pub const REASON_HEADER: &str = "calvin-reason";

/// Why somebody is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The handshake failed.
    #[error("{reason}")]
    Handshake {
        /// Why, in words.
        reason: String,
    },
    /// No certificate where one is needed.
    #[error("this call needs a certificate, and none was shown")]
    CertificateMissing,
    /// A certificate of our CA that names nobody.
    #[error("{0}")]
    CertificateUnreadable(PeerError),
    /// An expired certificate on a call other than renewal.
    #[error("the certificate has expired; the only thing it is good for is to renew")]
    CertificateExpired,
    /// Of another environment.
    #[error("this is environment {ours}; the certificate or request is of environment {theirs}")]
    EnvironmentForeign {
        /// Ours.
        ours: EnvironmentName,
        /// Theirs.
        theirs: String,
    },
    /// An operator or coordinator calls the agent service.
    #[error("only instances may call this service; the certificate is that of {who}")]
    NotAnInstance {
        /// Whose certificate.
        who: String,
    },
    /// An instance or coordinator calls the operator service.
    #[error("only operators may call this service; the certificate is that of {who}")]
    NotAnOperator {
        /// Whose certificate.
        who: String,
    },
    /// An agent speaks for another instance.
    #[error("the certificate is that of instance {certificate}, which cannot speak for {claimed}")]
    InstanceMismatch {
        /// The certificate's.
        certificate: InstanceId,
        /// The one that it claims to be.
        claimed: InstanceId,
    },
    /// No such instance.
    #[error("instance {instance} is not known here")]
    InstanceUnknown {
        /// Which.
        instance: String,
    },
    /// Its identity was revoked.
    #[error("instance {instance} is retired: its identity is revoked for good")]
    InstanceRetired {
        /// Which.
        instance: InstanceId,
    },
    /// A token that was never made.
    #[error("the join token that {instance} shows is not one of this environment")]
    TokenForged {
        /// Who showed it.
        instance: InstanceId,
    },
    /// A token of another instance.
    #[error("the join token was made for another instance than {instance}")]
    TokenForeign {
        /// Who showed it.
        instance: InstanceId,
    },
    /// A token that was not spent in time.
    #[error(
        "the join token of instance {instance} has expired unspent: let the instance be replaced"
    )]
    TokenExpired {
        /// Whose.
        instance: InstanceId,
    },
    /// A token that another key spent.
    #[error("the join token of instance {instance} was spent by another key: an alarm is raised")]
    TokenSpent {
        /// Whose.
        instance: InstanceId,
    },
    /// A renewal with a certificate, or a repeated enrolment with a key, that was replaced before
    /// the newest.
    #[error(
        "instance {instance} has renewed this certificate before with another key: an alarm is raised"
    )]
    CertificateSuperseded {
        /// Whose.
        instance: InstanceId,
    },
    /// No signing request.
    #[error("the signing request cannot be read, or is not signed by its own key")]
    RequestNotValid,
    /// A message that cannot be converted.
    #[error("{problem}")]
    MessageNotValid {
        /// What is wrong.
        problem: String,
    },
    /// No protocol version in common.
    #[error(
        "this coordinator speaks protocol {ours}, the agent {theirs}: neither knows the other's"
    )]
    ProtocolUnknown {
        /// Ours, as a range.
        ours: String,
        /// Theirs.
        theirs: String,
    },
    /// The machine was made from something else.
    #[error(
        "instance {instance} was made from image {image}, but its {what} is {found}, not the recorded {recorded}"
    )]
    ImageDiffers {
        /// Which.
        instance: InstanceId,
        /// The image on record.
        image: String,
        /// What differs.
        what: &'static str,
        /// What it shows.
        found: String,
        /// What is recorded.
        recorded: String,
    },
    /// The agent has heard of a newer coordinator.
    #[error(
        "instance {instance} has seen epoch {seen}, this coordinator has {ours}: it is behind the world"
    )]
    BehindTheWorld {
        /// Which.
        instance: InstanceId,
        /// The epoch that it has seen.
        seen: String,
        /// Ours.
        ours: String,
    },
    /// The agent has been told a generation that we never gave.
    #[error(
        "instance {instance} has seen generation {seen}, this coordinator has {ours}: it is behind the world"
    )]
    BehindInGeneration {
        /// Which.
        instance: InstanceId,
        /// The generation that it has seen.
        seen: u64,
        /// Ours.
        ours: u64,
    },
    /// Too many in too short a time.
    #[error("too many enrolments at once: try again in a moment")]
    TooMany,
    /// No such operator.
    #[error("operator {name} is not known here")]
    OperatorUnknown {
        /// Who.
        name: OperatorName,
    },
    /// The operator was revoked, or has a newer certificate.
    #[error("this certificate of operator {name} is revoked")]
    OperatorRevoked {
        /// Who.
        name: OperatorName,
    },
    /// A role that does not suffice.
    #[error("this needs the role {needed}; {who} has {has}")]
    RoleTooLow {
        /// Who.
        who: String,
        /// What the call needs.
        needed: OperatorRole,
        /// What it has.
        has: OperatorRole,
    },
    /// A user of this machine who is neither root nor the coordinator's own.
    #[error("user {uid} may not use this socket: only root and the coordinator's own user may")]
    UserNotAllowed {
        /// Which user.
        uid: u32,
    },
    /// A connection of which nothing is known.
    #[error("it is not known who is on the other side of this connection")]
    PeerUnknown,
}

impl Refusal {
    /// The word for tools; never changes.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Handshake { .. } => "handshake",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateUnreadable(_) => "certificate_unreadable",
            Self::CertificateExpired => "certificate_expired",
            Self::EnvironmentForeign { .. } => "environment_foreign",
            Self::NotAnInstance { .. } => "not_an_instance",
            Self::NotAnOperator { .. } => "not_an_operator",
            Self::InstanceMismatch { .. } => "instance_mismatch",
            Self::InstanceUnknown { .. } => "instance_unknown",
            Self::InstanceRetired { .. } => "instance_retired",
            Self::TokenForged { .. } => "token_forged",
            Self::TokenForeign { .. } => "token_foreign",
            Self::TokenExpired { .. } => "token_expired",
            Self::TokenSpent { .. } => "token_spent",
            Self::CertificateSuperseded { .. } => "certificate_superseded",
            Self::RequestNotValid => "request_not_valid",
            Self::MessageNotValid { .. } => "message_not_valid",
            Self::ProtocolUnknown { .. } => "protocol_unknown",
            Self::ImageDiffers { .. } => "image_differs",
            Self::BehindTheWorld { .. } | Self::BehindInGeneration { .. } => "behind_the_world",
            Self::TooMany => "too_many",
            Self::OperatorUnknown { .. } => "operator_unknown",
            Self::OperatorRevoked { .. } => "operator_revoked",
            Self::RoleTooLow { .. } => "role_too_low",
            Self::UserNotAllowed { .. } => "user_not_allowed",
            Self::PeerUnknown => "peer_unknown",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Handshake { .. }
            | Self::CertificateMissing
            | Self::CertificateUnreadable(_)
            | Self::CertificateExpired
            | Self::EnvironmentForeign { .. }
            | Self::TokenForged { .. }
            | Self::TokenForeign { .. }
            | Self::TokenExpired { .. }
            | Self::TokenSpent { .. }
            | Self::CertificateSuperseded { .. }
            | Self::PeerUnknown => Code::Unauthenticated,
            Self::NotAnInstance { .. }
            | Self::NotAnOperator { .. }
            | Self::InstanceMismatch { .. }
            | Self::InstanceUnknown { .. }
            | Self::InstanceRetired { .. }
            | Self::ImageDiffers { .. }
            | Self::OperatorUnknown { .. }
            | Self::OperatorRevoked { .. }
            | Self::RoleTooLow { .. }
            | Self::UserNotAllowed { .. } => Code::PermissionDenied,
            Self::RequestNotValid | Self::MessageNotValid { .. } => Code::InvalidArgument,
            Self::ProtocolUnknown { .. }
            | Self::BehindTheWorld { .. }
            | Self::BehindInGeneration { .. } => Code::FailedPrecondition,
            Self::TooMany => Code::ResourceExhausted,
        }
    }

    /// What the client is told.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = Status::new(self.code(), self.to_string());
        status
            .metadata_mut()
            .insert(REASON_HEADER, MetadataValue::from_static(self.word()));
        status
    }
}
