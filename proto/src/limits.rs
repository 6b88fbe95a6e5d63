//! What may cross the wire and how long anybody waits for it. Every number here bounds what a
//! stranger, a mistake or a slow peer can cost; the arithmetic stands beside it.

use std::time::Duration;

/// The lowest protocol version that this build speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The highest protocol version that this build speaks.
pub const PROTOCOL_MAX: u32 = 1;

/// Entries of a names snapshot: the instances of one environment.
pub const NAMES_ENTRIES: usize = 10_000;
/// Services of one entry; the same number bounds `image.toml`.
pub const ENTRY_SERVICES: usize = 64;
/// Tags of one service.
pub const SERVICE_TAGS: usize = 64;
/// Longest tag: a DNS label.
pub const TAG_BYTES: usize = 63;
/// Longest DNS domain, RFC 1035 section 2.3.4, without its last dot.
pub const DOMAIN_BYTES: usize = 253;
/// Failing checks named in one report.
pub const FAILING: usize = 16;
/// Longest sentence about a failing check.
pub const FAILING_BYTES: usize = 256;
/// Other ends of connections named in one report.
pub const PEERS: usize = 16;
/// Longest sentence about what an agent refused.
pub const REFUSED_BYTES: usize = 256;
/// Longest sentence about why names could not be kept on disk.
pub const NAMES_UNSAVED_BYTES: usize = 256;
/// Longest sentence about why an instance is not registered as it should be.
pub const CONSUL_BYTES: usize = 256;
/// Servers of Consul named to one machine, and the longest name of one: a DNS name and a port.
pub const CONSUL_SERVERS: usize = 32;
/// See above.
pub const CONSUL_SERVER_BYTES: usize = 260;
/// Longest gossip key: 32 bytes in base64 take 44.
pub const GOSSIP_KEY_BYTES: usize = 64;
/// Longest ACL token: Consul's are UUIDs; what an operator chose himself may be longer.
pub const CONSUL_TOKEN_BYTES: usize = 256;
/// Longest name of a Consul node: a DNS label.
pub const NODE_BYTES: usize = 63;
/// Capabilities named by one side.
pub const CAPABILITIES: usize = 32;
/// Longest capability.
pub const CAPABILITY_BYTES: usize = 64;
/// Longest version text.
pub const VERSION_BYTES: usize = 64;
/// Longest build id: a UUID takes 36.
pub const BUILD_BYTES: usize = 128;
/// Coordinators of one environment.
pub const COORDINATORS: usize = 16;
/// CA certificates as PEM: one takes below 1 KiB, and 16 may be trusted at once (each rotation
/// adds one, and drops those that nobody uses).
pub const CA_PEM_BYTES: usize = 16 * 1024;
/// A certificate as PEM: ours take below 1.5 KiB.
pub const CERTIFICATE_PEM_BYTES: usize = 8 * 1024;
/// A signing request: 250 bytes for P-256; RSA 4096 takes 1.2 KiB.
pub const CSR_BYTES: usize = 4 * 1024;
/// A join token: 43 characters for 32 bytes, and what a later format may add.
pub const TOKEN_BYTES: usize = 256;
/// Longest duration that is accepted, 10 years: every sum of two stays far from overflow.
pub const DURATION_MS: u64 = 10 * 365 * 86_400_000;

/// One message from an agent. The largest report: 19 sentences of 256 + 4 bytes = 4,940, 16 peers
/// of at most 60 = 960, and the rest below 200: 6,100. The largest hello: 32 capabilities of
/// 64 + 2 = 2,112, and the rest below 700. The larger, as the next power of two.
pub const FROM_AGENT_BYTES: usize = 8 * 1024;

/// One message to an agent. The largest is a names snapshot. An entry takes 2 + 3 for itself, 51
/// for the longest instance id that is ever made, 42 for the fleet, 41 for an IPv6 address, 2 for
/// the role: 141; with three services of 20 letters, a port and two tags of 16 letters, each
/// 2 + 22 + 4 + 36 = 64: 333. So 10,000 entries take 3.4 MB; twice that, rounded up, leaves room
/// for long names. A snapshot that is larger all the same is refused where it is made.
pub const TO_AGENT_BYTES: usize = 8 * 1024 * 1024;

/// A call of the enrolment service, in either direction: CA, certificate, request and token,
/// 16 + 8 + 4 + 1 KiB, rounded up.
pub const ENROLMENT_BYTES: usize = 32 * 1024;

/// A request of an operator. The largest is a fleet file: what a person writes by hand stays far
/// below 1 MiB, and so does a signing request.
pub const OPERATOR_REQUEST_BYTES: usize = 1024 * 1024;
/// A reply to an operator: the status of 10,000 instances at below 2 KiB each (report, texts,
/// alarm) is 20 MB; rounded up.
pub const OPERATOR_REPLY_BYTES: usize = 32 * 1024 * 1024;

/// Time from the first byte to the end of a TLS handshake: three round trips over a bad line.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at one time. One costs below 1 ms of a core and 50 KiB; 10,000 agents that come
/// back at once are through in seconds, and strangers who say nothing hold at most this many.
pub const HANDSHAKES: usize = 256;
/// Connections that passed their handshake and wait to be served: taken at once by the server.
pub const ACCEPTED_QUEUE: usize = 64;
/// Life of a connection without a certificate. It can do nothing but enrol, which takes one call.
pub const ANONYMOUS_LIFETIME: Duration = Duration::from_secs(30);
/// Connections without a certificate at one time. Each is one call away from its end, so a fleet of
/// thousands passes through in seconds; strangers can hold no more file descriptors than these.
pub const ANONYMOUS_CONNECTIONS: usize = 512;
/// How long the reason of a refused handshake is given to reach the other side.
pub const REFUSAL_LINGER: Duration = Duration::from_secs(1);
/// Bytes that are read and thrown away in that time.
pub const REFUSAL_LINGER_BYTES: u64 = 64 * 1024;
/// Pause after the operating system refused to accept (no file descriptors left, for instance):
/// short against any deadline, long against a busy loop.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time for a connection: TCP and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 ping after so much silence, on both ends. 10,000 sessions cost 1,000 pings a second,
/// which 10,000 reports in the same time make unnecessary: a ping goes only into silence.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// A ping without answer ends the connection after this. With the interval: a dead path is known
/// in 15 s at most.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 window of one stream and of one connection: bounds what a peer that does not read can
/// hold back per session. A snapshot of 3 MB takes 50 windows, on a LAN below 0.1 s.
pub const WINDOW_BYTES: u32 = 64 * 1024;
/// Streams at one time on one connection of an agent: session, renewal, health, reflection.
pub const AGENT_STREAMS: u32 = 8;
/// Streams at one time on one connection of an operator: watches of a page and its calls.
pub const OPERATOR_STREAMS: u32 = 64;
/// Request headers of one call: ours take below 1 KiB.
pub const HEADER_BYTES: u32 = 8 * 1024;
