//! The generated clients and servers with the limits of this crate set on both ends. Nothing else
//! may make them: a forgotten limit is tonic's default of 4 MiB.

use tonic::transport::Channel;

use crate::{
    limits,
    wire::{
        agent_session_client::AgentSessionClient,
        agent_session_server::{AgentSession, AgentSessionServer},
        enrolment_client::EnrolmentClient,
        enrolment_server::{Enrolment, EnrolmentServer},
        operator_client::OperatorClient,
        operator_server::{Operator, OperatorServer},
    },
};

/// The agent's client of its session.
#[must_use]
pub fn session_client(channel: Channel) -> AgentSessionClient<Channel> {
    AgentSessionClient::new(channel)
        .max_decoding_message_size(limits::TO_AGENT_BYTES)
        .max_encoding_message_size(limits::FROM_AGENT_BYTES)
}

/// The coordinator's server of sessions.
#[must_use]
pub fn session_server<T: AgentSession>(service: T) -> AgentSessionServer<T> {
    AgentSessionServer::new(service)
        .max_decoding_message_size(limits::FROM_AGENT_BYTES)
        .max_encoding_message_size(limits::TO_AGENT_BYTES)
}

/// The agent's client of enrolment and renewal.
#[must_use]
pub fn enrolment_client(channel: Channel) -> EnrolmentClient<Channel> {
    EnrolmentClient::new(channel)
        .max_decoding_message_size(limits::ENROLMENT_BYTES)
        .max_encoding_message_size(limits::ENROLMENT_BYTES)
}

/// The coordinator's server of enrolment and renewal.
#[must_use]
pub fn enrolment_server<T: Enrolment>(service: T) -> EnrolmentServer<T> {
    EnrolmentServer::new(service)
        .max_decoding_message_size(limits::ENROLMENT_BYTES)
        .max_encoding_message_size(limits::ENROLMENT_BYTES)
}

/// An operator's client.
#[must_use]
pub fn operator_client(channel: Channel) -> OperatorClient<Channel> {
    OperatorClient::new(channel)
        .max_decoding_message_size(limits::OPERATOR_REPLY_BYTES)
        .max_encoding_message_size(limits::OPERATOR_REQUEST_BYTES)
}

/// The coordinator's server of the operator service.
#[must_use]
pub fn operator_server<T: Operator>(service: T) -> OperatorServer<T> {
    OperatorServer::new(service)
        .max_decoding_message_size(limits::OPERATOR_REQUEST_BYTES)
        .max_encoding_message_size(limits::OPERATOR_REPLY_BYTES)
}
