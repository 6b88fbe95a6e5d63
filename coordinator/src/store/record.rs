//! How a record is kept: JSON with a format number.
//!
//! A record of a newer version is refused and what is unknown in it is named: its format, a phase
//! or any other value, or a field. A field that was silently dropped would be lost at the next
//! write, and with it perhaps the one fact that a newer version relied on.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The newest format that this version writes and reads.
pub const FORMAT: u32 = 1;

/// Why a record is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It has a newer format.
    #[error(
        "{what} has format {found}, which a newer version of calvin wrote; this one knows format {FORMAT}"
    )]
    Newer {
        /// Which record.
        what: String,
        /// Its format.
        found: u32,
    },
    /// It is not what it should be: damaged, or it holds a value that this version does not know.
    #[error("{what} cannot be read")]
    Unreadable {
        /// Which record.
        what: String,
        /// Why, with the unknown value's name.
        #[source]
        source: serde_json::Error,
    },
    /// It has a field that this version does not know.
    #[error("{what} has the field {field}, which a newer version of calvin wrote")]
    UnknownField {
        /// Which record.
        what: String,
        /// The field, with the path to it.
        field: String,
    },
}

#[derive(Serialize)]
struct Written<'a, T> {
    format: u32,
    value: &'a T,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    format: u32,
    value: Value,
}

/// A record as it is kept. `what` names it in an error.
///
/// # Errors
/// A value that JSON cannot hold.
pub fn encode<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>, RecordError> {
    let written = Written {
        format: FORMAT,
        value,
    };
    serde_json::to_vec(&written).map_err(|source| unreadable(what, source))
}

/// A record that was kept. `what` names it in an error.
///
/// # Errors
/// It is damaged, or of a newer version.
pub fn decode<T: Serialize + DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, RecordError> {
    let read: Read = serde_json::from_slice(bytes).map_err(|source| unreadable(what, source))?;
    if read.format > FORMAT {
        return Err(RecordError::Newer {
            what: what.to_owned(),
            found: read.format,
        });
    }
    let value: T =
        serde_json::from_value(read.value.clone()).map_err(|source| unreadable(what, source))?;
    // What was understood, written again, must have every field that was there.
    let again = serde_json::to_value(&value).map_err(|source| unreadable(what, source))?;
    match dropped_field(&read.value, &again, String::new()) {
        Some(field) => Err(RecordError::UnknownField {
            what: what.to_owned(),
            field,
        }),
        None => Ok(value),
    }
}

fn unreadable(what: &str, source: serde_json::Error) -> RecordError {
    RecordError::Unreadable {
        what: what.to_owned(),
        source,
    }
}

/// The path of the first field of `read` that `understood` lacks.
fn dropped_field(read: &Value, understood: &Value, path: String) -> Option<String> {
    if let (Value::Object(read), Value::Object(understood)) = (read, understood) {
        return read.iter().find_map(|(name, inner)| {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            match understood.get(name) {
                Some(other) => dropped_field(inner, other, path),
                None => Some(path),
            }
        });
    }
    if let (Value::Array(read), Value::Array(understood)) = (read, understood) {
        return read
            .iter()
            .zip(understood)
            .enumerate()
            .find_map(|(at, (inner, other))| dropped_field(inner, other, format!("{path}[{at}]")));
    }
    None
}

#[cfg(test)]
mod tests {
    use calvin_engine::chain;
    use calvin_planner::Phase;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        phase: Phase,
        inner: Vec<Inner>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        a: u8,
    }

    #[test]
    fn a_record_is_read_back_as_written() {
        let thing = Thing {
            phase: Phase::Baking,
            inner: vec![Inner { a: 1 }],
        };
        let bytes = encode("fleet web", &thing).unwrap();
        assert_eq!(decode::<Thing>("fleet web", &bytes).unwrap(), thing);
    }

    #[test]
    fn a_phase_of_a_newer_version_is_refused_by_name() {
        let bytes = br#"{"format":1,"value":{"phase":"awaiting_approval","inner":[]}}"#;
        let text = chain(&decode::<Thing>("fleet web", bytes).unwrap_err());
        assert!(
            text.contains("fleet web") && text.contains("awaiting_approval"),
            "{text}"
        );
    }

    #[test]
    fn a_field_of_a_newer_version_is_refused_with_its_path() {
        let bytes = br#"{"format":1,"value":{"phase":"done","inner":[{"a":1},{"a":2,"veto":3}]}}"#;
        let text = chain(&decode::<Thing>("fleet web", bytes).unwrap_err());
        assert!(text.contains("inner[1].veto"), "{text}");
    }

    #[test]
    fn a_newer_format_is_refused_whatever_it_holds() {
        let bytes = br#"{"format":2,"value":{"anything":true}}"#;
        let error = decode::<Thing>("fleet web", bytes).unwrap_err();
        assert!(
            matches!(error, RecordError::Newer { found: 2, .. }),
            "{error}"
        );
    }
}
