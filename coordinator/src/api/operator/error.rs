//! Why a call fails: a text for people and a word for programs, mapped to gRPC in one place.

use calvin_engine::{CommandError, RecoveryRefusal, chain};
use calvin_model::ConfigError;
use calvin_planner::{InvariantId, Refusal};
use tonic::{Code, Status, metadata::MetadataValue};

use crate::{
    identity::{EnrolError, IdentityError, REASON_HEADER},
    images::ImageError,
    provider::ConsoleError,
    runtime::OrderError,
    store::StoreFailure,
};

/// The header that names the rule which an order that was refused would break.
pub const RULE_HEADER: &str = "calvin-rule";

/// Why a call of the operator service fails.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// A field of the request is wrong.
    #[error("{message}")]
    Invalid {
        /// What is wrong with which.
        message: String,
    },
    /// A file of the request is wrong.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// What is named is not there.
    #[error("there is no {kind} {name:?}{}", guess(.near.as_deref()))]
    NotFound {
        /// A fleet, an instance, an image.
        kind: &'static str,
        /// The name given.
        name: String,
        /// What was probably meant.
        near: Option<String>,
    },
    /// It cannot be done to what is named, whenever it is asked.
    #[error("{message}")]
    Unsupported {
        /// What cannot be done, and why.
        message: String,
    },
    /// The state does not allow it now.
    #[error("{message}")]
    NotNow {
        /// What was asked, why not, what to do instead.
        message: String,
        /// The rule that the refusal protects, where it is one of the planner's.
        rule: Option<InvariantId>,
    },
    /// A previewed plan no longer holds.
    #[error("{message}")]
    PlanChanged {
        /// Which, and what has changed.
        message: String,
    },
    /// The order was not taken.
    #[error(transparent)]
    Order(OrderError),
    /// Images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Identities.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A machine's output.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The store.
    #[error("could not read the store")]
    Store(#[from] StoreFailure),
    /// A task of ours ended without an answer.
    #[error("the coordinator could not finish the call")]
    Lost(#[from] tokio::task::JoinError),
}

fn guess(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

impl OperatorError {
    /// A request that cannot be understood.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
        }
    }

    /// Code and word of this error.
    fn kind(&self) -> (Code, &'static str) {
        match self {
            Self::Invalid { .. } => (Code::InvalidArgument, "invalid"),
            Self::File(_) => (Code::InvalidArgument, "file_invalid"),
            Self::NotFound { kind: "image", .. } => (Code::NotFound, "image_not_found"),
            Self::NotFound { .. } => (Code::NotFound, "not_found"),
            Self::Unsupported { .. } => (Code::FailedPrecondition, "unsupported"),
            Self::NotNow { .. } => (Code::FailedPrecondition, "not_now"),
            Self::PlanChanged { .. } => (Code::Aborted, "plan_changed"),
            Self::Order(error) => order_kind(error),
            Self::Image(error) => image_kind(error),
            Self::Identity(_) => (Code::Internal, "identity"),
            Self::Console(ConsoleError::NoMachine { .. }) => (Code::NotFound, "not_found"),
            Self::Console(ConsoleError::Read { .. }) => (Code::Internal, "console"),
            Self::Store(_) => (Code::Unavailable, "store"),
            Self::Lost(_) => (Code::Internal, "lost"),
        }
    }
}

impl OperatorError {
    /// The rule for whose sake it is refused.
    fn rule(&self) -> Option<InvariantId> {
        match self {
            Self::NotNow { rule, .. } => *rule,
            Self::Invalid { .. }
            | Self::File(_)
            | Self::NotFound { .. }
            | Self::Unsupported { .. }
            | Self::PlanChanged { .. }
            | Self::Order(_)
            | Self::Image(_)
            | Self::Identity(_)
            | Self::Console(_)
            | Self::Store(_)
            | Self::Lost(_) => None,
        }
    }
}

fn order_kind(error: &OrderError) -> (Code, &'static str) {
    match error {
        OrderError::Engine(CommandError::Refused(_)) => (Code::FailedPrecondition, "not_now"),
        OrderError::Engine(CommandError::Held { .. }) => (Code::Unavailable, "held"),
        OrderError::Engine(CommandError::Recovering { .. }) => {
            (Code::FailedPrecondition, "recovering")
        }
        OrderError::Engine(CommandError::Recovery(RecoveryRefusal::PlanChanged { .. })) => {
            (Code::Aborted, "plan_changed")
        }
        OrderError::Engine(CommandError::Recovery(
            RecoveryRefusal::NotRecovering
            | RecoveryRefusal::Blocked { .. }
            | RecoveryRefusal::TooEarly { .. }
            | RecoveryRefusal::NotAdopted { .. },
        )) => (Code::FailedPrecondition, "not_now"),
        OrderError::Engine(CommandError::NotCommitted(_)) => (Code::Unavailable, "not_committed"),
        OrderError::Busy => (Code::ResourceExhausted, "busy"),
        OrderError::NoAnswer => (Code::DeadlineExceeded, "no_answer"),
        OrderError::Ended => (Code::Unavailable, "stopping"),
    }
}

fn image_kind(error: &ImageError) -> (Code, &'static str) {
    match error {
        ImageError::Read { .. }
        | ImageError::TooLarge { .. }
        | ImageError::Manifest(_)
        | ImageError::Digest(_) => (Code::InvalidArgument, "image_invalid"),
        ImageError::OtherContent { .. } | ImageError::OtherProvider { .. } => {
            (Code::AlreadyExists, "image_exists")
        }
        ImageError::Format { .. } | ImageError::Damaged { .. } | ImageError::Store { .. } => {
            (Code::Unavailable, "store")
        }
    }
}

impl From<OrderError> for OperatorError {
    fn from(error: OrderError) -> Self {
        if let OrderError::Engine(CommandError::Refused(refusal)) = error {
            return refusal.into();
        }
        Self::Order(error)
    }
}

impl From<Refusal> for OperatorError {
    fn from(refusal: Refusal) -> Self {
        let (message, rule) = (refusal.to_string(), refusal.rule());
        match refusal {
            Refusal::NoFleet { fleet, known } => {
                let known = known.iter().map(calvin_model::FleetName::as_str);
                Self::NotFound {
                    kind: "fleet",
                    near: near(fleet.as_str(), known),
                    name: fleet.to_string(),
                }
            }
            Refusal::NoInstance { instance } => Self::NotFound {
                kind: "instance",
                name: instance.to_string(),
                near: None,
            },
            Refusal::NotNow { hint, .. } if hint.is_empty() => Self::NotNow { message, rule },
            Refusal::NotNow { hint, .. } => Self::NotNow {
                message: format!("{message}; {hint}"),
                rule,
            },
            Refusal::PlanChanged { .. } => Self::PlanChanged { message },
        }
    }
}

/// The one of `known` that was probably meant.
pub(super) fn near<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    calvin_model::config::nearest(given, known).map(str::to_owned)
}

/// What the client is told of an identity's refusal or failure.
pub(super) fn enrol_status(error: EnrolError) -> Status {
    match error {
        EnrolError::Refused(refusal) => refusal.status(),
        EnrolError::Failed(error) => OperatorError::Identity(error).into(),
    }
}

impl From<OperatorError> for Status {
    fn from(error: OperatorError) -> Self {
        let (code, word) = error.kind();
        let text = chain(&error);
        if code == Code::Internal {
            tracing::error!(error = %text, "a call failed");
        }
        let mut status = Status::new(code, text);
        let reason = MetadataValue::from_static(word);
        status.metadata_mut().insert(REASON_HEADER, reason);
        let rule = error.rule().and_then(|rule| rule.to_string().parse().ok());
        if let Some(rule) = rule {
            status.metadata_mut().insert(RULE_HEADER, rule);
        }
        status
    }
}
