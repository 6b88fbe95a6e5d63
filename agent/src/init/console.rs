//! Output that can never hold up who writes it: a pipe that init owns and always reads, copied raw
//! into two bounded files. What does not fit or cannot be written is counted, never waited for.

use std::{
    fs::{self, File},
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use crate::workload::ConsoleCounts;

/// Read at once: what a pipe holds by default (`pipe(7)`).
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks read before other events get their turn: 1 MB, a few milliseconds.
const CHUNKS_PER_TURN: usize = 16;

/// This part of a file is for the ends of lines that were begun in it: an eighth of 4 MB is far
/// above any line, and no loss.
const LINE_ENDS_SHARE: u64 = 8;

/// Two files: the newest output, and what was before it (`.1`).
#[derive(Debug)]
pub(super) struct BoundedLog {
    path: PathBuf,
    older: PathBuf,
    file: Option<File>,
    file_bytes: u64,
    older_bytes: u64,
    file_bytes_max: u64,
    /// What was written last did not end a line.
    inside_line: bool,
    counts: ConsoleCounts,
}

impl BoundedLog {
    /// Goes on with the files at `path`; each holds at most `file_bytes_max`.
    pub(super) fn open(path: &Path, file_bytes_max: u64) -> Self {
        let mut older = path.as_os_str().to_owned();
        older.push(".1");
        let older = PathBuf::from(older);
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let (file_bytes, older_bytes) = (size(path), size(&older));
        Self {
            path: path.to_owned(),
            older,
            file: None,
            file_bytes,
            older_bytes,
            file_bytes_max,
            inside_line: false,
            counts: ConsoleCounts {
                read: file_bytes + older_bytes,
                kept: file_bytes + older_bytes,
                overwritten: 0,
                failed: 0,
            },
        }
    }

    /// Where the bytes went.
    pub(super) fn counts(&self) -> ConsoleCounts {
        self.counts
    }

    /// Writes what can be written.
    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        self.counts.read += bytes.len() as u64;
        while !bytes.is_empty() {
            let part = self.part_that_fits(bytes);
            if part == 0 {
                if self.rotate().is_err() {
                    self.counts.failed += bytes.len() as u64;
                    return;
                }
                continue;
            }
            let written = self.append(&bytes[..part]);
            self.file_bytes += written as u64;
            self.counts.kept += written as u64;
            self.counts.failed += (part - written) as u64;
            self.inside_line = bytes[part - 1] != b'\n';
            bytes = &bytes[part..];
        }
    }

    /// How much goes into the file that is open: whole lines, unless one is larger than a file. A
    /// line that was begun in this file also ends in it, for which some room is kept.
    fn part_that_fits(&self, bytes: &[u8]) -> usize {
        let room = |bytes_max: u64| {
            let room = bytes_max.saturating_sub(self.file_bytes);
            usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()))
        };
        let kept_for_ends = self.file_bytes_max / LINE_ENDS_SHARE;
        let (room, room_for_ends) = (
            room(self.file_bytes_max - kept_for_ends),
            room(self.file_bytes_max),
        );
        if bytes.len() == room {
            return room;
        }
        if let Some(end) = bytes[..room].iter().rposition(|byte| *byte == b'\n') {
            return end + 1;
        }
        if self.file_bytes == 0 {
            return room_for_ends;
        }
        if self.inside_line {
            let end = bytes[..room_for_ends]
                .iter()
                .position(|byte| *byte == b'\n');
            return end.map_or(0, |end| end + 1);
        }
        0
    }

    /// Appends as much as the disk takes, and says how much that was.
    fn append(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            let result = self.file().and_then(|file| file.write(&bytes[written..]));
            match result {
                Ok(count) if count > 0 => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Full, or broken. The next output tries again.
                Ok(_) | Err(_) => break,
            }
        }
        written
    }

    fn file(&mut self) -> io::Result<&mut File> {
        match &mut self.file {
            Some(file) => Ok(file),
            closed => {
                let file = File::options()
                    .append(true)
                    .create(true)
                    .mode(0o600)
                    .open(&self.path)?;
                Ok(closed.insert(file))
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        match fs::rename(&self.path, &self.older) {
            Ok(()) => {
                self.counts.kept -= self.older_bytes;
                self.counts.overwritten += self.older_bytes;
                self.older_bytes = self.file_bytes;
            }
            // Somebody removed it, and what was written to it since went nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.counts.kept -= self.file_bytes;
                self.counts.overwritten += self.file_bytes;
            }
            Err(error) => return Err(error),
        }
        self.file = None;
        self.file_bytes = 0;
        self.inside_line = false;
        Ok(())
    }
}

/// A pipe whose output goes to a log. Init keeps the writing end open, so the pipe outlives every
/// process that writes to it.
#[derive(Debug)]
pub(super) struct Tap {
    reader: PipeReader,
    writer: PipeWriter,
    /// Where its output goes.
    pub(super) log: BoundedLog,
}

impl Tap {
    /// A pipe into `log`.
    pub(super) fn new(log: BoundedLog) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok(Self {
            reader,
            writer,
            log,
        })
    }

    /// A writing end for a child.
    pub(super) fn writer(&self) -> io::Result<PipeWriter> {
        self.writer.try_clone()
    }

    /// Copies what is in the pipe, up to what one turn allows.
    pub(super) fn drain(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        for _ in 0..CHUNKS_PER_TURN {
            match self.reader.read(&mut chunk) {
                // No end can come while this process has the writing end; a failure other than
                // "nothing there" is not possible for a pipe, and would be seen again.
                Ok(0) | Err(_) => return,
                Ok(count) => self.log.write(&chunk[..count]),
            }
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 100;

    fn content(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    fn assert_sum(log: &BoundedLog) {
        let counts = log.counts();
        assert_eq!(
            counts.read,
            counts.kept + counts.overwritten + counts.failed,
            "{counts:?}"
        );
    }

    #[test]
    fn the_files_hold_whole_lines_within_their_bounds_and_every_byte_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("console.log");
        let older = root.path().join("console.log.1");
        let mut log = BoundedLog::open(&path, MAX);
        let text: String = (0..100)
            .map(|n| format!("line {n}\nhalf a line\n"))
            .collect();
        // In pieces of every length, as a pipe gives them.
        let (mut rest, mut length) = (text.as_bytes(), 1);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            log.write(piece);
            assert_sum(&log);
            (rest, length) = (after, length % 37 + 1);
        }
        let (new, old) = (content(&path), content(&older));
        assert!(new.len() as u64 <= MAX && old.len() as u64 <= MAX);
        assert_eq!(log.counts().kept, (new.len() + old.len()) as u64);
        assert!(new.ends_with("line 99\nhalf a line\n"), "{new}");
        for line in old.lines().chain(new.lines()) {
            assert!(line == "half a line" || line.starts_with("line "), "{line}");
        }
    }

    #[test]
    fn a_line_larger_than_a_file_is_cut_and_still_counted() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("console.log");
        let mut log = BoundedLog::open(&path, MAX);
        log.write(&[b'x'; 1234]);
        assert_sum(&log);
        assert!(content(&path).len() as u64 <= MAX);
        assert_eq!(log.counts().read, 1234);
    }

    #[test]
    fn a_new_start_goes_on_in_the_same_files() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("console.log");
        BoundedLog::open(&path, MAX).write(b"one\n");
        let mut log = BoundedLog::open(&path, MAX);
        log.write(b"two\n");
        assert_eq!(content(&path), "one\ntwo\n");
        assert_eq!(log.counts().read, 8);
        assert_sum(&log);
    }

    #[test]
    fn files_that_somebody_removed_cost_their_content_and_no_more() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("console.log");
        let mut log = BoundedLog::open(&path, MAX);
        log.write(b"removed\n");
        fs::remove_file(&path).unwrap();
        for number in 0..50 {
            log.write(format!("line {number}\n").as_bytes());
            assert_sum(&log);
        }
        let older = content(&root.path().join("console.log.1"));
        let kept = older + &content(&path);
        assert!(kept.ends_with("line 48\nline 49\n"), "{kept}");
        assert_eq!(log.counts().failed, 0);
        assert_eq!(log.counts().kept, kept.len() as u64);
    }

    #[test]
    fn a_disk_that_refuses_is_counted_and_used_again_when_it_takes() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("gone");
        let path = directory.join("console.log");
        let mut log = BoundedLog::open(&path, MAX);
        log.write(b"lost\n");
        assert_eq!(log.counts().failed, 5);
        fs::create_dir(&directory).unwrap();
        log.write(b"kept\n");
        assert_eq!(content(&path), "kept\n");
        assert_sum(&log);
    }

    #[test]
    fn a_full_disk_loses_output_and_stalls_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("console.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut tap = Tap::new(BoundedLog::open(&path, MAX)).unwrap();
        let mut writer = tap.writer().unwrap();
        for _ in 0..100 {
            writer.write_all(&[b'x'; CHUNK_BYTES]).unwrap();
            tap.drain();
        }
        let written = 100 * CHUNK_BYTES as u64;
        assert_eq!(tap.log.counts().read, written);
        assert_eq!(tap.log.counts().failed, written);
    }
}
