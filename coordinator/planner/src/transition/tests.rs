//! Every row of the table, and that there is no other.

use super::*;

/// The whole table. A row that is missing here, or is too many, fails the test below.
const ROWS: [(Option<Phase>, Cause, Phase); 54] = {
    use Cause as C;
    use Phase as P;
    [
        (None, C::Started, P::Provisioning),
        (Some(P::Done), C::Started, P::Provisioning),
        (Some(P::RolledBack), C::Started, P::Provisioning),
        (Some(P::Failed), C::Started, P::Provisioning),
        (Some(P::Provisioning), C::AllHealthy, P::Soaking),
        (Some(P::Provisioning), C::GreenReplaced, P::Provisioning),
        (Some(P::Soaking), C::GreenReplaced, P::Provisioning),
        (Some(P::Soaking), C::Soaked, P::Switching),
        (Some(P::Switching), C::Switched, P::Settling),
        (Some(P::Switching), C::SwitchedOnly, P::Done),
        (Some(P::Switching), C::NextWave, P::Provisioning),
        (Some(P::Retiring), C::NextWave, P::Provisioning),
        (Some(P::Settling), C::Settled, P::Baking),
        (Some(P::Baking), C::Baked, P::Draining),
        (Some(P::Draining), C::Drained, P::Retiring),
        (Some(P::Retiring), C::Retired, P::Done),
        (Some(P::Provisioning), C::GoBack, P::RollingBack),
        (Some(P::Soaking), C::GoBack, P::RollingBack),
        (Some(P::Switching), C::GoBack, P::RollingBack),
        (Some(P::Settling), C::GoBack, P::RollingBack),
        (Some(P::Baking), C::GoBack, P::RollingBack),
        (Some(P::Draining), C::GoBack, P::RollingBack),
        (Some(P::RollingBack), C::Restored, P::RolledBack),
        (Some(P::Provisioning), C::GivenUp, P::Failed),
        (Some(P::Soaking), C::GivenUp, P::Failed),
        (Some(P::Switching), C::GivenUp, P::Failed),
        (Some(P::RollingBack), C::GivenUp, P::Failed),
        (Some(P::Provisioning), C::FleetDeleted, P::Failed),
        (Some(P::Soaking), C::FleetDeleted, P::Failed),
        (Some(P::Switching), C::FleetDeleted, P::Failed),
        (Some(P::Settling), C::FleetDeleted, P::Failed),
        (Some(P::Baking), C::FleetDeleted, P::Failed),
        (Some(P::Draining), C::FleetDeleted, P::Failed),
        (Some(P::Retiring), C::FleetDeleted, P::Failed),
        (Some(P::RollingBack), C::FleetDeleted, P::Failed),
        (Some(P::Provisioning), C::NeedsRoom, P::MakingRoom),
        (Some(P::MakingRoom), C::RoomMade, P::Provisioning),
        (Some(P::AwaitingSwitch), C::GreenReplaced, P::Provisioning),
        (Some(P::AwaitingSwitch), C::Flapped, P::Soaking),
        (Some(P::Soaking), C::NeedsApproval, P::AwaitingSwitch),
        (Some(P::AwaitingSwitch), C::Approved, P::Switching),
        (Some(P::Switching), C::StopFirst, P::Stopping),
        (Some(P::Stopping), C::Stopped, P::Switching),
        (Some(P::Baking), C::NeedsApproval, P::AwaitingRetire),
        (Some(P::AwaitingRetire), C::Approved, P::Draining),
        (Some(P::MakingRoom), C::GoBack, P::RollingBack),
        (Some(P::AwaitingSwitch), C::GoBack, P::RollingBack),
        (Some(P::Stopping), C::GoBack, P::RollingBack),
        (Some(P::AwaitingRetire), C::GoBack, P::RollingBack),
        (Some(P::AwaitingSwitch), C::GivenUp, P::Failed),
        (Some(P::MakingRoom), C::FleetDeleted, P::Failed),
        (Some(P::AwaitingSwitch), C::FleetDeleted, P::Failed),
        (Some(P::Stopping), C::FleetDeleted, P::Failed),
        (Some(P::AwaitingRetire), C::FleetDeleted, P::Failed),
    ]
};

fn all_froms() -> impl Iterator<Item = Option<Phase>> {
    [None].into_iter().chain(Phase::ALL.map(Some))
}

#[test]
fn every_pair_of_phase_and_cause_does_what_the_table_says() {
    for from in all_froms() {
        for cause in Cause::ALL {
            let row = ROWS.iter().find(|row| (row.0, row.1) == (from, cause));
            let expected = row.map(|row| row.2);
            assert_eq!(transition(from, cause).ok(), expected, "{from:?} {cause:?}");
        }
    }
}

#[test]
fn an_illegal_change_is_refused_with_phase_and_cause() {
    let error = transition(Some(Phase::Retiring), Cause::GoBack).unwrap_err();
    let text = "no rollout goes on from retiring because it goes back";
    assert_eq!(error.to_string(), text);
    let error = transition(None, Cause::Soaked).unwrap_err();
    assert!(error.to_string().contains("from idle"), "{error}");
}

#[test]
fn every_phase_is_reached_and_every_running_one_can_end() {
    for phase in Phase::ALL {
        assert!(ROWS.iter().any(|row| row.2 == phase), "{phase}");
        if !phase.ended() {
            let ends = ROWS.iter().any(|row| row.0 == Some(phase) && row.2.ended());
            assert!(ends, "{phase}");
        }
    }
}

#[test]
fn while_paused_a_rollout_goes_back_or_ends_and_does_nothing_else() {
    for (from, cause, to) in ROWS {
        let forward = match while_paused(cause) {
            WhilePaused::Held => continue,
            WhilePaused::Happens => !to.ended() && to != Phase::RollingBack,
        };
        // A start is no part of a rollout yet; a flap leads back; work that has stopped goes on.
        let named = matches!(cause, Cause::Started | Cause::Flapped | Cause::Stopped);
        assert!(!forward || named, "{from:?} {cause:?} {to:?}");
    }
    for cause in [Cause::GoBack, Cause::GivenUp, Cause::FleetDeleted] {
        assert_eq!(while_paused(cause), WhilePaused::Happens);
    }
    assert!(diagram().contains("soaking --> switching: every green soaked, not while paused"));
    assert!(diagram().contains("soaking --> rolling_back: it goes back\n"));
}
