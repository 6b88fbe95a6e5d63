//! Views for the golden texts: a rollout in trouble, a fleet that is well, one that lost a machine.

use crate::cli::view::{
    AnswerView, BackedUpFleetView, BackupView, BlockedView, FindingView, FleetForecastView,
    FleetView, ForecastView, ForecastsView, HistoryLineView, InstanceView, MomentView, OrderView,
    PhaseTimeView, PlanStepView, PlanView, RecoveryView, ReportView, RestsOnView, RolloutView,
    SeedsView, ShortestView, StatusView, ViolationView, WaitingView, WayBackView,
};

/// When the samples are looked at: 2026-11-23 09:43:10 UTC.
pub(crate) const NOW_MS: u64 = 1_795_426_990_000;

/// An instance of `fleet` as the planner judges it.
pub(crate) fn instance(id: &str, image: &str, set: Option<&str>, class: &str) -> InstanceView {
    let found = match (set, class) {
        (Some("green"), _) | (_, "starting") => "standby",
        _ => "active",
    };
    InstanceView {
        id: id.to_owned(),
        fleet: id.split('-').next().unwrap().to_owned(),
        image: image.to_owned(),
        address: Some("127.1.0.7".to_owned()),
        role: Some("active".to_owned()),
        catalogue: Some(found.to_owned()),
        class: class.to_owned(),
        text: String::new(),
        set: set.map(str::to_owned),
        age_ms: 65_000,
        report: None,
        report_age_ms: None,
        generation: 4,
        machine: Some("running".to_owned()),
        probe: Some("passing".to_owned()),
        fault: None,
        alarm: None,
        zone: None,
        protected: None,
        waits: None,
        since_ms: 5_000,
        rests_on: None,
    }
}

/// What the agent of an unhealthy instance says.
pub(crate) fn report() -> ReportView {
    ReportView {
        boot_id: "5b0c1d52-0b8e-4b5e-9a53-0f4f6f1f0c11".to_owned(),
        sequence: 17,
        generation_applied: 4,
        role_applied: "standby".to_owned(),
        health: "unhealthy".to_owned(),
        health_for_ms: 21_000,
        flaps: 2,
        clock_offset_ms: Some(-3),
        workload: "running".to_owned(),
        names_epoch: 7,
        names_number: 12,
        drain: None,
        failing: vec!["http: GET /health answers 503 Service Unavailable".to_owned()],
        connections: None,
        refused: None,
        names_unsaved: None,
        consul: None,
    }
}

/// The greens of one sample rollout: three are healthy, one starts, one is not healthy.
pub(crate) fn rollout() -> RolloutView {
    let mut instances: Vec<InstanceView> = ["web-aaaa0001", "web-aaaa0002"]
        .map(|id| instance(id, "web@1.0", Some("blue"), "healthy"))
        .into();
    let greens = [("web-bbbb0001", "healthy"), ("web-bbbb0002", "starting")];
    instances.extend(greens.map(|(id, class)| instance(id, "web@2.0", Some("green"), class)));
    let mut unhealthy = instance("web-bbbb0003", "web@2.0", Some("green"), "unhealthy");
    "its check http says that GET /health answers 503".clone_into(&mut unhealthy.text);
    unhealthy.report = Some(report());
    unhealthy.report_age_ms = Some(400);
    unhealthy.zone = Some("b".to_owned());
    unhealthy.protected = Some(order());
    unhealthy.since_ms = 42_000;
    unhealthy.waits = Some(WaitingView {
        what: "to be healthy".to_owned(),
        since_ms: 42_000,
        left_ms: Some(18_000),
        then: Some("it is given up".to_owned()),
    });
    unhealthy.rests_on = Some(RestsOnView {
        agent_age_ms: Some(400),
        list_age_ms: Some(4_000),
        probe_age_ms: None,
    });
    instances.push(unhealthy);
    RolloutView {
        id: "web-7".to_owned(),
        fleet: "web".to_owned(),
        phase: "provisioning".to_owned(),
        ended: false,
        from: Some("web@1.0".to_owned()),
        to: "web@2.0".to_owned(),
        phase_ms: 42_000,
        total_ms: 42_300,
        wave: 1,
        waves: 1,
        reason: None,
        started_by: Some("alice".to_owned()),
        failures: 0,
        waiting: vec![WaitingView {
            what: "web-bbbb0003 to become healthy: GET /health answers 503".to_owned(),
            since_ms: 42_000,
            left_ms: Some(18_000),
            then: Some("the rollout is given up and rolled back".to_owned()),
        }],
        blocked: vec![BlockedView {
            what: "the switch to green".to_owned(),
            rule: "GreenProvenBeforeSwitch".to_owned(),
            fact: "1 of 3 greens is healthy, seen 0.4s ago".to_owned(),
        }],
        instances,
        paused: None,
        gate: None,
        emergency: None,
        promoted: None,
        turned_by: None,
        canary: false,
        gap: None,
    }
}

/// The same rollout after it went back.
pub(crate) fn rolled_back() -> RolloutView {
    RolloutView {
        phase: "rolled_back".to_owned(),
        ended: true,
        phase_ms: 300_000,
        total_ms: 65_000,
        reason: Some("web-bbbb0003 was not healthy within 60s: GET /health answers 503".to_owned()),
        waiting: Vec::new(),
        blocked: Vec::new(),
        ..rollout()
    }
}

/// A fleet in the middle of that rollout.
pub(crate) fn fleet() -> FleetView {
    let rollout = rollout();
    FleetView {
        name: "web".to_owned(),
        image: Some("web@1.0".to_owned()),
        image_applied: Some("web@2.0".to_owned()),
        serving: 2,
        wanted: 2,
        deleting: false,
        freeze: None,
        pin: None,
        kind: Some("service".to_owned()),
        window: None,
        waiting: rollout.waiting.clone(),
        blocked: rollout.blocked.clone(),
        instances: rollout.instances.clone(),
        rollout: Some(rollout),
    }
}

/// A fleet that nobody needs to look at.
pub(crate) fn well() -> FleetView {
    FleetView {
        name: "client".to_owned(),
        image: Some("client@1.0".to_owned()),
        image_applied: Some("client@1.0".to_owned()),
        serving: 1,
        wanted: 1,
        deleting: false,
        freeze: None,
        pin: None,
        kind: Some("service".to_owned()),
        window: None,
        rollout: None,
        waiting: Vec::new(),
        blocked: Vec::new(),
        instances: vec![instance("client-cccc0001", "client@1.0", None, "healthy")],
    }
}

/// A fleet that lost more machines than are named, by itself.
pub(crate) fn broken() -> FleetView {
    let lost = (1..=6).map(|number| {
        let mut lost = instance(&format!("api-dddd000{number}"), "api@3.1", None, "lost");
        "no word on the path for 32s, and its machine is absent".clone_into(&mut lost.text);
        lost.report = Some(ReportView {
            health: "healthy".to_owned(),
            ..report()
        });
        lost.report_age_ms = Some(32_000);
        lost
    });
    FleetView {
        name: "api".to_owned(),
        serving: 4,
        wanted: 10,
        instances: lost.collect(),
        image: Some("api@3.1".to_owned()),
        image_applied: Some("api@3.1".to_owned()),
        ..well()
    }
}

/// An environment with these fleets.
pub(crate) fn status(fleets: Vec<FleetView>) -> StatusView {
    StatusView {
        environment: "prod".to_owned(),
        wall_ms: NOW_MS,
        epoch: 7,
        up_ms: 11_520_000,
        held: None,
        recovering: None,
        notices: Vec::new(),
        freeze: None,
        lost_zones: Vec::new(),
        fleets,
    }
}

/// What somebody ordered half an hour before that.
pub(crate) fn order() -> OrderView {
    OrderView {
        by: "alice".to_owned(),
        reason: "it loses sessions under load".to_owned(),
        wall_ms: NOW_MS - 1_800_000,
    }
}

/// The plan of that rollout.
pub(crate) fn plan() -> PlanView {
    let step = |instance: Option<&str>, action: &str, reason: &str| PlanStepView {
        wave: 1,
        instance: instance.map(str::to_owned),
        action: action.to_owned(),
        reason: reason.to_owned(),
    };
    let way = |phase: &str, text: &str| WayBackView {
        phase: phase.to_owned(),
        text: text.to_owned(),
    };
    PlanView {
        environment: "prod".to_owned(),
        fleet: "web".to_owned(),
        plan: "p-3f9a2c11".to_owned(),
        from: Some("web@1.0".to_owned()),
        to: "web@2.0".to_owned(),
        steps: vec![
            step(
                None,
                "create",
                "takes over from web@1.0; 2 of them in this wave",
            ),
            step(Some("web-aaaa0001"), "replace", "its image is web@1.0"),
            step(Some("web-aaaa0002"), "replace", "its image is web@1.0"),
        ],
        peak_extra: 2,
        waves: 1,
        duration_min_ms: 95_000,
        duration_max_ms: 1_510_000,
        ways_back: vec![
            way("provisioning", "green is deleted; no client ever saw it"),
            way(
                "baking",
                "blue is warm and takes over again within a second",
            ),
            way("rolling_back", "it is going back already"),
        ],
        nothing: None,
        remarks: Vec::new(),
        next: Some("calvin rollout start web web@2.0 --plan p-3f9a2c11".to_owned()),
    }
}

/// A few lines of the history over midnight.
pub(crate) fn history() -> Vec<HistoryLineView> {
    let line = |number: u64, wall_ms: u64, who: &str, instance: Option<&str>, text: &str| {
        HistoryLineView {
            number,
            wall_ms,
            who: who.to_owned(),
            kind: "phase".to_owned(),
            fleet: Some("web".to_owned()),
            instance: instance.map(str::to_owned),
            text: text.to_owned(),
            hash: "00".to_owned(),
        }
    };
    vec![
        line(
            41,
            1_795_391_990_000,
            "alice",
            None,
            "rollout web-7 from web@1.0 to web@2.0 started",
        ),
        line(
            42,
            1_795_391_991_000,
            "planner",
            Some("web-bbbb0001"),
            "intended, from web@2.0",
        ),
        line(
            43,
            1_795_392_010_000,
            "planner",
            Some("web-bbbb0001"),
            "web-bbbb0001 is healthy for the first time, 19s after it was made; a long line is \
             wrapped beside its time",
        ),
    ]
}

/// What one fleet file would do: good, and with an image that turns bad.
pub(crate) fn forecasts() -> ForecastsView {
    let moment = |at_ms, phase: &str, serving, not_answering, old, new| MomentView {
        at_ms,
        phase: Some(phase.to_owned()),
        serving,
        not_answering,
        old,
        new,
    };
    let phase = |phase: &str, ms| PhaseTimeView {
        phase: phase.to_owned(),
        ms,
    };
    let good = FleetForecastView {
        fleet: "web".to_owned(),
        count: 6,
        takes_ms: 720_000,
        phases: vec![phase("provisioning", 40_000), phase("baking", 680_000)],
        waves: 1,
        least_serving: 6,
        gap_ms: 0,
        most_machines: 12,
        noticed_after_ms: None,
        back_after_ms: None,
        on_new_instance_ms: 4_080_000,
        not_answering_instance_ms: 0,
        timeline: vec![
            moment(0, "provisioning", 6, 0, 6, 0),
            moment(40_000, "switching", 6, 0, 6, 6),
            moment(41_000, "baking", 6, 0, 6, 6),
        ],
    };
    let bad = FleetForecastView {
        takes_ms: 90_000,
        phases: vec![phase("provisioning", 40_000), phase("rolling_back", 20_000)],
        least_serving: 0,
        gap_ms: 3_000,
        noticed_after_ms: Some(12_000),
        back_after_ms: Some(1_000),
        not_answering_instance_ms: 18_000,
        timeline: vec![
            moment(0, "provisioning", 6, 0, 6, 0),
            moment(60_000, "settling", 0, 6, 6, 6),
            moment(63_000, "rolling_back", 6, 0, 6, 6),
        ],
        ..good.clone()
    };
    let forecast = |turnout, fleet| ForecastView {
        turnout,
        ended: true,
        fleets: vec![fleet],
        answers: Vec::new(),
        violations: Vec::new(),
    };
    let mut later = forecast("bad_once_done", bad.clone());
    later.answers.push(AnswerView {
        at_ms: 75_000,
        text: "fleet web is repaired again; its guards do not hold for 10m (looked at)".to_owned(),
    });
    ForecastsView {
        machine_takes_ms: 30_000,
        in_flight: Some(50),
        limit_ms: 86_400_000,
        images: vec!["web@1.4.0".to_owned()],
        turnouts: vec![
            forecast("good", good),
            forecast("bad_once_active", bad),
            later,
        ],
    }
}

/// Many seeds, one of which broke a rule.
pub(crate) fn seeds() -> SeedsView {
    let rule = "NothingLeakedOnceQuiet".to_owned();
    let text = "records [], machines [web-0spry5t0]".to_owned();
    SeedsView {
        seeds: 1_000,
        broken: 1,
        instances: 6,
        faults: vec!["loss", "delay", "cut", "agent-crash"],
        took_ms: 8_200,
        seeds_per_second: 121,
        threads: 2,
        simulated_ms: 128_000_000,
        coordinator_runs: 9_000,
        passes: 316_000,
        happened: 84_000,
        failures: vec![ViolationView {
            seed: Some(755),
            at_ms: 110_020,
            rule: rule.clone(),
            text: text.clone(),
        }],
        shortest: Some(ShortestView {
            seed: 755,
            rule,
            text,
            trace: "      0.000 epoch 1\n     12.520 BROKEN NothingLeakedOnceQuiet: x\n".to_owned(),
            command: Some("calvin simulate --seed 755 --instances 1 --faults cut".to_owned()),
            tries: 212,
        }),
    }
}

/// What a coordinator on a restored backup has found.
pub(crate) fn recovery() -> RecoveryView {
    let finding =
        |instance: Option<&str>, verdict: &str, found: &str, then: &str, blocks| FindingView {
            fleet: "web".to_owned(),
            instance: instance.map(str::to_owned),
            verdict: verdict.to_owned(),
            found: found.to_owned(),
            then: then.to_owned(),
            blocks,
        };
    RecoveryView {
        environment: "prod".to_owned(),
        reason: Some("its store was adopted".to_owned()),
        since_wall_ms: 1_795_426_900_000,
        wall_ms: 1_795_426_990_000,
        plan: Some("0f3a9c0012345678".to_owned()),
        epoch_seen: 7,
        epoch_next: 1_007,
        findings: vec![
            finding(
                None,
                "change",
                "web@1.0 is on record, web@2.0 serves",
                "web@2.0 is its image from then on",
                false,
            ),
            finding(
                Some("web-aaaa0001"),
                "adopt",
                "serves web@2.0, and has no record",
                "it is taken into the fleet as it serves",
                false,
            ),
            finding(
                Some("web-bbbb0002"),
                "unknown_image",
                "serves web@3.0, which is not recorded here",
                "it blocks the plan: calvin image add DIRECTORY",
                true,
            ),
        ],
        waits: vec!["provider process has not listed its machines".to_owned()],
    }
}

/// A backup in a file that others may read.
pub(crate) fn backup() -> BackupView {
    BackupView {
        file: "prod.backup".to_owned(),
        bytes: 40_000,
        environment: "prod".to_owned(),
        made_by: "calvin 0.1.0".to_owned(),
        wall_ms: 1_795_426_900_000,
        age_ms: 3_600_000,
        epoch: Some(7),
        fleets: vec![BackedUpFleetView {
            name: "web".to_owned(),
            image: Some("web@1.0".to_owned()),
            instances: 5,
            rollout: Some("web-4".to_owned()),
        }],
        history_lines: 210,
        images: 2,
        operators: 1,
        cas: 1,
        exposed: true,
    }
}
