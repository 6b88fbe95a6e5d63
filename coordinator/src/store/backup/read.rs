//! Reads a backup to its end and checks every line of it, whatever is done with them.

use std::{collections::BTreeSet, io::BufRead};

use calvin_planner::FleetState;

use super::{
    super::{
        about,
        fleets::{HEAD, epoch_of},
        history::{BEGINNING, chained},
        record,
    },
    BackupError, Header, Kind, is_ca_file, kind_of,
    lines::{Line, Lines},
};

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its first line.
    pub header: Header,
    /// The newest epoch that was taken.
    pub epoch: Option<u64>,
    /// Every fleet, by name.
    pub fleets: Vec<BackedUpFleet>,
    /// Lines of the history, whose chain holds.
    pub history: u64,
    /// Recorded images.
    pub images: usize,
    /// Operators.
    pub operators: usize,
    /// CAs whose keys it holds.
    pub authorities: usize,
}

/// One fleet of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUpFleet {
    /// Its name.
    pub name: String,
    /// The image that serves.
    pub image: Option<String>,
    /// How many instances are on record.
    pub instances: usize,
    /// The rollout that runs.
    pub rollout: Option<String>,
}

/// Reads a backup to its end and checks all of it.
///
/// # Errors
/// It is no backup, cut off, damaged, or of a newer version.
pub fn verify(input: impl BufRead) -> Result<Summary, BackupError> {
    each(input, |_| Ok(()))
}

/// As `verify`, and gives each line that was checked to `take`. Whether all of them are good is
/// known only at the end.
pub(super) fn each(
    input: impl BufRead,
    mut take: impl FnMut(&Line) -> Result<(), BackupError>,
) -> Result<Summary, BackupError> {
    let (header, mut lines) = Lines::begin(input)?;
    let mut check = Check {
        summary: Summary {
            header,
            epoch: None,
            fleets: Vec::new(),
            history: 0,
            images: 0,
            operators: 0,
            authorities: 0,
        },
        seen: BTreeSet::new(),
        hash: BEGINNING,
    };
    while let Some(line) = lines.next()? {
        check.line(&lines, &line)?;
        take(&line)?;
    }
    Ok(check.summary)
}

struct Check {
    summary: Summary,
    /// Table and key of each record, name of each file.
    seen: BTreeSet<(String, String)>,
    hash: [u8; 32],
}

impl Check {
    fn line<R: BufRead>(&mut self, lines: &Lines<R>, line: &Line) -> Result<(), BackupError> {
        match line {
            Line::Record { table, key, value } => {
                self.once(lines, table, key, Kind::Records)?;
                let record_error = |source| BackupError::Record {
                    number: lines.number(),
                    source,
                };
                self.record(table, key, value.as_bytes())
                    .map_err(record_error)
            }
            Line::Number { table, key, .. } => self.once(lines, table, key, Kind::Numbers),
            Line::History { number, hash, line } => self.history(*number, hash, line),
            Line::File { name, content: _ } => {
                if !is_ca_file(name) {
                    let name: String = name.chars().take(80).collect();
                    return Err(lines.wrong(format!("{name:?} is no file of a CA")));
                }
                if !self.seen.insert(("".to_owned(), name.clone())) {
                    return Err(lines.wrong(format!("the file {name} comes twice")));
                }
                self.summary.authorities +=
                    usize::from(name.starts_with("ca-") && name.ends_with(".key"));
                Ok(())
            }
            // Never given: it is checked where lines are read.
            Line::End { .. } => Ok(()),
        }
    }

    fn once<R: BufRead>(
        &mut self,
        lines: &Lines<R>,
        table: &str,
        key: &str,
        kind: Kind,
    ) -> Result<(), BackupError> {
        if kind_of(table) != Some(kind) {
            let table: String = table.chars().take(80).collect();
            return Err(lines.wrong(format!("a store has no such table {table:?}")));
        }
        if !self.seen.insert((table.to_owned(), key.to_owned())) {
            return Err(lines.wrong(format!("the record {key} of {table} comes twice")));
        }
        Ok(())
    }

    fn record(&mut self, table: &str, key: &str, value: &[u8]) -> Result<(), record::RecordError> {
        let what = format!("the record {key} of {table}");
        match table {
            "about" => about::check(key, value)?,
            "state" if key == HEAD => {
                self.summary.epoch = epoch_of(value)?.map(|epoch| epoch.number);
            }
            "fleets" => {
                let state: FleetState = record::decode(&what, value)?;
                self.summary.fleets.push(BackedUpFleet {
                    name: key.to_owned(),
                    image: state
                        .serving
                        .as_ref()
                        .map(|build| build.image.tag.to_string()),
                    instances: state.instances.len(),
                    rollout: state.running().map(|rollout| rollout.id.to_string()),
                });
            }
            "images" => {
                // It has a form of its own, which its owner reads when it is opened.
                let _: serde_json::Value = serde_json::from_slice(value)
                    .map_err(|source| record::RecordError::Unreadable { what, source })?;
                self.summary.images += 1;
            }
            other => {
                // Its owner reads it whole when it is opened.
                let _: serde_json::Value = record::decode(&what, value)?;
                self.summary.operators += usize::from(other == "identity_operators");
            }
        }
        Ok(())
    }

    fn history(&mut self, number: u64, hash: &str, line: &str) -> Result<(), BackupError> {
        let next = chained(&self.hash, line.as_bytes());
        let same = calvin_proto::transport::peer::hexadecimal(&next) == hash;
        if number != self.summary.history + 1 || !same {
            return Err(BackupError::History { number });
        }
        self.hash = next;
        self.summary.history = number;
        Ok(())
    }
}
