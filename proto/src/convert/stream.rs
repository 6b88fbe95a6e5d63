//! The envelopes of the session's two directions.

use calvin_model::{Epoch, Join, NamesSnapshot, Report, Wanted};

use super::{ConvertError, Hello, RegistrationOrder, Trust, Welcome};
use crate::wire;

/// A wanted state, with who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Who speaks.
    pub epoch: Epoch,
    /// What is wanted.
    pub wanted: Wanted,
}

/// One message of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromAgent {
    /// First.
    Hello(Hello),
    /// At each change and each interval.
    Report(Report),
}

impl TryFrom<wire::FromAgent> for FromAgent {
    type Error = ConvertError;

    /// A message of a kind that this version does not know arrives as an empty one and is
    /// refused as missing.
    fn try_from(message: wire::FromAgent) -> Result<Self, ConvertError> {
        use wire::from_agent::Message;
        let field = "from_agent.message";
        match message.message.ok_or(ConvertError::Missing { field })? {
            Message::Hello(hello) => hello.try_into().map(Self::Hello),
            Message::Report(report) => report.try_into().map(Self::Report),
        }
    }
}

impl From<&FromAgent> for wire::FromAgent {
    fn from(message: &FromAgent) -> Self {
        use wire::from_agent::Message;
        let message = match message {
            FromAgent::Hello(hello) => Message::Hello(hello.into()),
            FromAgent::Report(report) => Message::Report(report.into()),
        };
        Self {
            message: Some(message),
        }
    }
}

/// One message to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToAgent {
    /// First.
    Welcome(Welcome),
    /// The newest wanted state.
    Wanted(Order),
    /// The newest names.
    Names(NamesSnapshot),
    /// CA certificates and coordinators.
    Trust(Trust),
    /// How to join the servers of the environment.
    Join(Join),
    /// How to be registered there.
    Registration(RegistrationOrder),
}

impl TryFrom<wire::ToAgent> for ToAgent {
    type Error = ConvertError;

    fn try_from(message: wire::ToAgent) -> Result<Self, ConvertError> {
        use wire::to_agent::Message;
        let field = "to_agent.message";
        match message.message.ok_or(ConvertError::Missing { field })? {
            Message::Welcome(welcome) => welcome.try_into().map(Self::Welcome),
            Message::Wanted(wanted) => wanted.try_into().map(Self::Wanted),
            Message::Names(names) => names.try_into().map(Self::Names),
            Message::Trust(trust) => trust.try_into().map(Self::Trust),
            Message::Join(join) => join.try_into().map(Self::Join),
            Message::Registration(order) => order.try_into().map(Self::Registration),
        }
    }
}

impl TryFrom<&ToAgent> for wire::ToAgent {
    type Error = ConvertError;

    /// Fails for a names snapshot that is too large, only.
    fn try_from(message: &ToAgent) -> Result<Self, ConvertError> {
        use wire::to_agent::Message;
        let message = match message {
            ToAgent::Welcome(welcome) => Message::Welcome(welcome.into()),
            ToAgent::Wanted(order) => Message::Wanted(order.into()),
            ToAgent::Names(names) => Message::Names(names.try_into()?),
            ToAgent::Trust(trust) => Message::Trust(trust.into()),
            ToAgent::Join(join) => Message::Join(join.into()),
            ToAgent::Registration(order) => Message::Registration(order.into()),
        };
        Ok(Self {
            message: Some(message),
        })
    }
}
