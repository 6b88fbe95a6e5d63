//! Which life a seed stands for: how large the fleet is, what its people do, what goes wrong.

use std::time::Duration;

use calvin_model::{
    HumanDuration,
    fleet::OnDrainTimeout,
    image::{ImageTag, Work},
};
use calvin_planner::Phase;
use calvin_simulator::{Behaviour, Fault, Scenario, SimImage, Step};

/// An image that can be taken.
const GOOD: u32 = 2;
/// An image that fails when it has been active for a while.
const BAD: u32 = 4;
/// The image whose workload flaps.
const FLAPPING: u32 = 6;
/// Longer than a workload that flaps is ever known to be healthy: it answers for 2 s, is checked
/// each second, and a report counts on for three.
const SOAK: HumanDuration = HumanDuration::from_secs(8);
/// Machines of a fleet, at least: one alone in a short list is as likely gone as left out.
const INSTANCES: (u32, u32) = (2, 4);

/// The longest blackout, in seconds: shorter than `silent_after`, and longer.
const BLACKOUT_SHORT: u64 = 50;
const BLACKOUT_LONG: u64 = 100;

/// The life of this seed. It has all faults, or a few of them.
pub(crate) fn scenario(seed: u64) -> Scenario {
    // Not the numbers that the simulation of the same seed draws.
    let mut random = fastrand::Rng::with_seed(seed ^ 0x6d75_7461_6e74_7300);
    let mut scenario = Scenario::small(random.u32(INSTANCES.0..=INSTANCES.1));
    // Each image can be ordered as often as somebody likes.
    scenario.spec.repair.image_failures = u32::MAX;
    let mut version = random.u32(GOOD..=FLAPPING);
    if random.bool() {
        scenario.spec.drain.on_timeout = OnDrainTimeout::Hold;
    }
    if version == FLAPPING {
        scenario.images.push(flapping());
        scenario.spec.replace.min_healthy = SOAK;
    }
    let turns_bad = random.u32(..6) == 0;
    let faults: Vec<Fault> = match random.u32(..4) {
        // Where there is nothing to go back to, one failing check holds a rollout for a person.
        _ if turns_bad => Vec::new(),
        0 => Vec::new(),
        1 => Fault::ALL.into_iter().filter(|_| random.bool()).collect(),
        _ => Fault::ALL.to_vec(),
    };
    if turns_bad {
        // The first image does: all that serve fail at once, and there is nothing to go back to.
        scenario.steps = vec![Step::Apply(tag(BAD))];
        version = GOOD;
    }
    scenario = if faults.is_empty() && !turns_bad && random.bool() {
        // Only where nothing goes wrong does a rollout surely come as far as somebody waits for.
        let phase = WAYS_BACK[random.usize(..WAYS_BACK.len())];
        scenario.then_rollout(GOOD).then(Step::RollBackIn(phase))
    } else {
        scenario.then_rollout(version)
    };
    // A coordinator that starts in a blackout gives up on a provider that lists nothing and agents
    // that say nothing after `silent_after`: it shows clients what it knows, which is nothing.
    let starts = [
        Fault::CoordinatorCrash,
        Fault::CrashPoints,
        Fault::OldCoordinator,
    ];
    let blackout_max = if starts.iter().any(|fault| faults.contains(fault)) {
        BLACKOUT_SHORT
    } else {
        BLACKOUT_LONG
    };
    for _ in 0..random.u32(1..=3) {
        let step = event(&mut random, blackout_max);
        scenario = scenario.then(step);
    }
    scenario.limit = Duration::from_secs(1_200);
    scenario.with_faults(faults).then(Step::Delete)
}

const WAYS_BACK: [Phase; 3] = [Phase::Soaking, Phase::Settling, Phase::Baking];

fn event(random: &mut fastrand::Rng, blackout_max: u64) -> Step {
    match random.u32(..5) {
        0 => Step::KillMachine,
        1 => Step::AgentsAway(Duration::from_secs(random.u64(10..=200))),
        2 => Step::Scale(random.u32(INSTANCES.0..=INSTANCES.1)),
        3 => Step::Stray,
        _ => Step::Blackout(Duration::from_secs(random.u64(20..=blackout_max))),
    }
}

fn flapping() -> SimImage {
    SimImage {
        tag: tag(FLAPPING),
        behaviour: Behaviour::Flapping {
            turn: Duration::from_secs(4),
        },
        work: Work::Boot,
        votes: false,
    }
}

fn tag(version: u32) -> ImageTag {
    match format!("web@{version}").parse() {
        Ok(tag) => tag,
        Err(error) => unreachable!("a name and a number are a tag: {error}"),
    }
}
