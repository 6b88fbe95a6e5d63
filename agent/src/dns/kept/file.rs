//! The answers on disk: one file that is replaced whole, with the messages as they came. Whatever cannot
//! be understood in it is left alone as a whole.

use std::{
    error::Error as StdError,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hickory_proto::op::{Message, MessageType, Query};
use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError};

/// Format of the file that this version writes.
const FORMAT: u32 = 1;
/// Largest file: 5 MiB of answers, of which base64 makes four thirds, and some 50 bytes more for each of
/// 8,192.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// An answer that was heard some time ago.
#[derive(Debug, Clone)]
pub(in super::super) struct Heard {
    pub(super) query: Query,
    pub(super) message: Arc<Message>,
    pub(super) age: Duration,
}

/// Why answers could not be kept, or what was kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum AnswersError {
    /// The file could not be read, written or understood.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It was stored by a version that knows more.
    #[error("{} has format {found}, this version knows {FORMAT}", path.display())]
    Format { path: PathBuf, found: u32 },
    /// Something in it is no answer.
    #[error("answer {number} in {} cannot be understood", path.display())]
    Answer {
        path: PathBuf,
        number: usize,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl AnswersError {
    /// The task that wrote ended early.
    pub(in super::super) fn ended(path: &Path, error: tokio::task::JoinError) -> Self {
        Self::Disk(DiskError::Write {
            path: path.to_owned(),
            source: io::Error::other(error),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    answers: Vec<Stored>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// Milliseconds since 1970: the clock that goes on while the machine is off.
    heard: u64,
    /// The message with its question, base64.
    message: String,
}

/// What an earlier agent kept.
///
/// # Errors
/// It is as if there were nothing.
pub(in super::super) fn read(path: &Path) -> Result<Vec<Heard>, AnswersError> {
    match disk::read_bounded(path, FILE_BYTES_MAX)? {
        Some(bytes) => decode(path, &bytes, unix_ms(SystemTime::now())),
        None => Ok(Vec::new()),
    }
}

/// Keeps these, and nothing else.
///
/// # Errors
/// What was there before is kept; to try again is harmless.
pub(in super::super) fn write(path: &Path, answers: &[Heard]) -> Result<(), AnswersError> {
    let content = encode(path, answers, unix_ms(SystemTime::now()))?;
    Ok(disk::write_private(path, &content)?)
}

fn encode(path: &Path, answers: &[Heard], now: u64) -> Result<Vec<u8>, AnswersError> {
    let mut written = Written {
        format: FORMAT,
        answers: Vec::with_capacity(answers.len()),
    };
    for (number, one) in answers.iter().enumerate() {
        let mut message = Message::clone(&one.message);
        // As it was asked does not matter any more; in which spelling neither.
        message.queries = vec![one.query.clone()];
        message.metadata.id = 0;
        let bytes = message.to_vec().map_err(|source| AnswersError::Answer {
            path: path.to_owned(),
            number,
            source: source.into(),
        })?;
        let age = u64::try_from(one.age.as_millis()).unwrap_or(u64::MAX);
        written.answers.push(Stored {
            heard: now.saturating_sub(age),
            message: STANDARD.encode(bytes),
        });
    }
    Ok(serde_json::to_vec(&written).map_err(|source| content(path, source))?)
}

fn decode(path: &Path, bytes: &[u8], now: u64) -> Result<Vec<Heard>, AnswersError> {
    let written: Written = serde_json::from_slice(bytes).map_err(|source| content(path, source))?;
    if written.format != FORMAT {
        return Err(AnswersError::Format {
            path: path.to_owned(),
            found: written.format,
        });
    }
    let heard = |(number, stored): (usize, &Stored)| {
        let message = message(&stored.message).map_err(|source| AnswersError::Answer {
            path: path.to_owned(),
            number,
            source,
        });
        let (query, message) = message?;
        Ok(Heard {
            query,
            message: Arc::new(message),
            // A clock that was set back makes nothing older than it is.
            age: Duration::from_millis(now.saturating_sub(stored.heard)),
        })
    };
    written.answers.iter().enumerate().map(heard).collect()
}

fn message(text: &str) -> Result<(Query, Message), Box<dyn StdError + Send + Sync>> {
    let message = Message::from_vec(&STANDARD.decode(text)?)?;
    match (&message.queries[..], message.metadata.message_type) {
        ([query], MessageType::Response) => Ok((query.clone(), message)),
        _ => Err("it is no answer to one question".into()),
    }
}

fn content(path: &Path, source: serde_json::Error) -> DiskError {
    DiskError::Content {
        path: path.to_owned(),
        source,
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::{super::tests, *};

    const HOUR: Duration = Duration::from_secs(3600);

    fn heard() -> Heard {
        Heard {
            query: tests::query("web.service.example."),
            message: Arc::new(tests::answer(&[1, 2])),
            age: HOUR,
        }
    }

    #[test]
    fn what_is_written_is_read_in_order_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.json");
        assert!(read(&path).unwrap().is_empty());
        let mut second = heard();
        (second.query, second.age) = (tests::query("db.service.example."), Duration::ZERO);
        write(&path, &[heard(), second]).unwrap();
        let found = read(&path).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|one| one.query.name().to_string())
            .collect();
        assert_eq!(names, ["web.service.example.", "db.service.example."]);
        assert_eq!(found[0].message.answers, heard().message.answers);
        assert!(found[0].age >= HOUR && found[0].age < HOUR * 2);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn time_goes_on_while_nobody_runs_and_a_clock_that_was_set_back_ages_nothing() {
        let path = Path::new("answers.json");
        let bytes = encode(path, &[heard()], 10_000_000).unwrap();
        let age = |now| decode(path, &bytes, now).unwrap()[0].age;
        assert_eq!(age(10_000_000), HOUR);
        assert_eq!(age(10_000_000 + 60_000), HOUR + Duration::from_secs(60));
        assert_eq!(age(1), Duration::ZERO);
    }

    #[test]
    fn what_is_of_another_format_or_no_answer_is_refused() {
        let path = Path::new("answers.json");
        let refused = |text: &str| decode(path, text.as_bytes(), 0).unwrap_err().to_string();
        let newer = refused(r#"{"format":2,"answers":[]}"#);
        assert_eq!(newer, "answers.json has format 2, this version knows 1");
        let mut question = Message::query();
        question.add_query(tests::query("a."));
        for message in [
            "%",
            "",
            &STANDARD.encode([0; 12]),
            &STANDARD.encode(question.to_vec().unwrap()),
        ] {
            let text = format!(r#"{{"format":1,"answers":[{{"heard":0,"message":"{message}"}}]}}"#);
            assert!(
                refused(&text).starts_with("answer 0 in answers.json"),
                "{message}"
            );
        }
        for text in [
            "",
            "{",
            r#"{"format":1}"#,
            r#"{"format":1,"answers":[],"more":1}"#,
        ] {
            assert!(refused(text).ends_with("cannot be understood"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_content_is_too_odd(bytes: Vec<u8>, message: Vec<u8>, heard: u64, now: u64) {
            let path = Path::new("answers.json");
            let _ = decode(path, &bytes, now);
            let message = STANDARD.encode(message);
            let stored = Written { format: FORMAT, answers: vec![Stored { heard, message }] };
            let _ = decode(path, &serde_json::to_vec(&stored).unwrap(), now);
        }
    }
}
