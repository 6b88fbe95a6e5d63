//! Views for the golden texts: a rollout in trouble, a fleet that is well, one that lost a machine.

use crate::cli::view::{
    BlockedView, FleetView, HistoryLineView, InstanceView, OrderView, PlanStepView, PlanView,
    ReportView, RolloutView, StatusView, WaitingView, WayBackView,
};

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
        wall_ms: 1_795_426_990_000,
        epoch: 7,
        up_ms: 11_520_000,
        held: None,
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
        wall_ms: 1_795_426_990_000 - 1_800_000,
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
