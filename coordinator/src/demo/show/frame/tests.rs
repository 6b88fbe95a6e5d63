//! The picture of a rollout under way, as a terminal without colours shows it.

use std::sync::Arc;

use calvin_proto::wire::{Report, StatusReply};

use super::*;
use crate::demo::{
    show::{ActState, Verdict, terminal::Colours},
    workload::load::Counted,
};

const CANVAS: Canvas = Canvas {
    columns: 80,
    rows: 24,
    colours: Colours::Off,
};

fn instance(id: &str, set: &str, catalogue: &str, health: Health) -> InstanceStatus {
    InstanceStatus {
        id: id.to_owned(),
        image: if set == "green" { "web@4.0" } else { "web@2.0" }.to_owned(),
        set: set.to_owned(),
        catalogue: catalogue.to_owned(),
        class: "serving".to_owned(),
        report: Some(Report {
            health: health.into(),
            ..Report::default()
        }),
        ..InstanceStatus::default()
    }
}

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.coordinator_up = true;
    "4.0 is healthy until it serves; 2.0 stands by, warm".clone_into(&mut scene.sentence);
    scene.acts[0] = ActState::Ended(Verdict {
        as_told: true,
        text: "1.0 → 2.0 replaced blue-green".to_owned(),
        requests: 3_812,
        failed: 0,
        seconds: 8.24,
    });
    scene.acts[1] = ActState::Playing {
        since: scene.started,
        requests: 3_812,
        failed: 0,
    };
    let mut instances = Vec::new();
    for index in 0..5 {
        let blue = format!("web-aaaaaaa{}", index + 2);
        instances.push(instance(&blue, "blue", "standby", Health::Healthy));
        let green = format!("web-bbbbbbb{}", index + 2);
        instances.push(instance(&green, "green", "active", Health::Unhealthy));
    }
    let web = FleetStatus {
        name: WEB_FLEET.to_owned(),
        instances,
        rollout: Some(RolloutStatus {
            id: "web-4".to_owned(),
            phase: "baking".to_owned(),
            ..RolloutStatus::default()
        }),
        ..FleetStatus::default()
    };
    scene.status = Some(Arc::new(StatusReply {
        epoch: 7,
        fleets: vec![web],
        ..StatusReply::default()
    }));
    for round in 1..=80_u64 {
        scene.traffic.take(Counted {
            requests: 3_800 + round * 100,
            failed: round.saturating_sub(70),
            lookups: 40,
            by_version: [
                ("2.0".to_owned(), round * 30),
                ("4.0".to_owned(), round * 10),
            ]
            .into(),
            ..Counted::default()
        });
    }
    scene
}

#[test]
fn the_picture_fits_a_terminal_of_80_by_24_and_leaves_its_last_row_free() {
    let lines = picture(&scene(), CANVAS);
    assert!(lines.len() < CANVAS.rows, "{}", lines.join("\n"));
    for line in &lines {
        assert!(line.chars().count() <= CANVAS.columns, "{line}");
        assert!(!line.contains('\x1b'), "{line}");
    }
}

#[test]
fn both_sets_stand_side_by_side_with_health_and_place_in_the_catalogue() {
    let text = picture(&scene(), CANVAS).join("\n");
    let row = text
        .lines()
        .find(|line| line.contains("web-aaaaaaa2"))
        .unwrap();
    assert!(
        row.contains("● web-aaaaaaa2") && row.contains("standby"),
        "{row}"
    );
    assert!(
        row.contains("✗ web-bbbbbbb2") && row.contains("active"),
        "{row}"
    );
    let heads = text.lines().find(|line| line.contains("BLUE")).unwrap();
    assert!(
        heads.contains("web@2.0") && heads.contains("GREEN  web@4.0"),
        "{heads}"
    );
}

#[test]
fn an_act_under_way_shows_what_failed_in_it_alone() {
    let text = picture(&scene(), CANVAS).join("\n");
    assert!(text.contains("✓ 1.0 → 2.0 replaced blue-green"), "{text}");
    let act = text
        .lines()
        .find(|line| line.contains(ACTS[1].what))
        .unwrap();
    assert!(
        act.contains("7988 req") && act.contains("10 failed"),
        "{act}"
    );
    assert!(text.contains("400 requests/s"), "{text}");
}

#[test]
fn a_dead_coordinator_is_called_dead() {
    let mut scene = scene();
    scene.coordinator_up = false;
    assert!(picture(&scene, CANVAS)[0].contains("coordinator is dead"));
    scene.status = None;
    assert!(picture(&scene, CANVAS)[0].contains("coordinator starts"));
}

#[test]
fn what_comes_from_elsewhere_cannot_move_the_cursor() {
    let mut scene = scene();
    "\x1b[2J\r\nboo".clone_into(&mut scene.sentence);
    assert!(
        picture(&scene, CANVAS)
            .iter()
            .all(|line| !line.contains(['\x1b', '\r', '\n']))
    );
}

#[test]
fn the_share_of_each_version_in_the_newest_answers_is_a_bar() {
    let text = picture(&scene(), CANVAS).join("\n");
    assert!(
        text.contains("2.0 75 %") && text.contains("4.0 25 %"),
        "{text}"
    );
}
