//! The one place that talks to Consul: the given client, rs-consul, over one HTTP client, and what it
//! lacks.
//!
//! rs-consul writes KV entries, lists service names, takes entries out of the catalogue and makes
//! policies; its deletes, reads and locks are wrong or block and are forbidden to clippy here.
//! Everything else is asked for here, over the same connections: the agent's services and checks,
//! health with its checks, queries that wait, sessions, transactions, tokens.
//!
//! - A [`Client`] is one Consul agent or server. Token and certificates are replaced in place.
//! - Every [`Error`] says what was tried and tells why by a [`Reason`]: not found, denied with the
//!   rule that is missing, no leader, rate limited, timed out.
//! - An answer of which Consul left something out, because the token may not see it, is an error
//!   wherever somebody decides on it: it looks exactly like an empty catalogue.
//! - A [`Watch`] is a query that waits, again and again, by the rules of [`query`].
//! - Names are checked before they go out ([`names`]), and a [`Key`] is never a prefix.
//! - [`policies`] writes the least policies that all of this needs.
//!
//! Built for and tested with Consul 1.22. Rules that come from Consul name the page of its
//! documentation or the part of its sources that says so.

pub mod acl;
pub mod agent;
pub mod catalog;
pub mod client;
pub mod connect;
pub mod error;
pub mod exclusive;
pub mod health;
pub mod kv;
pub mod names;
pub mod policies;
pub mod query;
pub mod registered;
pub mod roles;
pub mod session;
pub mod tls;
pub mod txn;
pub mod watch;

mod request;

pub use client::{Address, Client, Settings, SetupError, Token};
pub use error::{Error, MissingRule, Reason};
pub use names::{InvalidName, Key, Prefix};
pub use query::{Advance, Consistency, Read};
pub use session::SessionId;
pub use tls::{Identity, Tls};
pub use watch::{Answered, Pulse, Seen, Watch, WatchOptions};
