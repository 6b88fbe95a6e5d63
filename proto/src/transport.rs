//! Mutual TLS between everything that speaks over a network. TLS 1.3 only and one provider, ring:
//! both ends are ours.
//!
//! tonic's own TLS is static, so the handshake is done here: the server's configuration can be
//! swapped while it serves (a new CA, a renewed certificate), a handshake that fails is reported
//! with its reason, and certificates are optional in the handshake and judged per call, because
//! enrolment has none yet and renewal may come with an expired one.

pub mod client;
pub mod explain;
pub mod key;
pub mod peer;
pub mod server;
pub mod services;
pub mod tls;
mod verifier;

pub use client::{ConnectError, connect, connect_unix};
pub use explain::{explain, explain_status};
pub use key::{KeyError, new_key, signing_request};
pub use peer::{PeerCertificate, PeerError, PeerIdentity, PeerInfo, Shown};
pub use server::{Connection, HandshakeRefused, Incoming, incoming, server_builder};
pub use tls::{TlsError, Trusted, client_config, coordinator_dns_name, server_config};
