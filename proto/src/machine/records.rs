//! The two records of a machine: the provider's tag and init's processes. Each has one writer, and
//! is replaced as a whole, so that a reader never sees half of one.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use calvin_model::{BootId, EnvironmentName, FleetName, ImageRef, InstanceId, ZoneName};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{MachineFiles, ProcessId};

/// Both records hold some names and numbers, below a kilobyte.
const RECORD_BYTES_MAX: usize = 64 * 1024;
/// The form of both records; grows when a field changes its meaning.
const FORMAT: u64 = 1;

/// What the provider says of a machine, as `machine.json`. Without it a directory is not ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineTag {
    /// The environment that it belongs to.
    pub environment: EnvironmentName,
    /// The instance that it was made for.
    pub instance: InstanceId,
    /// That instance's fleet.
    pub fleet: FleetName,
    /// What it was made from.
    pub image: ImageRef,
    /// Its address, claimed as long as it runs.
    pub address: IpAddr,
    /// The zone that it was asked for in; on one host it is only a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// The epoch of the coordinator that made it; zero where an older version did.
    #[serde(default)]
    pub epoch: u64,
}

impl MachineTag {
    /// Reads the tag; `None` where there is none.
    ///
    /// # Errors
    /// Where it cannot be read or is of a newer form.
    pub fn read(files: &MachineFiles) -> Result<Option<Self>, RecordError> {
        read(&files.tag())
    }

    /// Writes the tag, as a whole or not at all.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, files: &MachineFiles) -> Result<(), RecordError> {
        write(&files.tag(), self)
    }
}

/// What init says of the processes that it started, as `run/init.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitRecord {
    /// The host's boot: after another one no recorded process can be alive.
    pub host_boot: String,
    /// The machine's boot.
    pub boot: BootId,
    /// Init itself, leader of the session that the others belong to.
    pub init: ProcessId,
    /// The agent, leader of a process group of its own.
    pub agent: Option<ProcessId>,
    /// The workload, leader of a process group of its own.
    pub workload: Option<ProcessId>,
    /// What runs beside it, by name, each the leader of a process group of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, ProcessId>,
}

impl InitRecord {
    /// Reads the record; `None` where there is none.
    ///
    /// # Errors
    /// Where it cannot be read or is of a newer form.
    pub fn read(files: &MachineFiles) -> Result<Option<Self>, RecordError> {
        read(&files.init_record())
    }

    /// Writes the record, as a whole or not at all.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, files: &MachineFiles) -> Result<(), RecordError> {
        write(&files.init_record(), self)
    }
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be written.
    #[error("could not write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no record.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Another version of the program wrote it.
    #[error("{} has format {found}, this version knows {FORMAT}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
}

#[derive(Serialize)]
struct Written<'a, T> {
    format: u64,
    #[serde(flatten)]
    record: &'a T,
}

fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), RecordError> {
    let written = Written {
        format: FORMAT,
        record,
    };
    let json = serde_json::to_vec(&written).map_err(|source| RecordError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    write_atomic(path, &json, 0o600).map_err(|source| RecordError::Write {
        path: path.to_owned(),
        source,
    })
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    /// Looked at before anything else: a newer record may lack what this version needs.
    #[derive(Deserialize)]
    struct Head {
        format: u64,
    }
    let json = match open_file(path).and_then(read_bounded) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(RecordError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let damaged = |source| RecordError::Damaged {
        path: path.to_owned(),
        source,
    };
    let head: Head = serde_json::from_slice(&json).map_err(damaged)?;
    if head.format != FORMAT {
        return Err(RecordError::Format {
            path: path.to_owned(),
            found: head.format,
        });
    }
    serde_json::from_slice(&json).map(Some).map_err(damaged)
}

/// Opens a file for reading, and never waits: a pipe in its place, which would be waited for until
/// somebody writes to it, and whatever else is no file, is refused. A machine's directory is open
/// to all that runs on the machine.
///
/// # Errors
/// Where it is not there, cannot be opened, or is no file.
pub fn open_file(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    let message = format!("{} is no regular file", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let limit = RECORD_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut content)?;
    if content.len() > RECORD_BYTES_MAX {
        let message = format!("it has more than {RECORD_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(content)
}

/// Where [`write_atomic`] begins to write what is to be at `path`: a crash in the middle leaves it.
#[must_use]
pub fn unfinished(path: &Path) -> PathBuf {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    PathBuf::from(unfinished)
}

/// Replaces the content of `path`: after a crash at any moment it is the old or the new one. The
/// file is born with `mode`.
///
/// # Errors
/// Where it cannot be written; the old content is untouched. Only where the disk fails at the very
/// end, in syncing the directory, is the new content there and not sure to last.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // Opened first: without a descriptor for it nothing is replaced.
    let directory = path.parent().map(File::open).transpose()?;
    let temporary = unfinished(path);
    // What an earlier crash left may have another mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The reason for the failure matters more than a file that is left and replaced later.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    match directory {
        Some(directory) => directory.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tag() -> MachineTag {
        MachineTag {
            environment: "build".parse().unwrap(),
            instance: "web-abcdefgh".parse().unwrap(),
            fleet: "web".parse().unwrap(),
            image: ImageRef {
                tag: "web@1.0".parse().unwrap(),
                digest: calvin_model::Digest::from_sha256([1; 32]),
            },
            address: "127.9.0.1".parse().unwrap(),
            zone: Some("rack-1".parse().unwrap()),
            epoch: 3,
        }
    }

    #[test]
    fn a_tag_is_read_as_it_was_written_and_is_private() {
        let root = tempfile::tempdir().unwrap();
        let files = MachineFiles::new(root.path());
        assert_eq!(MachineTag::read(&files).unwrap(), None);
        tag().write(&files).unwrap();
        tag().write(&files).unwrap();
        assert_eq!(MachineTag::read(&files).unwrap(), Some(tag()));
        let mode = fs::metadata(files.tag()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_tag_from_before_zones_had_a_place_in_it_names_none() {
        let root = tempfile::tempdir().unwrap();
        let files = MachineFiles::new(root.path());
        let before = MachineTag {
            zone: None,
            ..tag()
        };
        before.write(&files).unwrap();
        assert!(!fs::read_to_string(files.tag()).unwrap().contains("zone"));
        assert_eq!(MachineTag::read(&files).unwrap(), Some(before));
    }

    #[test]
    fn a_record_that_is_no_small_file_is_refused_without_being_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let files = MachineFiles::new(root.path());
        fs::write(files.tag(), vec![b' '; RECORD_BYTES_MAX + 1]).unwrap();
        let error = MachineTag::read(&files).unwrap_err();
        assert!(matches!(error, RecordError::Read { .. }), "{error}");
        fs::remove_file(files.tag()).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(files.tag())
            .status();
        assert!(made.unwrap().success());
        let error = MachineTag::read(&files).unwrap_err();
        assert!(matches!(error, RecordError::Read { .. }), "{error}");
    }

    #[test]
    fn a_tag_of_a_newer_format_is_refused_with_its_number() {
        let root = tempfile::tempdir().unwrap();
        let files = MachineFiles::new(root.path());
        fs::write(files.tag(), r#"{"format":2,"environment":7}"#).unwrap();
        let error = MachineTag::read(&files).unwrap_err();
        assert!(
            matches!(error, RecordError::Format { found: 2, .. }),
            "{error}"
        );
        fs::write(files.tag(), "{").unwrap();
        let error = MachineTag::read(&files).unwrap_err();
        assert!(matches!(error, RecordError::Damaged { .. }), "{error}");
    }
}
