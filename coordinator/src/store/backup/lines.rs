//! The lines of a backup, and how they are read from a file that may be anything.

use std::io::{BufRead, Read as _};

use calvin_proto::transport::peer::hexadecimal;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::{BACKUP_FORMAT, BackupError, LINE_BYTES_MAX};

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The format of the lines after it.
    pub calvin_backup: u32,
    /// Which version made it.
    pub made_by: String,
    /// Of which environment.
    pub environment: String,
    /// When, milliseconds since 1970 UTC.
    pub wall_ms: u64,
}

/// A line after the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// A record of a table.
    Record {
        table: String,
        key: String,
        value: String,
    },
    /// A number of a table.
    Number {
        table: String,
        key: String,
        value: u64,
    },
    /// A line of the history.
    History {
        number: u64,
        hash: String,
        line: String,
    },
    /// A file of the CAs.
    File { name: String, content: String },
    /// The end: a digest of every line before it.
    End { sha256: String },
}

/// Reads a backup line by line.
pub(super) struct Lines<R> {
    input: R,
    number: u64,
    digest: Context,
}

impl<R: BufRead> Lines<R> {
    /// Reads the header.
    pub(super) fn begin(input: R) -> Result<(Header, Self), BackupError> {
        /// Looked at before anything else: a newer header may lack what this version needs.
        #[derive(Deserialize)]
        struct Format {
            calvin_backup: u32,
            #[serde(default)]
            made_by: String,
        }
        let mut lines = Self {
            input,
            number: 0,
            digest: Context::new(&SHA256),
        };
        let no_backup = |problem: String| BackupError::NoBackup { problem };
        let line = lines
            .raw()?
            .ok_or_else(|| no_backup("it is empty".to_owned()))?;
        let format: Format = serde_json::from_slice(&line)
            .map_err(|error| no_backup(format!("its first line is none of ours ({error})")))?;
        if format.calvin_backup > BACKUP_FORMAT {
            return Err(BackupError::Newer {
                found: format.calvin_backup,
                made_by: format.made_by.chars().take(80).collect(),
            });
        }
        let header = serde_json::from_slice(&line)
            .map_err(|error| no_backup(format!("its first line is damaged ({error})")))?;
        lines.digest.update(&line);
        Ok((header, lines))
    }

    /// The next line; `None` after the end, which was checked.
    pub(super) fn next(&mut self) -> Result<Option<Line>, BackupError> {
        let Some(bytes) = self.raw()? else {
            return Err(BackupError::CutOff { lines: self.number });
        };
        let line: Line =
            serde_json::from_slice(&bytes).map_err(|error| self.wrong(error.to_string()))?;
        let Line::End { sha256 } = &line else {
            self.digest.update(&bytes);
            return Ok(Some(line));
        };
        let found = hexadecimal(self.digest.clone().finish().as_ref());
        if found != *sha256 {
            return Err(BackupError::Damaged {
                found,
                expected: sha256.chars().take(64).collect(),
            });
        }
        if self.raw()?.is_some() {
            return Err(self.wrong("there is something after its end".to_owned()));
        }
        Ok(None)
    }

    /// What is wrong with the line that was read last.
    pub(super) fn wrong(&self, problem: String) -> BackupError {
        BackupError::Line {
            number: self.number,
            problem,
        }
    }

    /// The number of the line that was read last.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// One line with its end, if there is one more.
    fn raw(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let mut line = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let input = &mut self.input;
        input
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(BackupError::Read)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if line.len() > LINE_BYTES_MAX {
            return Err(self.wrong(format!("it has more than {LINE_BYTES_MAX} bytes")));
        }
        if line.last() != Some(&b'\n') {
            return Err(BackupError::CutOff {
                lines: self.number - 1,
            });
        }
        Ok(Some(line))
    }
}
