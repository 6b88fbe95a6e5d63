//! The golden texts of every view, at 80 columns and without colour.

use jiff::tz::TimeZone;

use super::{
    admin, change, explain, fleet, history, instance, live, plan, recovery, samples, simulate,
    status,
};
use crate::cli::{
    golden::assert_text,
    style::{Canvas, Paint},
    view::{
        CheckView, ContextView, DoctorView, FleetView, GapView, ImageView, OperatorView,
        RecoveryView, ShownFleetView,
    },
};

const CANVAS: Canvas = Canvas {
    width: 80,
    paint: Paint::Plain,
};

/// Compares with the golden text, and with the promise that nothing is wider than a terminal.
fn assert_view(name: &str, text: &str) {
    for line in text.lines() {
        assert!(
            line.chars().count() <= 80,
            "{name} is wider than 80 columns: {line}"
        );
        assert_eq!(line, line.trim_end(), "{name} has blanks at a line's end");
    }
    assert_text(name, text);
}

#[test]
fn status_shows_what_is_wrong_since_when_and_what_to_type() {
    let mut view = samples::status(vec![samples::broken(), samples::fleet(), samples::well()]);
    view.notices
        .push("machine api-zzzz0009 has our tag, and nobody intended it".to_owned());
    assert_view("status_trouble", &status::status(&view, CANVAS));
}

#[test]
fn status_of_what_is_well_takes_a_line_for_each_fleet() {
    let text = status::status(&samples::status(vec![samples::well()]), CANVAS);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_view("status_well", &text);
}

#[test]
fn status_says_first_that_the_coordinator_is_held() {
    let mut view = samples::status(vec![samples::well()]);
    view.held = Some("its store cannot be written: no space left on device".to_owned());
    assert_view("status_held", &status::status(&view, CANVAS));
}

#[test]
fn status_says_first_that_the_coordinator_recovers_and_what_to_type() {
    let mut view = samples::status(vec![samples::well()]);
    view.recovering =
        Some("its store was adopted: it was made as the file with inode 7".to_owned());
    view.held = Some("it recovers".to_owned());
    assert_view("status_recovering", &status::status(&view, CANVAS));
}

#[test]
fn a_recovery_plan_shows_what_blocks_it_first_and_what_to_type_last() {
    let view = samples::recovery();
    assert_view("recovery", &recovery::recovery(&view, CANVAS));
    let none = RecoveryView {
        reason: None,
        ..view
    };
    let text = recovery::recovery(&none, CANVAS);
    assert!(text.contains("nothing to approve"), "{text}");
}

#[test]
fn a_backup_says_what_it_holds_and_that_others_may_read_it() {
    assert_view("backup", &recovery::backup(&samples::backup(), CANVAS));
}

#[test]
fn status_after_a_rollback_asks_for_a_look_until_the_file_names_what_serves() {
    let mut fleet = samples::fleet();
    fleet.rollout = Some(samples::rolled_back());
    fleet
        .instances
        .retain(|instance| instance.set.as_deref() == Some("blue"));
    (fleet.waiting, fleet.blocked) = (Vec::new(), Vec::new());
    let text = status::status(&samples::status(vec![fleet.clone()]), CANVAS);
    assert_view("status_rolled_back", &text);
    fleet.image_applied.clone_from(&fleet.image);
    let text = status::status(&samples::status(vec![fleet]), CANVAS);
    assert!(text.contains("all well"), "{text}");
}

#[test]
fn what_a_person_turned_around_is_not_shown_as_wrong() {
    let mut fleet = samples::fleet();
    fleet.blocked.clear();
    fleet.instances.retain(|one| one.class == "healthy");
    let mut rollout = samples::rollout();
    "rolling_back".clone_into(&mut rollout.phase);
    rollout.reason = Some("alice: the wrong day".to_owned());
    rollout.turned_by = Some("alice".to_owned());
    fleet.rollout = Some(rollout);
    let text = status::status(&samples::status(vec![fleet.clone()]), CANVAS);
    assert!(
        !text.contains("wrong   ") && text.contains("all well"),
        "{text}"
    );
    assert_view("status_turned_by_a_person", &text);
    fleet.rollout = Some(crate::cli::view::RolloutView {
        turned_by: Some("alice".to_owned()),
        ..samples::rolled_back()
    });
    fleet.waiting.clear();
    let text = status::status(&samples::status(vec![fleet]), CANVAS);
    assert!(text.contains("\nok  ") && !text.contains("wrong"), "{text}");
}

#[test]
fn status_shows_what_people_decided_and_what_ends_it() {
    let order = samples::order;
    let freeze = |scope: &str, until_wall_ms| crate::cli::view::FreezeView {
        scope: scope.to_owned(),
        until_wall_ms,
        order: Some(order()),
    };
    let mut asks = samples::fleet();
    (asks.waiting, asks.blocked) = (Vec::new(), Vec::new());
    asks.instances.retain(|one| one.class == "healthy");
    asks.instances[0].protected = Some(order());
    let mut rollout = samples::rollout();
    "awaiting_switch".clone_into(&mut rollout.phase);
    rollout.gate = Some(crate::cli::view::GateView {
        gate: "switch".to_owned(),
        needed: 2,
        approved: vec![samples::order()],
        approver: "other".to_owned(),
        left_ms: 7_200_000,
    });
    rollout.paused = Some(crate::cli::view::PauseView {
        order: Some(order()),
        left_ms: 60_000,
    });
    rollout.emergency = Some(order());
    asks.rollout = Some(rollout.clone());
    let mut held = samples::well();
    held.freeze = Some(freeze("all", Some(samples::NOW_MS + 600_000)));
    held.pin = Some(order());
    let mut view = samples::status(vec![asks, held]);
    view.freeze = Some(freeze("new", None));
    view.lost_zones = vec![crate::cli::view::LostZoneView {
        zone: "b".to_owned(),
        order: Some(order()),
    }];
    assert_view("status_people", &status::status(&view, CANVAS));
    assert_view(
        "rollout_live_people",
        &live::frame("prod", &rollout, CANVAS, 24),
    );
}

#[test]
fn an_empty_environment_says_how_to_begin() {
    let text = status::status(&samples::status(Vec::new()), CANVAS);
    assert!(text.contains("calvin fleet apply"), "{text}");
}

#[test]
fn fleets_are_listed_with_their_rollouts() {
    let fleets = [samples::broken(), samples::fleet(), samples::well()];
    assert_view("fleet_list", &fleet::table(&fleets, CANVAS));
    assert_view("rollout_status", &fleet::rollouts(&fleets, CANVAS));
}

#[test]
fn a_fleet_is_shown_with_its_instances_and_its_file() {
    let shown = ShownFleetView {
        status: Some(samples::fleet()),
        toml: "name = \"web\"\nimage = \"web@2.0\"\ncount = 2\n".to_owned(),
    };
    assert_view("fleet_show", &fleet::detail(&shown, CANVAS));
}

#[test]
fn an_instance_is_shown_with_all_that_is_observed_of_it() {
    let rollout = samples::rollout();
    let unhealthy = rollout.instances.last().unwrap();
    assert_view("instance_show", &instance::detail(unhealthy, CANVAS));
}

#[test]
fn a_plan_has_reasons_costs_ways_back_and_the_command_that_starts_it() {
    assert_view("rollout_plan", &plan::plan(&samples::plan(), CANVAS));
}

#[test]
fn a_plan_says_what_is_in_its_way() {
    let mut view = samples::plan();
    view.remarks = vec![
        "rollout 7 runs, in soaking".to_owned(),
        "web@2.0 serves already".to_owned(),
    ];
    assert_view("rollout_plan_in_the_way", &plan::plan(&view, CANVAS));
}

#[test]
fn a_plan_without_work_says_why() {
    let mut view = samples::plan();
    view.nothing = Some("every instance is of web@2.0".to_owned());
    let text = plan::plan(&view, CANVAS);
    assert!(
        text.contains("every instance is of web@2.0") && !text.contains("--plan"),
        "{text}"
    );
}

#[test]
fn a_coordinator_that_began_just_now_says_that_it_has_not_heard_of_everything() {
    let mut view = samples::status(vec![samples::broken()]);
    view.up_ms = 200;
    let text = status::status(&view, CANVAS);
    assert!(text.contains("has not heard of everything yet"), "{text}");
    view.up_ms = 11_000;
    let text = status::status(&view, CANVAS);
    assert!(!text.contains("has not heard"), "{text}");
    let mut well = samples::status(vec![samples::well()]);
    well.up_ms = 200;
    let text = status::status(&well, CANVAS);
    assert!(!text.contains("has not heard"), "{text}");
}

#[test]
fn explain_tells_what_it_waits_for_and_which_rule_holds_it() {
    let text = explain::explain(
        &samples::fleet(),
        &samples::history(),
        samples::NOW_MS,
        &TimeZone::UTC,
        CANVAS,
    );
    assert_view("rollout_explain", &text);
}

#[test]
fn an_exclusive_fleet_shows_its_kind_and_how_long_nobody_was_active() {
    let gap = |length_ms, over| Some(GapView { length_ms, over });
    let mut rollout = samples::rollout();
    "switching".clone_into(&mut rollout.phase);
    (rollout.gap, rollout.instances) = (gap(3_400, false), Vec::new());
    rollout.waiting.truncate(1);
    rollout.blocked.clear();
    let exclusive = |rollout: &crate::cli::view::RolloutView| FleetView {
        kind: Some("exclusive".to_owned()),
        rollout: Some(rollout.clone()),
        ..samples::well()
    };
    let running = exclusive(&rollout);
    let mut ended = rollout.clone();
    "done".clone_into(&mut ended.phase);
    (ended.ended, ended.gap) = (true, gap(1_240, true));
    let over = FleetView {
        name: "ledger".to_owned(),
        ..exclusive(&ended)
    };
    let shown = samples::status(vec![running.clone(), over]);
    assert_view("status_exclusive", &status::status(&shown, CANVAS));
    let text = explain::explain(&running, &[], samples::NOW_MS, &TimeZone::UTC, CANVAS);
    assert_view("rollout_explain_exclusive", &text);
    let later = live::advanced(rollout, std::time::Duration::from_secs(2));
    let frame = live::frame("prod", &later, CANVAS, 24);
    assert!(frame.contains("nobody is active, for 5.4s"), "{frame}");
    let end = live::ending("prod", &ended, CANVAS);
    assert!(end.contains("nobody was active for 1.2s"), "{end}");
    let still = live::advanced(ended, std::time::Duration::from_secs(2));
    assert_eq!(still.gap.map(|gap| gap.length_ms), Some(1_240));
}

#[test]
fn explain_tells_why_it_went_back() {
    let rolled_back = FleetView {
        rollout: Some(samples::rolled_back()),
        ..samples::well()
    };
    let text = explain::explain(&rolled_back, &[], samples::NOW_MS, &TimeZone::UTC, CANVAS);
    assert_view("rollout_explain_rolled_back", &text);
}

#[test]
fn the_live_view_shows_both_sets_and_the_next_deadline() {
    let text = live::frame("prod", &samples::rollout(), CANVAS, 24);
    assert_view("rollout_live", &text);
    let short = live::frame("prod", &samples::rollout(), CANVAS, 3);
    assert_eq!(short.lines().count(), 3);
}

#[test]
fn a_picture_that_may_be_true_no_longer_says_so_above_itself() {
    let silent = std::time::Duration::from_millis(7_900);
    let said = live::last_heard(silent, CANVAS);
    assert_eq!(said, "last heard 7s ago; what follows is as of then\n");
}

#[test]
fn a_large_set_is_drawn_as_a_bar() {
    let mut rollout = samples::rollout();
    let green = rollout.instances[2].clone();
    rollout.instances.extend(std::iter::repeat_n(green, 97));
    let text = live::frame("prod", &rollout, CANVAS, 24);
    assert!(
        text.contains("█░") && text.contains("98 of 100 healthy"),
        "{text}"
    );
}

#[test]
fn a_pipe_is_told_the_same_as_long_as_nothing_of_note_changed() {
    let rollout = samples::rollout();
    let later = live::advanced(rollout.clone(), std::time::Duration::from_secs(5));
    assert_eq!(later.waiting[0].left_ms, Some(13_000));
    assert_eq!(live::line("prod", &rollout), live::line("prod", &later));
    assert_text("rollout_line", &live::line("prod", &rollout));
}

#[test]
fn the_end_says_which_image_serves_and_why() {
    let text = live::ending("prod", &samples::rolled_back(), CANVAS);
    assert_view("rollout_ending", &text);
}

#[test]
fn history_is_told_by_day_in_the_zone_of_the_reader() {
    assert_view(
        "history",
        &history::lines(&samples::history(), &TimeZone::UTC, CANVAS),
    );
}

#[test]
fn a_change_begins_with_the_environment() {
    let view = crate::cli::view::ChangeView {
        environment: "prod".to_owned(),
        lines: vec!["fleet web is to have 7 instances instead of 5".to_owned()],
        rollout: None,
        next: Some("calvin status web".to_owned()),
    };
    assert_view("change", &change::change(&view, CANVAS));
}

#[test]
fn records_are_listed() {
    let images = [ImageView {
        image: "web@2.0".to_owned(),
        digest: format!("sha256:{}", "ab".repeat(32)),
        location: "/srv/images/web-2.0".to_owned(),
        provider: "process".to_owned(),
        added_wall_ms: 1_795_426_990_000,
        added_by: "alice".to_owned(),
        instances: 5,
        veto: Some(samples::order()),
    }];
    assert_view(
        "image_list",
        &admin::images(&images, &TimeZone::UTC, CANVAS),
    );
    let operators = [OperatorView {
        name: "alice".to_owned(),
        role: "operator".to_owned(),
        added_wall_ms: 1_795_426_990_000,
        expires_wall_ms: 1_803_202_990_000,
        revoked: false,
    }];
    assert_view(
        "operator_list",
        &admin::operators(&operators, &TimeZone::UTC, CANVAS),
    );
    let contexts = [ContextView {
        name: "prod".to_owned(),
        current: true,
        environment: Some("prod".to_owned()),
        address: Some("10.0.0.5:7443".to_owned()),
        socket: None,
        ca: None,
        certificate: None,
        key: None,
        expires_wall_ms: Some(1_803_202_990_000),
    }];
    assert_view(
        "context_list",
        &admin::contexts(&contexts, &TimeZone::UTC, CANVAS),
    );
}

#[test]
fn doctor_shows_what_to_do_about_each_failed_check() {
    let check = |name: &str, ok: bool, advice: Option<&str>| CheckView {
        side: "here".to_owned(),
        name: name.to_owned(),
        ok,
        found: "what was found".to_owned(),
        advice: advice.map(str::to_owned),
    };
    let checks = vec![
        check("private key", false, Some("chmod 600 key.pem")),
        check("clock", true, None),
    ];
    let view = DoctorView { ok: false, checks };
    assert_view("doctor", &admin::doctor(&view, CANVAS));
}

#[test]
fn a_forecast_is_a_table_and_a_picture_of_time() {
    assert_view(
        "simulate_files",
        &simulate::forecasts(&samples::forecasts(), CANVAS),
    );
}

#[test]
fn many_seeds_come_with_the_first_broken_rules_and_the_shortest_run() {
    let view = samples::seeds();
    assert_view("simulate_broken", &simulate::seeds(&view, CANVAS));
    let mut view = samples::seeds();
    (view.broken, view.shortest) = (0, None);
    view.failures.clear();
    assert_view("simulate_well", &simulate::seeds(&view, CANVAS));
}
