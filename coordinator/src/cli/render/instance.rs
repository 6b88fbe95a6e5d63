//! Instances: the dots of a set, the table of a fleet, and one instance with all that is known.

use super::{time::span, wait};
use crate::cli::{
    style::{Canvas, Tone, tame},
    table::{Cell, Table},
    view::{InstanceView, ReportView},
};

/// Columns of the labels of `instance show`.
const LABEL: usize = 14;

/// How a class is marked: a dot for a set, and its tone.
pub(crate) fn mark(class: &str) -> (char, Tone) {
    match class {
        "healthy" => ('●', Tone::Good),
        "starting" => ('○', Tone::Dim),
        "unhealthy" => ('✗', Tone::Bad),
        "lost" => ('✗', Tone::Bad),
        "unmanaged" => ('◐', Tone::Warn),
        "leaving" => ('◌', Tone::Dim),
        // `unknown`, and what a newer coordinator may say.
        _ => ('?', Tone::Warn),
    }
}

/// Whether a person should look at it.
pub(crate) fn in_trouble(instance: &InstanceView) -> bool {
    instance.alarm.is_some()
        || instance.fault.is_some()
        || consul_fault(instance).is_some()
        || !matches!(instance.class.as_str(), "healthy" | "starting" | "leaving")
}

/// What its agent says is wrong with its registration in Consul.
fn consul_fault(instance: &InstanceView) -> Option<&String> {
    instance.report.as_ref()?.consul.as_ref()?.fault.as_ref()
}

/// What is wrong with it and since when, one sentence.
pub(crate) fn trouble(instance: &InstanceView) -> String {
    let mut text = format!("{} is {}", tame(&instance.id), tame(&instance.class));
    if let (Some(report), Some(age_ms)) = (&instance.report, instance.report_age_ms) {
        if instance.class == report.health {
            text.push_str(&format!(" for {}", span(report.health_for_ms + age_ms)));
        } else {
            text.push_str(&format!(", last heard {} ago", span(age_ms)));
        }
    }
    for cause in [
        Some(&instance.text),
        instance.fault.as_ref(),
        consul_fault(instance),
        instance.alarm.as_ref(),
    ] {
        if let Some(cause) = cause.filter(|cause| !cause.is_empty()) {
            text.push_str(": ");
            text.push_str(&tame(cause));
        }
    }
    text
}

/// The table of instances.
pub(crate) fn table(canvas: Canvas, indent: usize, instances: &[InstanceView]) -> String {
    let headings = ["INSTANCE", "IMAGE", "ADDRESS", "FOUND AS", "STATE", "WHY"];
    let mut table = Table::new(indent, headings);
    for instance in instances {
        let (_, tone) = mark(&instance.class);
        table.row([
            instance.id.as_str().into(),
            instance.image.as_str().into(),
            instance.address.as_deref().unwrap_or("-").into(),
            instance.catalogue.as_deref().unwrap_or("-").into(),
            Cell::new(tone, instance.class.as_str()),
            if in_trouble(instance) || instance.class != "healthy" {
                tame(&why(instance)).into()
            } else {
                // That it is healthy says the column before.
                "".into()
            },
        ]);
    }
    table.render(canvas)
}

/// Every reason that is known, one sentence.
pub(crate) fn why(instance: &InstanceView) -> String {
    let parts = [
        Some(&instance.text),
        instance.fault.as_ref(),
        consul_fault(instance),
        instance.alarm.as_ref(),
    ];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    parts.join("; ")
}

/// One instance with all that is observed of it.
pub(crate) fn detail(instance: &InstanceView, canvas: Canvas) -> String {
    let (_, tone) = mark(&instance.class);
    let mut text = format!(
        "{}  {}\n",
        canvas.paint.tone(Tone::Bold, &instance.id),
        canvas.paint.tone(tone, &instance.class)
    );
    let line = |label: &str, tone: Tone, value: &str| {
        canvas.labelled(LABEL, &format!("  {label}"), tone, &tame(value))
    };
    let set = instance
        .set
        .as_ref()
        .map_or(String::new(), |set| format!(", {set} in its rollout"));
    text.push_str(&line("why", Tone::Dim, &instance.text));
    if let Some(waits) = &instance.waits {
        text.push_str(&line("waits for", Tone::Dim, &wait::sentence(waits)));
    }
    if let Some(rests) = instance.rests_on.as_ref().and_then(wait::rests_on) {
        text.push_str(&line("rests on", Tone::Dim, &rests));
    }
    if let Some(order) = &instance.protected {
        let said = format!("by {}: {}", order.by, order.reason);
        text.push_str(&line("protected", Tone::Warn, &said));
    }
    if let Some(alarm) = &instance.alarm {
        text.push_str(&line("ALARM", Tone::Bad, alarm));
    }
    if let Some(fault) = &instance.fault {
        text.push_str(&line("fault", Tone::Bad, fault));
    }
    text.push_str(&line(
        "fleet",
        Tone::Dim,
        &format!("{}{set}", instance.fleet),
    ));
    text.push_str(&line("image", Tone::Dim, &instance.image));
    if let Some(zone) = &instance.zone {
        text.push_str(&line("zone", Tone::Dim, zone));
    }
    let address = instance.address.as_deref().unwrap_or("not known yet");
    text.push_str(&line("address", Tone::Dim, address));
    text.push_str(&line(
        "made",
        Tone::Dim,
        &format!("{} ago", span(instance.age_ms)),
    ));
    let machine = instance
        .machine
        .as_deref()
        .unwrap_or("the provider has not said");
    text.push_str(&line("machine", Tone::Dim, machine));
    let found = instance
        .catalogue
        .as_deref()
        .unwrap_or("not in the catalogue");
    text.push_str(&line("found as", Tone::Dim, found));
    let role = instance.role.as_deref().unwrap_or("nothing yet");
    let told = format!("{role} (generation {})", instance.generation);
    text.push_str(&line("told to be", Tone::Dim, &told));
    if let Some(probe) = &instance.probe {
        text.push_str(&line("probe", Tone::Dim, probe));
    }
    match (&instance.report, instance.report_age_ms) {
        (Some(report), Some(age_ms)) => text.push_str(&report_lines(report, age_ms, &line)),
        _ => text.push_str(&line(
            "agent",
            Tone::Dim,
            "no report in this run of the coordinator",
        )),
    }
    text
}

fn report_lines(
    report: &ReportView,
    age_ms: u64,
    line: &impl Fn(&str, Tone, &str) -> String,
) -> String {
    let mut text = line(
        "agent",
        Tone::Dim,
        &format!(
            "says {} for {}, {}; reported {} ago",
            report.health,
            span(report.health_for_ms),
            flaps(report.flaps),
            span(age_ms)
        ),
    );
    for failing in &report.failing {
        text.push_str(&line("failing", Tone::Bad, failing));
    }
    let applied = format!(
        "{} (generation {})",
        report.role_applied, report.generation_applied
    );
    text.push_str(&line("is", Tone::Dim, &applied));
    text.push_str(&line(
        "workload",
        Tone::Dim,
        &report.workload.replace('_', " "),
    ));
    let names = format!(
        "number {} of epoch {}",
        report.names_number, report.names_epoch
    );
    text.push_str(&line("names", Tone::Dim, &names));
    if let Some(unsaved) = &report.names_unsaved {
        let said = format!("served, not on disk: {unsaved}");
        text.push_str(&line("names", Tone::Warn, &said));
    }
    if let Some(consul) = &report.consul {
        let found = match consul.registered.as_deref() {
            Some(role) => format!("registered as {role}"),
            None => "not registered yet".to_owned(),
        };
        match &consul.fault {
            Some(fault) => text.push_str(&line("consul", Tone::Bad, &format!("{found}: {fault}"))),
            None => text.push_str(&line("consul", Tone::Dim, &found)),
        }
    }
    if let Some(connections) = &report.connections {
        let mut said = connections.count.to_string();
        if !connections.peers.is_empty() {
            said.push_str(&format!(": {}", connections.peers.join(", ")));
        }
        text.push_str(&line("connections", Tone::Dim, &said));
    }
    if let Some(drain) = &report.drain {
        let said = if drain.done {
            "done".to_owned()
        } else {
            format!("{} left", span(drain.time_left_ms))
        };
        text.push_str(&line("drain", Tone::Dim, &said));
    }
    if let Some(offset) = report.clock_offset_ms {
        text.push_str(&line(
            "clock",
            Tone::Dim,
            &format!("{offset:+} ms from the coordinator's"),
        ));
    }
    if let Some(refused) = &report.refused {
        text.push_str(&line("refused", Tone::Warn, refused));
    }
    text.push_str(&line("boot", Tone::Dim, &report.boot_id));
    text
}

fn flaps(flaps: u64) -> String {
    match flaps {
        0 => "no flap".to_owned(),
        1 => "1 flap".to_owned(),
        flaps => format!("{flaps} flaps"),
    }
}
