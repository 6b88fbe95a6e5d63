//! Takes a backup.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use calvin_proto::transport::peer::hexadecimal;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableHandle as _};
use ring::digest::{Context, SHA256};
use serde::Serialize;

use super::{
    super::{DataDirectory, Database, failure::StoreFailure},
    BACKUP_FORMAT, BackupError, Header, Kind, is_ca_file, kind_of,
    lines::Line,
};
use crate::runtime::wall_ms_now;

/// Writes a backup of `database`, and of the CAs in the directory `ca`, to `out`.
///
/// # Errors
/// Something could not be read or written; what was written has no end, and is no backup.
pub fn write(database: &Database, ca: &Path, out: &mut impl Write) -> Result<(), BackupError> {
    let mut output = Output {
        out,
        digest: Context::new(&SHA256),
    };
    // The store first: every CA that its records rest on is there by then.
    let read = database
        .begin_read()
        .map_err(|error| BackupError::Store(error.into()))?;
    let files = ca_files(ca)?;
    output.line(&Header {
        calvin_backup: BACKUP_FORMAT,
        made_by: format!("calvin {}", env!("CARGO_PKG_VERSION")),
        environment: environment_of(&files),
        wall_ms: wall_ms_now(),
    })?;
    for (name, content) in files {
        output.line(&Line::File { name, content })?;
    }
    let tables = read.list_tables().map_err(StoreFailure::from)?;
    let mut names: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
    names.sort();
    for table in names {
        match kind_of(&table) {
            Some(Kind::Records) => records(&read, &table, &mut output)?,
            Some(Kind::Numbers) => numbers(&read, &table, &mut output)?,
            Some(Kind::History) => history(&read, &table, &mut output)?,
            None => return Err(BackupError::UnknownTable { table }),
        }
    }
    output.end()
}

/// As `write`, of a data directory that no coordinator uses now.
///
/// # Errors
/// As `write`; or a coordinator uses it, or there is no store.
pub fn offline(data: &Path, out: &mut impl Write) -> Result<(), BackupError> {
    if !data.join("store.redb").is_file() {
        return Err(BackupError::NoStore {
            path: data.to_owned(),
        });
    }
    let directory = DataDirectory::take(data)?;
    let file = directory.store();
    let lock = Arc::clone(&directory.lock);
    let database =
        Database::open_locked(&file, lock).map_err(|error| super::OpenError::Database {
            path: file,
            source: Box::new(error),
        })?;
    write(&database, &data.join("ca"), out)
}

struct Output<'a, W> {
    out: &'a mut W,
    digest: Context,
}

impl<W: Write> Output<'_, W> {
    fn line(&mut self, line: &impl Serialize) -> Result<(), BackupError> {
        let mut bytes = serde_json::to_vec(line)
            .map_err(|error| BackupError::Write(io::Error::other(error)))?;
        bytes.push(b'\n');
        self.digest.update(&bytes);
        self.out.write_all(&bytes).map_err(BackupError::Write)
    }

    fn end(mut self) -> Result<(), BackupError> {
        let sha256 = hexadecimal(self.digest.clone().finish().as_ref());
        self.line(&Line::End { sha256 })?;
        self.out.flush().map_err(BackupError::Write)
    }
}

fn records<W: Write>(
    read: &ReadTransaction,
    name: &str,
    output: &mut Output<'_, W>,
) -> Result<(), BackupError> {
    let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(name);
    let table = read.open_table(definition).map_err(StoreFailure::from)?;
    for row in table.iter().map_err(StoreFailure::from)? {
        let (key, value) = row.map_err(StoreFailure::from)?;
        let value = text(name, key.value(), value.value())?;
        output.line(&Line::Record {
            table: name.to_owned(),
            key: key.value().to_owned(),
            value,
        })?;
    }
    Ok(())
}

fn numbers<W: Write>(
    read: &ReadTransaction,
    name: &str,
    output: &mut Output<'_, W>,
) -> Result<(), BackupError> {
    let definition: TableDefinition<'_, &str, u64> = TableDefinition::new(name);
    let table = read.open_table(definition).map_err(StoreFailure::from)?;
    for row in table.iter().map_err(StoreFailure::from)? {
        let (key, value) = row.map_err(StoreFailure::from)?;
        output.line(&Line::Number {
            table: name.to_owned(),
            key: key.value().to_owned(),
            value: value.value(),
        })?;
    }
    Ok(())
}

fn history<W: Write>(
    read: &ReadTransaction,
    name: &str,
    output: &mut Output<'_, W>,
) -> Result<(), BackupError> {
    let definition: TableDefinition<'_, u64, (&[u8], &[u8])> = TableDefinition::new(name);
    let table = read.open_table(definition).map_err(StoreFailure::from)?;
    for row in table.iter().map_err(StoreFailure::from)? {
        let (number, value) = row.map_err(StoreFailure::from)?;
        let (hash, line) = value.value();
        let number = number.value();
        output.line(&Line::History {
            number,
            hash: hexadecimal(hash),
            line: text(name, &number.to_string(), line)?,
        })?;
    }
    Ok(())
}

/// Every record is JSON, which is text.
fn text(table: &str, key: &str, bytes: &[u8]) -> Result<String, BackupError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(BackupError::Write(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the record {key} of the table {table} is no text: {error}"),
        ))),
    }
}

/// The files of the CAs, by name.
fn ca_files(directory: &Path) -> Result<Vec<(String, String)>, BackupError> {
    let io_error = |doing, path: &Path, source| BackupError::Io {
        doing,
        path: path.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // A coordinator that never started has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", directory, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| io_error("list", directory, error))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if is_ca_file(&name) {
            let path = entry.path();
            let content =
                fs::read_to_string(&path).map_err(|error| io_error("read", &path, error))?;
            files.push((name, content));
        }
    }
    files.sort();
    Ok(files)
}

/// The environment that the newest CA is of: its name begins `calvin <environment>`.
fn environment_of(files: &[(String, String)]) -> String {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    let named = files.iter().rev().find_map(|(name, content)| {
        if !name.ends_with(".pem") {
            return None;
        }
        let der = CertificateDer::from_pem_slice(content.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let common = certificate.subject().iter_common_name().next()?;
        let mut words = common.as_str().ok()?.split(' ').skip(1);
        words.next().map(str::to_owned)
    });
    named.unwrap_or_default()
}
