//! Join tokens: derived from a key of the coordinator, so that a repeated create carries the same
//! one and nothing that could be stolen is stored; only the token's hash is.

use std::{io, path::Path};

use calvin_model::{EnvironmentName, InstanceId, Secret};
use calvin_proto::transport::peer::hexadecimal;
use ring::{
    digest::{SHA256, digest},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

use super::{
    IdentityError,
    authority::{refuse_exposed, write},
};

/// Bytes of the key: as long as what HMAC-SHA256 gives (RFC 2104 section 3).
const KEY_BYTES: usize = 32;

pub(super) struct TokenKey(hmac::Key);

/// The ACL token of an instance's Consul node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulToken {
    /// Names it without giving it away.
    pub accessor: String,
    /// What its holder shows.
    pub secret: Secret,
}

impl TokenKey {
    /// Reads `token.key` in the CA's directory, or makes it.
    pub(super) fn open(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join("token.key");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => {
                refuse_exposed(&path)?;
                text
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; KEY_BYTES];
                SystemRandom::new()
                    .fill(&mut key)
                    .map_err(|_| IdentityError::Random)?;
                let text = hexadecimal(&key);
                write(&path, &text, 0o600)?;
                text
            }
            Err(source) => {
                return Err(IdentityError::Io {
                    doing: "read",
                    path,
                    source,
                });
            }
        };
        let text = text.trim();
        if text.len() != 2 * KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(IdentityError::Damaged {
                path,
                problem: format!("it must hold {} hexadecimal digits", 2 * KEY_BYTES),
            });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
    }

    /// The token of an instance's Consul node: made twice it is the same one, and none of it is stored.
    pub(super) fn consul(
        &self,
        environment: &EnvironmentName,
        instance: &InstanceId,
    ) -> ConsulToken {
        let derive = |part: &str| {
            // Names hold no newline, and no other token is derived from a text that begins so.
            let bound = format!("calvin-consul 1\n{environment}\n{instance}\n{part}");
            let tag = hmac::sign(&self.0, bound.as_bytes());
            let mut bytes = [0; 16];
            // HMAC-SHA256 gives 32.
            bytes.copy_from_slice(&tag.as_ref()[..16]);
            uuid::Builder::from_random_bytes(bytes)
                .into_uuid()
                .to_string()
        };
        ConsulToken {
            accessor: derive("accessor"),
            secret: Secret::new(derive("secret")),
        }
    }

    /// The token of one create of one instance.
    pub(super) fn token(
        &self,
        environment: &EnvironmentName,
        instance: &InstanceId,
        intent: u64,
    ) -> String {
        // Names hold no newline, so no two inputs are written alike.
        let bound = format!("calvin join 1\n{environment}\n{instance}\n{intent}");
        hexadecimal(hmac::sign(&self.0, bound.as_bytes()).as_ref())
    }
}

/// What is stored of a token.
pub(super) fn hash(token: &str) -> String {
    hexadecimal(digest(&SHA256, token.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consul_token_is_the_same_for_the_same_instance_and_no_other() {
        let key = TokenKey(hmac::Key::new(hmac::HMAC_SHA256, b"key"));
        let environment = |name: &str| name.parse::<EnvironmentName>().unwrap();
        let token = |name: &str, id: &str| key.consul(&environment(name), &id.parse().unwrap());
        let first = token("prod", "web-a");
        assert_eq!(first, token("prod", "web-a"));
        for other in [token("prod", "web-b"), token("test", "web-a")] {
            assert_ne!(first.accessor, other.accessor);
            assert_ne!(first.secret, other.secret);
        }
        assert_ne!(first.accessor, first.secret.expose());
        // As Consul takes them: UUIDs of the fourth version.
        assert_eq!(first.accessor.len(), 36);
        assert_eq!(first.accessor.as_bytes()[14], b'4');
    }
}
