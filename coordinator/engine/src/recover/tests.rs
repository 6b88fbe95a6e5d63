//! What is found of a world that its store is behind, and what becomes of the records.

use std::time::Duration;

use calvin_model::{CatalogueRole, FleetSpec, Generation, Health, Role, RolloutId, Wanted};
use calvin_planner::{Instance, Life, NextRollout, Phase, Purpose, Rollout, Wave};

use super::*;

fn fleet_name() -> FleetName {
    "web".parse().unwrap()
}

fn id(number: u64) -> InstanceId {
    InstanceId::new(&fleet_name(), number)
}

fn image(version: &str) -> ImageRef {
    ImageRef {
        tag: format!("web@{version}").parse().unwrap(),
        digest: Digest::from_sha256([version.as_bytes()[0]; 32]),
    }
}

fn build(version: &str) -> Build {
    Build {
        quorum: false,
        image: image(version),
        work: calvin_model::image::Work::Boot,
        services: true,
    }
}

fn instance(version: &str) -> Instance {
    Instance {
        at_work: false,
        ordered: None,
        build: build(version),
        purpose: Purpose::Scale,
        life: Life::Up,
        since: Moment::default(),
        created: Moment::default(),
        wanted: Wanted {
            generation: Generation(3),
            role: Role::Active,
            drain: None,
        },
        wanted_since: Moment::default(),
        catalogue: CatalogueRole::Active,
        proven: true,
        replace: None,
        zone: None,
        protected: None,
    }
}

/// A fleet with these instances of version 1.0.
fn fleet(numbers: &[u64]) -> FleetState {
    let spec = format!(
        "name = \"web\"\nimage = \"web@1.0\"\ncount = {}\n",
        numbers.len()
    );
    FleetState {
        serving: Some(build("1.0")),
        rollouts: 4,
        instances: numbers
            .iter()
            .map(|number| (id(*number), instance("1.0")))
            .collect(),
        ..FleetState::new(FleetSpec::parse("web.toml", &spec).unwrap())
    }
}

struct Scene {
    epoch: Epoch,
    fleets: BTreeMap<FleetName, FleetState>,
    machines: BTreeMap<InstanceId, Found>,
    agents: BTreeMap<InstanceId, AgentHeard>,
    images: BTreeMap<ImageRef, KnownImage>,
    listed: Listed,
    listening_for: Duration,
}

impl Scene {
    /// The records know these instances; nothing of the world is known yet.
    fn of(state: FleetState) -> Self {
        let known = |version: &str| {
            let known = KnownImage {
                build: build(version),
                manifest: Some(Digest::from_sha256([7; 32])),
                build_id: None,
            };
            (image(version), known)
        };
        Self {
            epoch: Epoch {
                number: 2,
                run: "aa".parse().unwrap(),
            },
            fleets: BTreeMap::from([(fleet_name(), state)]),
            machines: BTreeMap::new(),
            agents: BTreeMap::new(),
            images: BTreeMap::from([known("1.0"), known("2.0")]),
            listed: Listed::Completely,
            listening_for: Duration::from_secs(5),
        }
    }

    fn machine(&mut self, number: u64, version: &str) {
        let tag = MachineTag {
            fleet: fleet_name(),
            image: image(version),
            epoch: 0,
        };
        let found = Found {
            provider: "process".to_owned(),
            state: MachineState::Running,
            tag: Some(tag),
        };
        self.machines.insert(id(number), found);
    }

    fn agent(&mut self, number: u64, role: Role, epoch: u64, generation: u64) {
        let heard = AgentHeard {
            age: Duration::from_secs(1),
            fleet: fleet_name(),
            epoch: Some(Epoch {
                number: epoch,
                run: "bb".parse().unwrap(),
            }),
            generation: Generation(generation),
            role: Some(role),
            health: Health::Healthy,
            manifest: Digest::from_sha256([7; 32]),
            build: None,
        };
        self.agents.insert(id(number), heard);
    }

    fn there(&mut self, number: u64, version: &str, role: Role) {
        self.machine(number, version);
        self.agent(number, role, 7, 3);
    }

    fn compare(&self) -> Difference {
        compare(&World {
            epoch: &self.epoch,
            moment: Moment { ms: 9_000 },
            fleets: &self.fleets,
            machines: self.machines.clone(),
            providers: BTreeMap::from([("process".to_owned(), self.listed)]),
            agents: self.agents.clone(),
            images: self.images.clone(),
            listening_for: self.listening_for,
        })
    }
}

fn verdict(difference: &Difference, number: u64) -> Verdict {
    let instance = Some(id(number));
    let mut findings = difference.findings.iter();
    let found = findings.find(|finding| finding.instance == instance);
    found
        .unwrap_or_else(|| panic!("{number}: {difference:?}"))
        .verdict
}

fn after(difference: &Difference) -> &FleetState {
    &difference.fleets[&fleet_name()]
}

#[test]
fn a_world_that_is_as_recorded_changes_nothing_but_the_numbers() {
    let mut state = fleet(&[1, 2]);
    state.rollout = Some(rollout(Phase::Baking));
    let mut scene = Scene::of(state.clone());
    scene.there(1, "1.0", Role::Active);
    scene.there(2, "1.0", Role::Active);
    let difference = scene.compare();
    assert_eq!(difference.epoch_next, 7 + MARGIN);
    assert_eq!(verdict(&difference, 1), Verdict::Keep);
    let mut expected = state;
    for instance in expected.instances.values_mut() {
        instance.wanted.generation = Generation(3 + MARGIN);
    }
    assert_eq!(*after(&difference), expected);
}

fn rollout(phase: Phase) -> Rollout {
    Rollout {
        gap: None,
        turned_by: None,
        id: RolloutId::new(&fleet_name(), 4),
        from: Some(build("1.0")),
        to: build("2.0"),
        count: 2,
        phase,
        phase_since: Moment::default(),
        started: Moment::default(),
        progress_by: Moment::default(),
        wave: 0,
        sets: Wave::default(),
        failures: 0,
        reason: None,
        started_by: "ann".to_owned(),
        aim: calvin_planner::people::Aim::default(),
        emergency: None,
        paused: None,
        gates: calvin_planner::people::Gates::default(),
        approvals: Vec::new(),
        asked: None,
        promoted: None,
    }
}

#[test]
fn a_rollout_that_the_backup_does_not_know_is_taken_over_as_it_serves() {
    let mut scene = Scene::of(fleet(&[1, 2]));
    scene.there(11, "2.0", Role::Active);
    scene.there(12, "2.0", Role::Active);
    let difference = scene.compare();
    assert_eq!(verdict(&difference, 11), Verdict::Adopt);
    assert_eq!(verdict(&difference, 1), Verdict::Forget);
    let state = after(&difference);
    assert_eq!(
        state.instances.keys().cloned().collect::<Vec<_>>(),
        [id(11), id(12)]
    );
    assert_eq!(state.serving, Some(build("2.0")));
    assert_eq!(state.previous, Some(build("1.0")));
    assert_eq!(state.spec.image, image("2.0").tag);
    assert_eq!(state.spec.count, 2);
    assert!(state.rollouts > 4, "an id of a rollout would mean two");
    let adopted = &state.instances[&id(11)];
    assert_eq!(adopted.wanted.role, Role::Active);
    assert_eq!(adopted.catalogue, CatalogueRole::Active);
    assert!(adopted.wanted.generation > Generation(3));
    assert!(difference.identities.contains(&id(11)));
    assert_eq!(difference.blocked().count(), 0);
    assert!(difference.waits.is_empty(), "{:?}", difference.waits);
}

#[test]
fn a_rollout_on_record_that_has_ended_in_the_world_is_not_followed() {
    let mut state = fleet(&[1, 2]);
    state.rollout = Some(rollout(Phase::Soaking));
    state.next = Some(NextRollout {
        build: build("2.0"),
        by: "ann".to_owned(),
        reason: None,
        aim: calvin_planner::people::Aim::default(),
        emergency: None,
    });
    for number in [11, 12] {
        let green = Instance {
            catalogue: CatalogueRole::Standby,
            ..instance("2.0")
        };
        state.instances.insert(id(number), green);
    }
    let mut scene = Scene::of(state);
    for number in [11, 12] {
        scene.machine(number, "2.0");
        scene.agent(number, Role::Active, 7, 4);
    }
    let difference = scene.compare();
    let state = after(&difference);
    assert_eq!((&state.rollout, &state.next), (&None, &None));
    assert_eq!(state.serving, Some(build("2.0")));
    assert_eq!(verdict(&difference, 1), Verdict::Forget);
    assert_eq!(state.instances[&id(11)].catalogue, CatalogueRole::Active);
    let told = difference.findings.iter().map(ToString::to_string);
    let told: Vec<String> = told.collect();
    assert!(
        told.iter().any(|line| line.contains("is not followed")),
        "{told:?}"
    );
}

#[test]
fn what_is_missing_is_left_to_the_repair_as_far_as_the_fleet_needs_it() {
    let mut scene = Scene::of(fleet(&[1, 2, 3]));
    scene.there(1, "1.0", Role::Active);
    // One was replaced since the backup, the other is just gone.
    scene.there(11, "1.0", Role::Active);
    let difference = scene.compare();
    assert_eq!(verdict(&difference, 2), Verdict::Missing);
    assert_eq!(verdict(&difference, 3), Verdict::Forget);
    let state = after(&difference);
    assert_eq!(state.instances.len(), 3);
    assert_eq!(state.instances[&id(2)].life, Life::Up);
}

#[test]
fn where_everything_is_missing_nothing_is_forgotten() {
    let scene = Scene::of(fleet(&[1, 2, 3]));
    let difference = scene.compare();
    assert_eq!(difference.count(Verdict::Missing), 3);
    assert_eq!(after(&difference).instances.len(), 3);
}

#[test]
fn a_rollout_most_of_whose_machines_are_gone_is_not_followed() {
    let mut state = fleet(&[1, 2, 3]);
    state.rollout = Some(rollout(Phase::Soaking));
    let mut scene = Scene::of(state);
    scene.there(1, "1.0", Role::Active);
    assert!(after(&scene.compare()).rollout.is_none());
    // One that is gone is the rollout's own matter.
    scene.there(2, "1.0", Role::Active);
    for number in [1, 2] {
        scene.agent(number, Role::Active, 7, 3);
    }
    assert!(after(&scene.compare()).rollout.is_some());
}

#[test]
fn a_fleet_that_never_served_misses_nothing() {
    let mut state = fleet(&[1, 2]);
    state.serving = None;
    state.rollout = Some(rollout(Phase::Provisioning));
    let mut scene = Scene::of(state);
    // It was told more than is on record, and does not serve.
    scene.machine(1, "1.0");
    scene.agent(1, Role::Standby, 7, 9);
    let difference = scene.compare();
    assert_eq!(verdict(&difference, 1), Verdict::Stray);
    assert_eq!(verdict(&difference, 2), Verdict::Forget);
    let state = after(&difference);
    assert!(state.instances.is_empty() && state.serving.is_none());
}

#[test]
fn more_that_serve_than_are_wanted_raise_the_count_so_that_none_leaves() {
    let mut scene = Scene::of(fleet(&[1, 2]));
    for number in [1, 2, 11, 12] {
        let version = if number > 10 { "2.0" } else { "1.0" };
        scene.there(number, version, Role::Active);
    }
    let difference = scene.compare();
    assert_eq!(after(&difference).spec.count, 4);
    let line = difference.findings.iter().map(ToString::to_string);
    assert!(
        line.clone()
            .any(|line| line.contains("calvin fleet scale web 2")),
        "{:?}",
        line.collect::<Vec<_>>()
    );
}

#[test]
fn what_is_on_standby_in_a_world_that_moved_on_is_left_alone_and_not_brought_back() {
    let mut scene = Scene::of(fleet(&[1, 2]));
    for number in [1, 2] {
        scene.machine(number, "1.0");
        scene.agent(number, Role::Standby, 7, 5);
    }
    scene.there(11, "2.0", Role::Active);
    scene.there(12, "2.0", Role::Active);
    let difference = scene.compare();
    assert_eq!(verdict(&difference, 1), Verdict::Stray);
    assert_eq!(after(&difference).instances.len(), 2);
    assert_eq!(after(&difference).spec.count, 2);
}

#[test]
fn one_that_was_to_be_removed_and_serves_stays() {
    let mut state = fleet(&[1, 2]);
    let leaving = state.instances.get_mut(&id(1)).unwrap();
    leaving.life = Life::Retiring(calvin_planner::DeleteBasis::RolledBack);
    leaving.catalogue = CatalogueRole::Absent;
    let mut scene = Scene::of(state);
    scene.machine(1, "1.0");
    scene.agent(1, Role::Active, 7, 9);
    scene.there(2, "1.0", Role::Active);
    let difference = scene.compare();
    let kept = &after(&difference).instances[&id(1)];
    assert_eq!(
        (&kept.life, kept.catalogue),
        (&Life::Up, CatalogueRole::Active)
    );
}

#[test]
fn an_image_or_a_fleet_without_a_record_blocks_until_it_has_one() {
    let mut scene = Scene::of(fleet(&[1]));
    scene.there(11, "3.0", Role::Active);
    let difference = scene.compare();
    assert_eq!(verdict(&difference, 11), Verdict::UnknownImage);
    assert_eq!(difference.blocked().count(), 1);
    // Left alone, it is no part of the fleet, and what is on record stays.
    assert_eq!(after(&difference).instances.len(), 1);
    scene.fleets.clear();
    let difference = scene.compare();
    assert_eq!(verdict(&difference, 11), Verdict::UnknownFleet);
    assert!(difference.fleets.is_empty());
}

#[test]
fn a_number_that_nobody_can_have_counted_to_is_not_believed() {
    let mut scene = Scene::of(fleet(&[1]));
    scene.machine(1, "1.0");
    scene.agent(1, Role::Active, u64::MAX, u64::MAX);
    let difference = scene.compare();
    assert_eq!(verdict(&difference, 1), Verdict::Conflict);
    assert_eq!(difference.epoch_next, 2 + MARGIN);
    let kept = &after(&difference).instances[&id(1)];
    assert_eq!(kept.wanted.generation, Generation(3 + MARGIN));
}

#[test]
fn an_agent_with_another_image_toml_than_recorded_is_a_conflict() {
    let mut scene = Scene::of(fleet(&[1]));
    scene.there(11, "2.0", Role::Active);
    scene.agents.get_mut(&id(11)).unwrap().manifest = Digest::from_sha256([8; 32]);
    assert_eq!(verdict(&scene.compare(), 11), Verdict::Conflict);
}

#[test]
fn agents_that_may_still_come_are_waited_for_and_not_for_ever() {
    let mut scene = Scene::of(fleet(&[1]));
    scene.machine(1, "1.0");
    assert_eq!(scene.compare().waits.len(), 1);
    scene.listening_for = LISTEN;
    assert!(scene.compare().waits.is_empty());
    scene.listed = Listed::NotYet;
    assert_eq!(scene.compare().waits.len(), 1);
}

#[test]
fn a_plan_has_another_id_when_anything_of_it_is_different() {
    let mut scene = Scene::of(fleet(&[1]));
    scene.there(1, "1.0", Role::Active);
    let first = scene.compare().id;
    scene.agents.get_mut(&id(1)).unwrap().age = Duration::from_secs(3);
    assert_eq!(scene.compare().id, first, "time alone changes nothing");
    scene.agent(1, Role::Active, 7, 4);
    assert_ne!(scene.compare().id, first);
    scene.agent(1, Role::Active, 8, 3);
    assert_ne!(scene.compare().id, first);
}

proptest::proptest! {
    /// Whatever the world is: nothing that serves leaves, nobody leaves the fleet that was not
    /// leaving, and the numbers only grow.
    #[test]
    fn nothing_that_serves_is_taken_out_and_nothing_begins_to_leave(
        recorded in proptest::collection::btree_set(0_u64..8, 1..6),
        world in proptest::collection::btree_map(0_u64..12, (0_u8..5, 1_u64..9, proptest::bool::ANY), 0..12),
    ) {
        let recorded: Vec<u64> = recorded.into_iter().collect();
        let mut scene = Scene::of(fleet(&recorded));
        for (number, (role, generation, machine)) in &world {
            let version = if recorded.contains(number) { "1.0" } else { "2.0" };
            if *machine {
                scene.machine(*number, version);
            }
            let role = match role {
                0 => Role::Standby,
                1 => Role::Draining,
                2 => continue,
                _ => Role::Active,
            };
            scene.agent(*number, role, 7, *generation);
        }
        let difference = scene.compare();
        let state = after(&difference);
        proptest::prop_assert!(state.kept() <= state.spec.count as usize);
        for (number, (_, generation, machine)) in &world {
            let heard = scene.agents.get(&id(*number));
            let serves = heard.is_some_and(|heard| heard.role == Some(Role::Active));
            if serves && (*machine || recorded.contains(number)) {
                let kept = state.instances.get(&id(*number));
                let kept = kept.ok_or_else(|| {
                    proptest::test_runner::TestCaseError::fail(format!("{number} left"))
                })?;
                proptest::prop_assert!(!kept.leaving() && kept.replace.is_none());
                proptest::prop_assert_eq!(kept.wanted.role, Role::Active);
                proptest::prop_assert!(kept.wanted.generation > Generation(*generation));
            }
        }
        for kept in state.instances.values() {
            proptest::prop_assert!(!kept.leaving());
        }
    }
}
