//! On which observations a judgement rests, and how old each was.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// The age of each observation that a judgement rests on; none of a source that had no part in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestsOn {
    /// The newest report of its agent.
    pub agent: Option<Duration>,
    /// The provider's list of its machines.
    pub list: Option<Duration>,
    /// The coordinator's own probes.
    pub probe: Option<Duration>,
}

impl fmt::Display for RestsOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = [
            ("its agent", self.agent),
            ("its provider's list", self.list),
            ("a probe", self.probe),
        ];
        let mut said = false;
        for (source, age) in sources {
            let Some(age) = age else { continue };
            let joint = if said { ", " } else { "" };
            write!(f, "{joint}{source} {:.1}s ago", age.as_secs_f64())?;
            said = true;
        }
        if said {
            Ok(())
        } else {
            f.write_str("nothing that was seen in this run")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_is_named_with_its_age() {
        let rests = RestsOn {
            agent: Some(Duration::from_millis(1_240)),
            list: Some(Duration::from_secs(4)),
            probe: None,
        };
        assert_eq!(
            rests.to_string(),
            "its agent 1.2s ago, its provider's list 4.0s ago"
        );
        let nothing = "nothing that was seen in this run";
        assert_eq!(RestsOn::default().to_string(), nothing);
    }
}
