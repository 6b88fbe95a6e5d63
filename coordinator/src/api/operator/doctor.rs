//! What the coordinator finds wrong with itself and its surroundings.

mod catalogue;
mod disk;

use std::{fs, time::Duration};

use calvin_engine::View;
use calvin_model::{HumanDuration, InstanceId};
use calvin_planner::{Life, SessionObserved};
use calvin_proto::wire;
use rustix::process::{Resource, getrlimit};

use super::{OperatorParts, PROCESS};
use crate::runtime::wall_ms_now;

pub use disk::DiskLooks;

/// A CA that ends sooner than this should be rotated now: certificates end with it.
const CA_LEFT_MS: u64 = 30 * 86_400_000;
/// Agents' clocks that are further away make certificates and logs hard to believe.
const CLOCK_OFFSET_MS: u64 = 5_000;
/// A provider that has not listed its machines for so long does not answer.
const LIST_AGE: Duration = Duration::from_secs(15);
/// Beyond this share of the limit of descriptors a person is told: what is left is soon used by
/// agents that all come back at once.
const DESCRIPTORS_PERCENT: u64 = 80;
/// An instance that began a moment ago, and every one after a start of the coordinator, may not
/// have a session and the newest names yet: an agent connects again within ten seconds at most.
const YOUNG: Duration = Duration::from_secs(30);
/// Instances named in one finding.
const NAMED: usize = 5;

impl OperatorParts {
    /// Every check that can be made. One that cannot is a failed one: whoever asks does so because
    /// something does not work.
    pub(super) async fn doctor(&self) -> wire::DoctorReply {
        let view = self.desk.view();
        let [clock, addresses, space, history] = self.disk_checks().await;
        let mut checks = vec![
            decides(&view),
            self.authority(),
            agents_clocks(&view),
            provider(&view),
            sessions(&view),
            names(&view),
            notices(&view),
            clock,
            addresses,
            descriptors(),
            space,
            history,
        ];
        checks.extend(catalogue::catalogue(&view));
        // Stable: failed ones first, each group in the order above.
        checks.sort_by_key(|check| check.ok);
        wire::DoctorReply { checks }
    }

    fn authority(&self) -> wire::DoctorCheck {
        let ca = self.identity.ca();
        let left = ca
            .trusted
            .first()
            .map_or(0, |ca| ca.until_wall_ms.saturating_sub(wall_ms_now()));
        let found = format!(
            "{} trusted, the newest for {} more days",
            ca.trusted.len(),
            left / 86_400_000
        );
        check("CA", left > CA_LEFT_MS, found, "calvin ca rotate")
    }
}

/// Each agent takes one, each probe another, and each machine that is made some.
fn descriptors() -> wire::DoctorCheck {
    let advice = "raise LimitNOFILE= of the coordinator's unit (ulimit -Hn), and start it again";
    let used = match fs::read_dir("/proc/self/fd") {
        // One of them is the look itself.
        Ok(open) => open.count().saturating_sub(1) as u64,
        Err(error) => {
            let found = format!("could not be counted: {error}");
            return check("descriptors", false, found, advice);
        }
    };
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        let found = format!("{used} in use, without a limit");
        return check("descriptors", true, found, advice);
    };
    let enough = used.saturating_mul(100) < limit.saturating_mul(DESCRIPTORS_PERCENT);
    check(
        "descriptors",
        enough,
        format!("{used} of {limit} in use"),
        advice,
    )
}

fn check(name: &str, ok: bool, found: String, advice: &str) -> wire::DoctorCheck {
    wire::DoctorCheck {
        name: name.to_owned(),
        ok,
        found,
        advice: if ok { String::new() } else { advice.to_owned() },
    }
}

fn human_ms(ms: u64) -> String {
    HumanDuration::from_millis(ms).to_string()
}

fn decides(view: &View) -> wire::DoctorCheck {
    let found = match &view.held {
        Some(held) => format!("holds: {}", held.reason),
        None => format!("decides, in epoch {}", view.epoch.number),
    };
    let advice = match &view.recovery {
        Some(_) => "calvin recover show; a person must approve what it shows",
        None => "mend what the reason names; it goes on by itself",
    };
    check("engine", view.held.is_none(), found, advice)
}

fn agents_clocks(view: &View) -> wire::DoctorCheck {
    let offset = |seen: &calvin_planner::InstanceObserved| {
        let report = &seen.agent.as_ref()?.report;
        report.clock_offset_ms.map(i64::unsigned_abs)
    };
    let instances = &view.observed.instances;
    let far: Vec<&InstanceId> = instances
        .iter()
        .filter(|(_, seen)| offset(seen).is_some_and(|ms| ms > CLOCK_OFFSET_MS))
        .map(|(id, _)| id)
        .collect();
    let found = if far.is_empty() {
        format!("within {} of this one", human_ms(CLOCK_OFFSET_MS))
    } else {
        format!("far from this one: {}", named(&far))
    };
    let advice = "look at the time synchronisation of those machines";
    check("agents' clocks", far.is_empty(), found, advice)
}

fn provider(view: &View) -> wire::DoctorCheck {
    let age = view.observed.provider_lists.get(PROCESS);
    let faults: Vec<&InstanceId> = view
        .observed
        .instances
        .iter()
        .filter(|(_, seen)| seen.fault.is_some())
        .map(|(id, _)| id)
        .collect();
    let (ok, found) = match age {
        None if view.up < YOUNG => (true, "starting: has not listed its machines yet".to_owned()),
        None => (false, "has not listed its machines yet".to_owned()),
        Some(age) if *age > LIST_AGE => {
            let age = human_ms(super::answer::ms(*age));
            (false, format!("last listed its machines {age} ago"))
        }
        Some(_) if faults.is_empty() => (true, "lists its machines".to_owned()),
        Some(_) => (
            false,
            format!("could not do something for {}", named(&faults)),
        ),
    };
    let advice = "calvin instance show ID says what could not be done";
    check("provider process", ok, found, advice)
}

fn sessions(view: &View) -> wire::DoctorCheck {
    let silent = |id: &InstanceId| {
        let seen = view.observed.instances.get(id);
        !seen.is_some_and(|seen| matches!(seen.session, SessionObserved::Alive(_)))
    };
    let up: Vec<&InstanceId> = view
        .fleets
        .values()
        .flat_map(|fleet| &fleet.instances)
        .filter(|(_, instance)| instance.life == Life::Up)
        .map(|(id, _)| id)
        .collect();
    let (young, silent): (Vec<&InstanceId>, Vec<&InstanceId>) = up
        .iter()
        .copied()
        .filter(|id| silent(id))
        .partition(|id| is_young(view, id));
    let found = if silent.is_empty() {
        let some = up.len() - young.len();
        format!("{some} agents have one{}", on_their_way(young.len()))
    } else {
        format!(
            "{} of {} have none: {}",
            silent.len(),
            up.len(),
            named(&silent)
        )
    };
    let advice =
        "calvin instance show ID says since when; calvin instance console ID shows its output";
    check("sessions", silent.is_empty(), found, advice)
}

fn names(view: &View) -> wire::DoctorCheck {
    let catalogue = view.observed.catalogue.values();
    let mut behind: Vec<&InstanceId> = catalogue.flat_map(|fleet| &fleet.unconfirmed).collect();
    behind.sort();
    behind.dedup();
    let (young, behind): (Vec<&InstanceId>, Vec<&InstanceId>) =
        behind.into_iter().partition(|id| is_young(view, id));
    let found = if behind.is_empty() {
        let young = on_their_way(young.len());
        format!("every live agent serves the newest{young}")
    } else {
        format!("not served yet by {}", named(&behind))
    };
    let advice = "a moment after a change this is usual; later, look at those agents' logs";
    check("names", behind.is_empty(), found, advice)
}

/// Whether it is too early to expect something of an instance.
fn is_young(view: &View, id: &InstanceId) -> bool {
    let began = view
        .fleets
        .values()
        .find_map(|fleet| fleet.instances.get(id))
        .map(|instance| instance.since);
    view.up < YOUNG || began.is_some_and(|began| view.moment.since(began) < YOUNG)
}

fn on_their_way(young: usize) -> String {
    match young {
        0 => String::new(),
        1 => ", 1 is starting".to_owned(),
        young => format!(", {young} are starting"),
    }
}

fn notices(view: &View) -> wire::DoctorCheck {
    let found = match view.notices.first() {
        None => "nothing to look at".to_owned(),
        Some(first) => format!("{}: {first}", view.notices.len()),
    };
    check("notices", view.notices.is_empty(), found, "calvin status")
}

fn named(ids: &[&InstanceId]) -> String {
    let shown: Vec<&str> = ids.iter().take(NAMED).map(|id| id.as_str()).collect();
    let mut text = shown.join(", ");
    if ids.len() > NAMED {
        text.push_str(&format!(" and {} more", ids.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests;
