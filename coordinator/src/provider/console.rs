//! Reads a console that another process writes: a file, and what was before it (`.1`). When the file
//! is full it gets the older one's name and a new one takes its place.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use calvin_proto::machine::open_file;

/// Follows a console as it grows. What is overwritten before it was read is missing: a console is
/// bounded, and its writer waits for nobody.
#[derive(Debug)]
pub struct ConsoleFollower {
    path: PathBuf,
    file: Option<File>,
    /// The newest output from before it was opened.
    before: Vec<u8>,
}

impl ConsoleFollower {
    /// Begins with the newest `bytes_max` bytes that are there.
    ///
    /// # Errors
    /// Where they cannot be read. A console that nothing was written to yet is no error.
    pub fn open(path: &Path, bytes_max: usize) -> io::Result<Self> {
        let mut file = open(path)?;
        let mut newest = match &mut file {
            Some(file) => end_of(file, bytes_max)?,
            None => Vec::new(),
        };
        let mut before = match open(&older(path))? {
            // The writer put it aside just now: it is read already.
            Some(older) if file.as_ref().is_some_and(|file| same(file, &older)) => Vec::new(),
            Some(mut older) => end_of(&mut older, bytes_max - newest.len())?,
            None => Vec::new(),
        };
        before.append(&mut newest);
        Ok(Self {
            path: path.to_owned(),
            file,
            before,
        })
    }

    /// What is new, at most `bytes_max` of it; empty when nothing is. Never waits.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&mut self, bytes_max: usize) -> io::Result<Vec<u8>> {
        if !self.before.is_empty() {
            let rest = self.before.split_off(bytes_max.min(self.before.len()));
            return Ok(std::mem::replace(&mut self.before, rest));
        }
        let Some(file) = &mut self.file else {
            self.file = open(&self.path)?;
            return match &mut self.file {
                Some(file) => take(file, bytes_max),
                None => Ok(Vec::new()),
            };
        };
        // Asked before the last read: what was written until it was put aside is then read.
        let put_aside = fs::metadata(&self.path).is_ok_and(|now| {
            file.metadata()
                .is_ok_and(|ours| (ours.dev(), ours.ino()) != (now.dev(), now.ino()))
        });
        let bytes = take(file, bytes_max)?;
        if bytes.is_empty() && put_aside {
            self.file = None;
            return self.read(bytes_max);
        }
        Ok(bytes)
    }
}

/// The newest bytes of a console, at most `bytes_max`.
///
/// # Errors
/// Where they cannot be read. A console that nothing was written to yet is no error.
pub(super) fn tail(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    Ok(ConsoleFollower::open(path, bytes_max)?.before)
}

fn older(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match open_file(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn same(one: &File, other: &File) -> bool {
    let identity = |file: &File| file.metadata().map(|m| (m.dev(), m.ino())).ok();
    identity(one) == identity(other)
}

/// The last bytes of a file, which is then read to its end.
fn end_of(file: &mut File, bytes_max: usize) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max as u64)))?;
    take(file, bytes_max)
}

fn take(file: &mut File, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_tail_reaches_into_the_older_part_only_as_far_as_there_is_room() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("console.log");
        assert_eq!(tail(&log, 10).unwrap(), b"");
        fs::write(older(&log), "older").unwrap();
        fs::write(&log, "newer").unwrap();
        assert_eq!(tail(&log, 3).unwrap(), b"wer");
        assert_eq!(tail(&log, 7).unwrap(), b"ernewer");
        assert_eq!(tail(&log, 100).unwrap(), b"oldernewer");
    }

    #[test]
    fn a_console_is_followed_from_before_its_first_byte_and_over_its_ends() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("console.log");
        let mut follower = ConsoleFollower::open(&log, 100).unwrap();
        assert_eq!(follower.read(100).unwrap(), b"");
        let (mut written, mut read) = (Vec::new(), Vec::new());
        for part in 0..5 {
            let mut file = File::create(&log).unwrap();
            for line in 0..20 {
                let text = format!("part {part} line {line}\n");
                file.write_all(text.as_bytes()).unwrap();
                written.extend_from_slice(text.as_bytes());
                if line % 7 == part {
                    read.append(&mut follower.read(13).unwrap());
                }
            }
            // Put aside with some of it unread.
            fs::rename(&log, older(&log)).unwrap();
            let mut file = File::create(&log).unwrap();
            file.write_all(b"new\n").unwrap();
            written.extend_from_slice(b"new\n");
            loop {
                let mut bytes = follower.read(50).unwrap();
                if bytes.is_empty() {
                    break;
                }
                read.append(&mut bytes);
            }
            fs::rename(&log, older(&log)).unwrap();
        }
        assert_eq!(
            String::from_utf8(read).unwrap(),
            String::from_utf8(written).unwrap()
        );
    }
}
