//! Everything that crosses the wire: the messages of `calvin/v1/*.proto`, their conversion to the
//! shared words of `calvin-model`, and the mutual TLS transport below them.
//!
//! Wire types stop here: the coordinator and the agent convert at their edge, and a message that
//! names what this version does not know is refused with the name, never guessed at.
//!
//! What coordinator and agent agree on without a wire, on one host, is in [`machine`].

pub mod machine;

pub mod convert;
pub mod limits;
pub mod transport;

pub mod wire {
    //! Generated from `calvin/v1/*.proto`; the documentation of each field is there.
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::wildcard_enum_match_arm,
        clippy::too_many_lines,
        reason = "generated code"
    )]
    tonic::include_proto!("calvin.v1");
}

/// The compiled descriptors of all wire files, for gRPC reflection and for the compatibility test.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
