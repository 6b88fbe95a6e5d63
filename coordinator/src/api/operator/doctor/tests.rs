//! What the doctor says of what began a moment ago.

use std::sync::Arc;

use calvin_engine::ports::Revision;
use calvin_model::{Epoch, RunId};
use calvin_planner::Moment;

use super::*;

/// A coordinator that runs for so long, and has seen nothing yet.
pub(super) fn began(up: Duration) -> View {
    View {
        number: 1,
        epoch: Epoch {
            number: 1,
            run: "00".parse::<RunId>().unwrap(),
        },
        moment: Moment { ms: 60_000 },
        up,
        wall_ms: 1_795_426_990_000,
        revision: Revision(1),
        held: None,
        recovery: None,
        breaches: 0,
        breaches_by_rule: Arc::default(),
        environment: Arc::default(),
        rules: Arc::default(),
        fleets: Arc::default(),
        gone: Arc::default(),
        reports: Arc::default(),
        observed: Arc::default(),
        catalogue: Arc::default(),
        notices: Arc::default(),
    }
}

#[test]
fn a_provider_that_has_said_nothing_is_starting_and_later_a_failure() {
    let starting = provider(&began(Duration::from_secs(1)));
    assert!(
        starting.ok && starting.found.contains("starting"),
        "{starting:?}"
    );
    let silent = provider(&began(YOUNG));
    assert!(!silent.ok && !silent.advice.is_empty(), "{silent:?}");
}

#[test]
fn what_began_a_moment_ago_is_called_starting() {
    let said = [0, 1, 3].map(on_their_way);
    assert_eq!(said, ["", ", 1 is starting", ", 3 are starting"]);
}
