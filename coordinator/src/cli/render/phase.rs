//! The phases of a rollout in words. A phase that this version does not know (the coordinator may
//! be newer) is shown by its name.

use calvin_planner::phase::Phase;

/// The phases on the way to done, in their order.
const WAY: [Phase; 7] = [
    Phase::Provisioning,
    Phase::Soaking,
    Phase::Switching,
    Phase::Settling,
    Phase::Baking,
    Phase::Draining,
    Phase::Retiring,
];

/// The phase of that name, if this version knows it.
pub(crate) fn parse(name: &str) -> Option<Phase> {
    Phase::ALL.into_iter().find(|phase| phase.as_str() == name)
}

/// `rolling_back` -> `rolling back`.
pub(crate) fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// What happens in it, as a clause after "it is ..., ".
pub(crate) fn meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::Provisioning => "making the new instances; they are not all healthy yet",
        Phase::MakingRoom => "some of the old instances leave first, to make room for new ones",
        Phase::Soaking => "every new instance is healthy and must stay so without a break",
        Phase::AwaitingSwitch => "the new instances are proven; a person is to approve the switch",
        Phase::Switching => "traffic goes over to the new instances",
        Phase::Stopping => "the old instance stops its work before the new one starts",
        Phase::Settling => "the old instances still serve those who remember their addresses",
        Phase::Baking => {
            "the new image serves; the old instances stand by, ready to take over again"
        }
        Phase::AwaitingRetire => {
            "the new image has proved itself; a person is to approve that the old machines go"
        }
        Phase::Draining => "the old instances finish what they have",
        Phase::Retiring => "the old machines, their identities and names are being removed",
        Phase::RollingBack => "the old image serves, and the new instances are being removed",
        Phase::Done => "the new image serves",
        Phase::RolledBack => "the old image serves, as before the rollout",
        Phase::Failed => {
            "there was nothing to go back to; its instances are kept a while to look at"
        }
    }
}

/// What a phase says about how the rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// On its way.
    UnderWay,
    /// Ended as it should.
    Well,
    /// Something was wrong, and it is going back.
    GoingBack,
    /// It went back; the old image serves.
    WentBack,
    /// It ended without an image that serves.
    Broken,
}

/// How a rollout in that phase stands.
pub(crate) fn standing(phase: Phase) -> Standing {
    match phase {
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::Switching
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring => Standing::UnderWay,
        Phase::Done => Standing::Well,
        Phase::RollingBack => Standing::GoingBack,
        Phase::RolledBack => Standing::WentBack,
        Phase::Failed => Standing::Broken,
    }
}

/// The command that goes back from a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retreat {
    /// `rollout abort`: no client was sent to green yet.
    Abort,
    /// `rollout rollback`: the old image takes over again.
    Rollback,
    /// It is going back already, or has ended.
    None,
}

/// How a person goes back from that phase.
pub(crate) fn retreat(phase: Phase) -> Retreat {
    match phase {
        Phase::Provisioning | Phase::MakingRoom | Phase::Soaking | Phase::AwaitingSwitch => {
            Retreat::Abort
        }
        Phase::Switching
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring => Retreat::Rollback,
        Phase::RollingBack | Phase::Done | Phase::RolledBack | Phase::Failed => Retreat::None,
    }
}

/// `provisioning > [soaking] > switching > ...`: where a rollout is on its way.
pub(crate) fn way(name: &str) -> String {
    let current = parse(name);
    if !WAY.iter().any(|phase| Some(*phase) == current) {
        return format!("[{}]", words(name));
    }
    let steps = WAY.map(|phase| {
        if Some(phase) == current {
            format!("[{phase}]")
        } else {
            phase.to_string()
        }
    });
    steps.join(" > ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_fits_eighty_columns_in_every_phase() {
        for phase in Phase::ALL {
            let line = way(phase.as_str());
            assert!(line.len() <= 78 && line.contains('['), "{line}");
        }
        assert_eq!(way("dancing_about"), "[dancing about]");
    }
}
