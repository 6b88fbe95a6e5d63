//! Reads who the machine is (`provision.toml`) and what it is (`image.toml`).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use calvin_model::{ConfigError, Digest, ImageManifest, Provision};
use calvin_proto::machine::MachineFiles;

use crate::{
    disk::{self, DiskError},
    workload::Variables,
};

/// Largest file that is read. `provision.toml` holds CA certificates (16 KiB at most) and a token;
/// `image.toml` is written by hand.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Where names are answered when `provision.toml` does not say.
const DEFAULT_DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8653);

/// All that is given of a machine.
#[derive(Debug)]
pub struct Provisioned {
    /// Where its files lie.
    pub files: MachineFiles,
    /// Who it is.
    pub provision: Provision,
    /// What it is.
    pub manifest: ImageManifest,
    /// The SHA-256 of `image.toml` as it was read.
    pub manifest_digest: Digest,
    /// What its commands may know.
    pub variables: Variables,
}

/// Why a machine's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// One could not be read.
    #[error("could not learn what this machine is")]
    Disk(#[from] DiskError),
    /// One is missing.
    #[error("{} does not exist", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// One is no text.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// Which.
        path: PathBuf,
        /// Where.
        #[source]
        source: std::str::Utf8Error,
    },
    /// One is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Provisioned {
    /// Reads the files of the machine in the directory `root`.
    ///
    /// # Errors
    /// Where one is missing or wrong.
    pub fn load(root: &Path) -> Result<Self, ProvisionError> {
        let files = MachineFiles::new(root);
        let path = files.provision();
        let provision = Provision::parse(&path.display().to_string(), &read(&path)?)?;
        let path = files.image().join("image.toml");
        let text = read(&path)?;
        let manifest = ImageManifest::parse(&path.display().to_string(), &text)?;
        Ok(Self {
            variables: Variables::new(&provision, root),
            manifest_digest: sha256(text.as_bytes()),
            files,
            provision,
            manifest,
        })
    }

    /// Where the agent answers names.
    #[must_use]
    pub fn dns(&self) -> SocketAddr {
        self.provision.dns.unwrap_or(DEFAULT_DNS)
    }

    /// Where the workload listens, for checks.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.provision
            .address
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

fn read(path: &Path) -> Result<String, ProvisionError> {
    let bytes =
        disk::read_bounded(path, FILE_BYTES_MAX)?.ok_or_else(|| ProvisionError::Missing {
            path: path.to_owned(),
        })?;
    String::from_utf8(bytes).map_err(|error| ProvisionError::NotText {
        path: path.to_owned(),
        source: error.utf8_error(),
    })
}

fn sha256(bytes: &[u8]) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut sum = [0; 32];
    // SHA-256 has 32 bytes.
    sum.copy_from_slice(digest.as_ref());
    Digest::from_sha256(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_files_bytes() {
        assert_eq!(
            sha256(b"abc").as_str(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Provisioned::load(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("provision.toml does not exist"), "{error}");
    }
}
