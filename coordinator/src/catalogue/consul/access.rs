//! The way to Consul: a client made from `[consul]`, whose secrets and certificates are files that are
//! read again when they change.

use std::path::{Path, PathBuf};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use calvin_consul::{Client, Identity, Settings, SetupError, Tls, Token};
use calvin_model::Secret;
use calvin_proto::limits::{CA_PEM_BYTES, GOSSIP_KEY_BYTES};

use super::error::ConsulError;
use crate::config::{ConsulConfig, read_text};

/// Base64 as Consul reads it: padded, and a last letter may say more than there are bytes for.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);
/// How many bytes a key of gossip has: those of AES-128, AES-192 and AES-256.
const GOSSIP_KEY_SIZES: [usize; 3] = [16, 24, 32];

/// What the files said last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Files {
    token: Option<Secret>,
    ca_pem: Option<String>,
    certificate_pem: Option<String>,
    key_pem: Option<Secret>,
    gossip_key: Option<Secret>,
}

/// What machines are told of Consul, beside what stands in `calvin.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The CA of its servers; empty where they speak no TLS.
    pub(super) ca_pem: String,
    pub(super) gossip_key: Option<Secret>,
}

/// The client, and the files that it was made from.
#[derive(Debug)]
pub(super) struct Access {
    config: ConsulConfig,
    files: Files,
    client: Client,
}

fn read(path: Option<&PathBuf>) -> Result<Option<String>, ConsulError> {
    let read = |path: &PathBuf| {
        read_text(path).map_err(|source| ConsulError::File {
            path: path.clone(),
            source,
        })
    };
    path.map(read).transpose()
}

/// What machines are told must fit into what they are sent.
fn read_to_tell(path: Option<&PathBuf>, max: usize) -> Result<Option<String>, ConsulError> {
    let text = read(path)?;
    match (path, &text) {
        (Some(path), Some(text)) if text.len() > max => Err(ConsulError::TooLarge {
            path: path.clone(),
            bytes: text.len(),
            max,
        }),
        (Some(_) | None, Some(_) | None) => Ok(text),
    }
}

/// The key of gossip. What is none would keep every machine from joining, and no key at all would turn its
/// encryption off: a file that is empty, or not whole yet, must not be told.
fn read_gossip_key(path: Option<&PathBuf>) -> Result<Option<Secret>, ConsulError> {
    let Some((path, text)) = path.zip(read_to_tell(path, GOSSIP_KEY_BYTES)?) else {
        return Ok(None);
    };
    let why = match BASE64.decode(&text) {
        Ok(key) if GOSSIP_KEY_SIZES.contains(&key.len()) => return Ok(Some(Secret::new(text))),
        Ok(_) if text.is_empty() => "it is empty".to_owned(),
        Ok(key) => format!("it holds {} bytes", key.len()),
        // What is wrong with it would show a part of the key.
        Err(_) => "it is not base64".to_owned(),
    };
    Err(ConsulError::GossipKey {
        path: path.clone(),
        why,
    })
}

impl Files {
    fn read(config: &ConsulConfig) -> Result<Self, ConsulError> {
        Ok(Self {
            token: read(config.token_file.as_ref())?.map(Secret::new),
            ca_pem: read_to_tell(config.ca_file.as_ref(), CA_PEM_BYTES)?,
            certificate_pem: read(config.certificate_file.as_ref())?,
            key_pem: read(config.key_file.as_ref())?.map(Secret::new),
            gossip_key: read_gossip_key(config.gossip_key_file.as_ref())?,
        })
    }

    fn token(&self, config: &ConsulConfig) -> Result<Option<Token>, ConsulError> {
        let token = self.token.as_ref().map(|token| token.expose().parse());
        token.transpose().map_err(|source: SetupError| {
            let path = config.token_file.as_deref().unwrap_or(Path::new(""));
            ConsulError::Unusable {
                what: path.display().to_string(),
                source,
            }
        })
    }

    fn tls(&self, config: &ConsulConfig) -> Option<Tls> {
        let identity = self.certificate_pem.as_ref().zip(self.key_pem.as_ref());
        Some(Tls {
            ca_pem: self.ca_pem.clone()?,
            identity: identity.map(|(certificate, key)| Identity {
                certificate_pem: certificate.clone(),
                key_pem: key.expose().to_owned(),
            }),
            server_name: config.server_name.clone(),
        })
    }

    fn same_tls(&self, other: &Self) -> bool {
        self.ca_pem == other.ca_pem
            && self.certificate_pem == other.certificate_pem
            && self.key_pem == other.key_pem
    }
}

impl Access {
    /// Reads the files.
    pub(super) fn open(config: ConsulConfig) -> Result<Self, ConsulError> {
        let files = Files::read(&config)?;
        let unusable = |source| ConsulError::Unusable {
            what: "[consul] of calvin.toml".to_owned(),
            source,
        };
        let client = Client::new(Settings {
            address: config.address.parse().map_err(unusable)?,
            timeout: config.timeout.0,
            tls: files.tls(&config),
            token: files.token(&config)?,
        })
        .map_err(unusable)?;
        Ok(Self {
            config,
            files,
            client,
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn config(&self) -> &ConsulConfig {
        &self.config
    }

    pub(super) fn told(&self) -> Told {
        Told {
            ca_pem: self.files.ca_pem.clone().unwrap_or_default(),
            gossip_key: self.files.gossip_key.clone(),
        }
    }

    /// Reads the files again, and takes what is new. A file that is being written, or is wrong, changes
    /// nothing, and is read again next time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn refresh(&mut self) -> Result<(), ConsulError> {
        let files = Files::read(&self.config)?;
        if files == self.files {
            return Ok(());
        }
        if files.token != self.files.token {
            self.client.set_token(files.token(&self.config)?);
            tracing::info!("took another token for Consul");
            self.files.token.clone_from(&files.token);
        }
        if let Some(tls) = files
            .tls(&self.config)
            .filter(|_| !files.same_tls(&self.files))
        {
            let reloaded = self.client.reload_tls(&tls);
            reloaded.map_err(|source| ConsulError::Unusable {
                what: "the certificates for Consul".to_owned(),
                source,
            })?;
            tracing::info!("took other certificates for Consul");
        }
        self.files = files;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s=";
    const OTHER: &str = "cg8StVXbQJ0gPvMd9o7yrg==";

    fn config(dir: &Path) -> ConsulConfig {
        let path = |name: &str| dir.join(name);
        toml::from_str(&format!(
            "servers = [\"a:1\"]\ntoken_file = {:?}\ngossip_key_file = {:?}\n",
            path("token"),
            path("gossip")
        ))
        .unwrap()
    }

    #[test]
    fn a_file_that_changes_is_taken_and_one_that_is_wrong_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("token"), "first\n").unwrap();
        std::fs::write(path("gossip"), format!("{KEY}\n")).unwrap();
        let mut access = Access::open(config(dir.path())).unwrap();
        assert_eq!(access.told().gossip_key.unwrap().expose(), KEY);
        access.refresh().unwrap();
        std::fs::write(path("token"), "not a token\n").unwrap();
        let error = access.refresh().unwrap_err();
        assert!(error.to_string().contains("token"), "{error}");
        assert_eq!(access.files.token.as_ref().unwrap().expose(), "first");
        std::fs::write(path("token"), "second").unwrap();
        std::fs::write(path("gossip"), OTHER).unwrap();
        access.refresh().unwrap();
        assert_eq!(access.files.token.as_ref().unwrap().expose(), "second");
        assert_eq!(access.told().gossip_key.unwrap().expose(), OTHER);
        std::fs::remove_file(path("token")).unwrap();
        assert!(access.refresh().unwrap_err().to_string().contains("token"));
        assert!(!format!("{access:?}").contains("second"));
    }

    #[test]
    fn machines_are_told_no_key_of_gossip_that_consul_would_not_take() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gossip");
        std::fs::write(dir.path().join("token"), "token").unwrap();
        std::fs::write(&path, KEY).unwrap();
        let mut access = Access::open(config(dir.path())).unwrap();
        for (wrong, why) in [
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("no key of ours!", "it is not base64"),
            (&KEY[..20], "it holds 15 bytes"),
            (&KEY[..KEY.len() - 1], "it is not base64"),
            (&KEY.replace('/', "_"), "it is not base64"),
            ("AAAAAAAAAAAAAAAAAAAAAAA=", "it holds 17 bytes"),
        ] {
            std::fs::write(&path, wrong).unwrap();
            let start = Access::open(config(dir.path())).unwrap_err();
            for error in [access.refresh().unwrap_err(), start] {
                let text = error.to_string();
                assert!(
                    text.contains("gossip") && text.contains(why),
                    "{wrong:?}: {text}"
                );
                assert!(wrong.trim().is_empty() || !text.contains(wrong), "{text}");
            }
            assert_eq!(access.told().gossip_key.unwrap().expose(), KEY);
        }
        std::fs::write(&path, OTHER).unwrap();
        access.refresh().unwrap();
        assert_eq!(access.told().gossip_key.unwrap().expose(), OTHER);
    }
}
