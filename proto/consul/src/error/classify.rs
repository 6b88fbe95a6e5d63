//! From status and text of an answer to the reason. Pure.

use super::{MissingRule, Reason};

/// Characters of Consul's text that are kept; its longest own texts are some 200.
const TEXT_CHARACTERS: usize = 500;

/// What Consul says when there is nobody who could decide or answer. The rpc errors are those of a
/// Consul client whose servers are gone or silent but not yet forgotten; the last ones are of servers
/// on their way out of or into leadership.
const NO_LEADER: [&str; 15] = [
    "No cluster leader",
    "No known Consul servers",
    "Raft leader not found in server lookup mapping",
    "Not ready to serve consistent reads",
    "Remote DC has no server currently reachable",
    "rpc error getting client",
    "rpc error making call: EOF",
    "rpc error making call: stream closed",
    "rpc error making call: session shutdown",
    "rpc error making call: i/o deadline reached",
    "connection reset by peer",
    "broken pipe",
    "leadership lost while committing log",
    "node is not the leader",
    "timed out enqueuing operation",
];

/// What Consul says when a limit is reached: of a client's RPCs, of a server's requests, of
/// connections from one address, and what only the leader can do (which is a 503).
const LIMITED: [&str; 5] = [
    "RPC rate limit exceeded",
    "rate limit exceeded",
    "Rate limit reached",
    "too many concurrent connections",
    "Your IP is issuing too many",
];

/// Whom a Consul client names that could not ask its servers about a token, and so takes nobody for one
/// (`agent/consul/acl.go`, `missingIdentity`): it is no denial of theirs.
const UNKNOWN_FOR_NOW: &str = "primary-dc-down";

/// The reason of an answer whose status is not a success.
#[must_use]
pub fn classify(status: u16, body: &[u8]) -> Reason {
    let text = shown(body);
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match status {
        403 if says(&[UNKNOWN_FOR_NOW]) => Reason::NoLeader { text },
        403 if says(&["ACL not found"]) && !says(&["lacks permission"]) => Reason::UnknownToken,
        403 => Reason::Denied {
            rule: MissingRule::parse(&text).map(Box::new),
            text,
        },
        404 => Reason::NotFound { text },
        429 => Reason::RateLimited { text },
        400..=499 => Reason::Refused { status, text },
        _ if says(&NO_LEADER) => Reason::NoLeader { text },
        _ if says(&LIMITED) => Reason::RateLimited { text },
        _ => Reason::Failed { status, text },
    }
}

/// A text as one line that can be printed anywhere.
pub(crate) fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line: String = text
        .trim()
        .chars()
        .take(TEXT_CHARACTERS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.is_empty() {
        "it says no more".to_owned()
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(reason: &Reason) -> &'static str {
        match reason {
            Reason::Invalid(_) => "invalid",
            Reason::TooLarge { .. } => "too large",
            Reason::NotFound { .. } => "not found",
            Reason::Denied { .. } => "denied",
            Reason::Filtered { .. } => "filtered",
            Reason::UnknownToken => "unknown token",
            Reason::NoLeader { .. } => "no leader",
            Reason::RateLimited { .. } => "rate limited",
            Reason::TimedOut { .. } => "timed out",
            Reason::Unreachable { .. } => "unreachable",
            Reason::Refused { .. } => "refused",
            Reason::Failed { .. } => "failed",
            Reason::Answer(_) => "answer",
        }
    }

    #[test]
    fn each_answer_of_consul_has_its_reason() {
        for (status, text, expected) in [
            (403, "Permission denied", "denied"),
            (403, "rpc error making call: ACL not found", "unknown token"),
            (
                403,
                "Permission denied: token with AccessorID 'primary-dc-down' lacks permission \
                 'agent:read' on \"a\"",
                "no leader",
            ),
            (404, "Unknown service ID \"web\".", "not found"),
            (404, "", "not found"),
            (500, "No cluster leader", "no leader"),
            (500, "rpc error making call: No cluster leader", "no leader"),
            (500, "No known Consul servers", "no leader"),
            (
                500,
                "rpc error getting client: failed to get conn: dial tcp 127.0.0.2:0->127.0.0.1:8300: connect: connection refused",
                "no leader",
            ),
            (
                500,
                "Raft leader not found in server lookup mapping",
                "no leader",
            ),
            (500, "rpc error making call: stream closed", "no leader"),
            (
                429,
                "rate limit exceeded, try again later or against a different server",
                "rate limited",
            ),
            (
                503,
                "rate limit exceeded for operation that can only be performed by the leader, try again later",
                "rate limited",
            ),
            (
                429,
                "Your IP is issuing too many concurrent connections, please rate limit your calls\n",
                "rate limited",
            ),
            (400, "Missing key name", "refused"),
            (413, "Request body too large", "refused"),
            (500, "No path to datacenter", "failed"),
            (502, "", "failed"),
        ] {
            let reason = classify(status, text.as_bytes());
            assert_eq!(name(&reason), expected, "{status} {text}");
        }
    }

    #[test]
    fn a_denial_names_the_rule_that_is_missing() {
        let text = "Permission denied: token with AccessorID 'a1b2' lacks permission 'service:write' on \"web\"";
        let reason = classify(403, text.as_bytes());
        assert_eq!(
            reason.to_string(),
            "the token may not do this: it lacks service:write on \"web\" (rule: service \"web\" { policy = \"write\" })"
        );
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd(status in 300_u16..1000, body in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let reason = classify(status, &body);
            let text = reason.to_string();
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            prop_assert!(text.chars().count() < TEXT_CHARACTERS + 200);
        }

        #[test]
        fn a_denial_is_never_taken_for_anything_that_passes_by_itself(body in "\\PC{0,200}") {
            let error = super::super::Error::new("test", classify(403, body.as_bytes()));
            prop_assert!(error.is_denied() && !error.is_transient());
        }
    }
}
