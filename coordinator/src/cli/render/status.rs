//! `calvin status`, the first thing typed at three in the morning: what is wrong, since when, what
//! happens next and when, and what to type. What is well takes one line.

use calvin_planner::phase::Phase;

use super::{
    instance, kind, orders,
    phase::{self, Standing},
    time::span,
    wait,
};
use crate::cli::{
    style::{Canvas, Tone, count, tame},
    view::{FleetView, InstanceView, RolloutView, StatusView},
};

/// Instances named where many have the same trouble; the rest is counted.
const NAMED: usize = 3;

/// From when on a coordinator has heard of all that there is: an agent connects again within ten
/// seconds at most.
const HEARD_ALL_MS: u64 = 10_000;

/// Columns of the label of a coordinator that recovers.
const RECOVERING: usize = 12;

/// How much a fleet needs a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// Nothing to do.
    Well,
    /// Something is under way, as it should be.
    Busy,
    /// A person should look, not at once.
    Look,
    /// Something is wrong now.
    Wrong,
}

impl Need {
    const fn mark(self) -> (&'static str, Tone) {
        match self {
            Self::Well => ("ok  ", Tone::Good),
            Self::Busy => ("busy", Tone::Blue),
            Self::Look => ("look", Tone::Warn),
            Self::Wrong => ("BAD ", Tone::Bad),
        }
    }
}

/// The state of everything, worst first as the coordinator sends it.
pub(crate) fn status(status: &StatusView, canvas: Canvas) -> String {
    let mut text = heading(status, canvas);
    if let Some(reason) = &status.recovering {
        let sentence = format!(
            "it decides, makes, deletes and tells nothing, because {}",
            tame(reason)
        );
        text.push_str(&canvas.labelled(RECOVERING, "RECOVERING", Tone::Bad, &sentence));
        for line in [
            "what runs goes on as it is, and is found under its names; it waits for a person",
            "type: calvin recover show",
        ] {
            text.push_str(&canvas.labelled(RECOVERING, "", Tone::Dim, line));
        }
    } else if let Some(held) = &status.held {
        let sentence = format!("the coordinator decides nothing: {}", tame(held));
        text.push_str(&canvas.labelled(6, "HELD", Tone::Bad, &sentence));
        text.push_str(&canvas.labelled(
            6,
            "",
            Tone::Dim,
            "what runs goes on as it is; type: calvin doctor",
        ));
    }
    if let Some(freeze) = &status.freeze {
        let sentence = format!("everything: {}", orders::freeze(freeze, status.wall_ms));
        text.push_str(&canvas.labelled(7, "frozen", Tone::Warn, &sentence));
    }
    for lost in &status.lost_zones {
        let by = lost.order.as_ref().map_or_else(String::new, |order| {
            format!(", {}", orders::by(order, status.wall_ms))
        });
        let sentence = format!("zone {} is taken for lost{by}", tame(&lost.zone));
        text.push_str(&canvas.labelled(6, "look", Tone::Warn, &sentence));
        let type_ = format!("once it is back: calvin zone found {}", tame(&lost.zone));
        text.push_str(&canvas.labelled(6, "", Tone::Dim, &type_));
    }
    if status.up_ms < HEARD_ALL_MS && status.fleets.iter().any(|fleet| need(fleet) > Need::Busy) {
        let sentence = format!(
            "the coordinator began {} ago and has not heard of everything yet: ask again",
            span(status.up_ms)
        );
        text.push_str(&canvas.labelled(6, "look", Tone::Warn, &sentence));
    }
    for notice in &status.notices {
        text.push_str(&canvas.labelled(6, "look", Tone::Warn, &tame(notice)));
    }
    if status.recovering.is_some() {
        // Who serves is not judged meanwhile, and what is on record is the past.
        let names: Vec<String> = status.fleets.iter().map(|one| tame(&one.name)).collect();
        let names = match names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        text.push_str(&canvas.labelled(RECOVERING, "on record", Tone::Dim, &names));
        return text;
    }
    for fleet in &status.fleets {
        text.push_str(&fleet_lines(fleet, status.wall_ms, canvas));
    }
    if status.fleets.is_empty() {
        text.push_str("no fleet yet; make one with: calvin fleet apply FLEET.toml\n");
    }
    text
}

fn heading(status: &StatusView, canvas: Canvas) -> String {
    let needing = |wanted: Need| {
        status
            .fleets
            .iter()
            .filter(|fleet| need(fleet) == wanted)
            .count()
    };
    let (wrong, look) = (
        needing(Need::Wrong),
        needing(Need::Look) + status.notices.len(),
    );
    let (tone, verdict) = if status.recovering.is_some() {
        (Tone::Bad, "recovering".to_owned())
    } else if status.held.is_some() {
        (Tone::Bad, "held".to_owned())
    } else if wrong > 0 {
        (Tone::Bad, format!("{wrong} in trouble"))
    } else if look > 0 {
        (Tone::Warn, format!("{look} to look at"))
    } else {
        (Tone::Good, "all well".to_owned())
    };
    let verdict = canvas.paint.tone(tone, &verdict);
    format!(
        "{}  {}, {verdict}; coordinator up {} (epoch {})\n",
        canvas
            .paint
            .tone(Tone::Bold, &format!("[{}]", status.environment)),
        count(status.fleets.len(), "fleet"),
        span(status.up_ms),
        status.epoch
    )
}

/// One fleet: a line when it is well, and below it what is not.
fn fleet_lines(fleet: &FleetView, now_ms: u64, canvas: Canvas) -> String {
    let need = need(fleet);
    let (mark, tone) = need.mark();
    let mut text = format!(
        "{}  {}  {}\n",
        canvas.paint.tone(tone, mark),
        canvas.paint.tone(Tone::Bold, &fleet.name),
        summary(fleet)
    );
    for line in wrong(fleet) {
        text.push_str(&canvas.labelled(wait::LABEL, "  wrong", Tone::Bad, &line));
    }
    if let Some(rollout) = &fleet.rollout {
        if let (false, Some(_), Some(reason)) = (rollout.ended, &rollout.turned_by, &rollout.reason)
        {
            let sentence = format!("{} was turned around by {}", rollout.id, tame(reason));
            text.push_str(&canvas.labelled(wait::LABEL, "  why", Tone::Dim, &sentence));
        }
        text.push_str(&orders::of_rollout(rollout, canvas));
        text.push_str(&kind::gap_line(rollout, canvas));
    }
    text.push_str(&orders::of_fleet(fleet, now_ms, canvas));
    text.push_str(&wait::lines(canvas, &fleet.waiting, &fleet.blocked));
    if let Some(command) = to_type(fleet, need) {
        text.push_str(&canvas.labelled(wait::LABEL, "  type", Tone::Bold, &command));
    }
    text
}

/// `web@1.0 -> web@2.0, 5 of 5 serving, soaking for 12s`.
pub(crate) fn summary(fleet: &FleetView) -> String {
    let running = fleet.rollout.as_ref().filter(|rollout| !rollout.ended);
    let image = match running {
        Some(rollout) => images(rollout),
        None => fleet
            .image
            .clone()
            .unwrap_or_else(|| "no image yet".to_owned()),
    };
    let mut text = format!(
        "{image}{}, {} of {} serving",
        kind::note(fleet),
        fleet.serving,
        fleet.wanted
    );
    if fleet.deleting {
        text.push_str(", being deleted");
    }
    if let Some(rollout) = &fleet.rollout {
        let ago = span(rollout.phase_ms);
        let phase = phase::words(&rollout.phase);
        if rollout.ended {
            text.push_str(&format!(", {} {phase} {ago} ago", rollout.id));
        } else {
            text.push_str(&format!(", {phase} for {ago}"));
        }
    }
    text
}

/// `web@1.0 -> web@2.0`.
pub(crate) fn images(rollout: &RolloutView) -> String {
    match &rollout.from {
        Some(from) => format!("{from} -> {}", rollout.to),
        None => rollout.to.clone(),
    }
}

fn need(fleet: &FleetView) -> Need {
    let first = fleet.image.is_none();
    if troubled(fleet).next().is_some()
        || (fleet.serving < fleet.wanted && !first && !fleet.deleting)
    {
        return Need::Wrong;
    }
    // What a person turned around is as they want it.
    let standing = fleet
        .rollout
        .as_ref()
        .filter(|rollout| rollout.turned_by.is_none())
        .and_then(|rollout| phase::parse(&rollout.phase))
        .map(phase::standing);
    match standing {
        Some(Standing::GoingBack | Standing::Broken) => Need::Wrong,
        // Until the file names an image that serves, somebody must decide what comes next.
        Some(Standing::WentBack) if fleet.image_applied != fleet.image => Need::Look,
        Some(Standing::UnderWay | Standing::Well | Standing::WentBack) | None => {
            let running = fleet.rollout.as_ref().is_some_and(|rollout| !rollout.ended);
            let asks = fleet
                .rollout
                .as_ref()
                .is_some_and(|rollout| rollout.paused.is_some() || rollout.gate.is_some());
            if !fleet.blocked.is_empty() || asks {
                Need::Look
            } else if running || fleet.deleting {
                Need::Busy
            } else {
                Need::Well
            }
        }
    }
}

fn wrong(fleet: &FleetView) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(rollout) = &fleet.rollout
        && let Some(reason) = &rollout.reason
        && rollout.turned_by.is_none()
        && need(fleet) >= Need::Look
    {
        lines.push(format!(
            "{} to {}: {}",
            rollout.id,
            rollout.to,
            tame(reason)
        ));
    }
    // What is wrong with many is told once: forty lost machines are one sentence.
    let mut kinds: Vec<(String, Vec<&InstanceView>)> = Vec::new();
    for one in troubled(fleet) {
        let why = instance::why(one);
        match kinds
            .iter_mut()
            .find(|(known, same)| *known == why && same[0].class == one.class)
        {
            Some((_, same)) => same.push(one),
            None => kinds.push((why, vec![one])),
        }
    }
    for (why, same) in kinds {
        match same.as_slice() {
            [one] => lines.push(instance::trouble(one)),
            many => lines.push(trouble_of_many(&why, many)),
        }
    }
    lines
}

fn trouble_of_many(why: &str, many: &[&InstanceView]) -> String {
    let named: Vec<String> = many.iter().take(NAMED).map(|one| tame(&one.id)).collect();
    let rest = match many.len().saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!(
        "{} are {}: {} ({}{rest})",
        count(many.len(), "instance"),
        tame(&many[0].class),
        tame(why),
        named.join(", ")
    )
}

/// The instances that a person should look at. A green that is not healthy yet is what a rollout
/// waits for while it provisions, and its deadline is shown: no trouble by itself.
fn troubled(fleet: &FleetView) -> impl Iterator<Item = &InstanceView> {
    let provisioning = fleet
        .rollout
        .as_ref()
        .is_some_and(|rollout| phase::parse(&rollout.phase) == Some(Phase::Provisioning));
    fleet.instances.iter().filter(move |one| {
        let expected = provisioning
            && one.set.as_deref() == Some("green")
            && one.alarm.is_none()
            && one.fault.is_none()
            && one.class == "unhealthy";
        instance::in_trouble(one) && !expected
    })
}

fn to_type(fleet: &FleetView, need: Need) -> Option<String> {
    let running = fleet.rollout.as_ref().is_some_and(|rollout| !rollout.ended);
    match need {
        Need::Well => None,
        Need::Busy if running => Some(format!("calvin rollout watch {}", fleet.name)),
        Need::Busy => Some(format!("calvin fleet show {}", fleet.name)),
        Need::Look | Need::Wrong if fleet.rollout.is_some() => {
            Some(format!("calvin rollout explain {}", fleet.name))
        }
        Need::Look | Need::Wrong => Some(format!("calvin instance list {}", fleet.name)),
    }
}
