//! Orders that freeze and unfreeze, and what others are told while something is frozen.

use calvin_model::FleetName;

use super::{CommandOutcome, Desk, Refusal};
use crate::{
    environment::{Freeze, FreezeScope},
    invariant::InvariantId,
    plan::{Event, EventKind},
    state::FleetState,
    wall::date,
};

/// What is to be frozen.
pub(super) struct Asked<'a> {
    pub(super) scope: FreezeScope,
    pub(super) until_wall_ms: Option<u64>,
    pub(super) reason: &'a str,
}

pub(super) fn freeze(
    desk: Desk<'_>,
    fleet: Option<&FleetName>,
    asked: Asked<'_>,
) -> Result<CommandOutcome, Refusal> {
    let target = target(fleet);
    let what = format!("could not freeze {target}");
    let refuse = |why: String, hint: String| {
        Err(Refusal::NotNow {
            rule: None,
            what: what.clone(),
            why,
            hint,
        })
    };
    let reason = asked.reason.trim();
    if asked.scope == FreezeScope::All && (asked.until_wall_ms.is_none() || reason.is_empty()) {
        return refuse(
            "scope all holds repairs too, so it needs an end and a reason: --until or --for, and --reason"
                .to_owned(),
            format!("calvin freeze{} --scope all --for 2h --reason WHY", argument(fleet)),
        );
    }
    if asked
        .until_wall_ms
        .is_some_and(|until| until <= desk.input.wall_ms)
    {
        let until = asked.until_wall_ms.map(date).unwrap_or_default();
        return refuse(
            format!(
                "--until {until} is over: it is {}",
                date(desk.input.wall_ms)
            ),
            "name an end that is to come".to_owned(),
        );
    }
    let holding = match fleet {
        None => desk.input.environment.freeze.as_ref(),
        Some(name) => desk.fleet(name)?.freeze.as_ref(),
    };
    if let Some(holding) = holding.filter(|freeze| freeze.holds(desk.input.wall_ms))
        && is_weaker(&asked, holding)
    {
        let end = format!(
            "end that one first, when its reason is over: calvin unfreeze{}",
            argument(fleet)
        );
        // The freezes of a fleet and of the environment are held beside each other; the stronger counts.
        let beside = match (asked.scope > holding.scope, fleet) {
            (false, _) => String::new(),
            (true, None) => hold_more("calvin freeze FLEET"),
            (true, Some(_)) => hold_more("calvin freeze"),
        };
        return refuse(
            format!(
                "it is {} already, which holds more or longer",
                holding.told()
            ),
            format!("{end}{beside}"),
        );
    }
    let freeze = Freeze {
        scope: asked.scope,
        until_wall_ms: asked.until_wall_ms,
        order: desk.order(reason),
    };
    let holds = match asked.scope {
        FreezeScope::New => "nothing new starts; going back, repairs and renewals go on",
        FreezeScope::All => {
            "nothing is made, replaced or removed, repairs neither; going back only switches traffic"
        }
    };
    let line = format!(
        "{target} is {}; {holds} (end it: calvin unfreeze{})",
        freeze.told(),
        argument(fleet)
    );
    let Some(name) = fleet else {
        let mut environment = desk.input.environment.clone();
        environment.freeze = Some(freeze);
        return Ok(desk.environment(environment, line));
    };
    let mut after = desk.fleet(name)?.clone();
    after.freeze = Some(freeze);
    Ok(desk.changed(name, after, line))
}

fn hold_more(command: &str) -> String {
    format!("; or hold more beside it: {command} --scope all --for 2h --reason WHY")
}

/// Whether what is asked for holds less than a freeze that holds, or not as long: who ordered that one
/// would not know that it is gone.
fn is_weaker(asked: &Asked<'_>, holding: &Freeze) -> bool {
    let narrower = holding.scope == FreezeScope::All && asked.scope == FreezeScope::New;
    let shorter = match (asked.until_wall_ms, holding.until_wall_ms) {
        (Some(_), None) => true,
        (Some(asked), Some(holding)) => asked < holding,
        (None, _) => false,
    };
    narrower || shorter
}

pub(super) fn unfreeze(
    desk: Desk<'_>,
    fleet: Option<&FleetName>,
) -> Result<CommandOutcome, Refusal> {
    let target = target(fleet);
    let wall_ms = desk.input.wall_ms;
    let whole = desk.input.environment.freeze.as_ref();
    let whole = whole.filter(|freeze| freeze.holds(wall_ms));
    let own = match fleet {
        None => desk.input.environment.freeze.as_ref(),
        Some(name) => desk.fleet(name)?.freeze.as_ref(),
    };
    let Some(own) = own else {
        let hint = match (fleet, whole) {
            (Some(_), Some(freeze)) => {
                format!(
                    "the environment is {}; end that: calvin unfreeze",
                    freeze.told()
                )
            }
            (Some(_) | None, Some(_) | None) => {
                "see what holds something back: calvin status".to_owned()
            }
        };
        return Err(Refusal::NotNow {
            rule: None,
            what: format!("could not unfreeze {target}"),
            why: "it is not frozen".to_owned(),
            hint,
        });
    };
    let mut line = format!("{target} is not frozen any more: it was {}", own.told());
    let Some(name) = fleet else {
        let mut environment = desk.input.environment.clone();
        environment.freeze = None;
        return Ok(desk.environment(environment, line));
    };
    if let Some(freeze) = whole {
        line.push_str(&format!("; the environment still is {}", freeze.told()));
    }
    let mut after = desk.fleet(name)?.clone();
    after.freeze = None;
    Ok(desk.changed(name, after, line))
}

fn target(fleet: Option<&FleetName>) -> String {
    fleet.map_or_else(
        || "the environment".to_owned(),
        |name| format!("fleet {name}"),
    )
}

fn argument(fleet: Option<&FleetName>) -> String {
    fleet.map_or_else(String::new, |name| format!(" {name}"))
}

impl Desk<'_> {
    /// The strongest freeze that holds a fleet now.
    pub(super) fn frozen<'b>(&'b self, state: &'b FleetState) -> Option<&'b Freeze> {
        let freezes = [
            state.freeze.as_ref(),
            self.input.environment.freeze.as_ref(),
        ];
        let holding = freezes.into_iter().flatten();
        holding
            .filter(|freeze| freeze.holds(self.input.wall_ms))
            .max_by_key(|freeze| (freeze.scope, freeze.until_wall_ms.unwrap_or(u64::MAX)))
    }

    /// Refuses what a freeze of at least `scope` holds.
    pub(super) fn not_frozen(
        &self,
        state: &FleetState,
        scope: FreezeScope,
        what: &str,
        hint: &str,
    ) -> Result<(), Refusal> {
        match self.frozen(state).filter(|freeze| freeze.scope >= scope) {
            None => Ok(()),
            Some(freeze) => Err(Refusal::NotNow {
                rule: Some(InvariantId::FrozenStartsNothing),
                what: what.to_owned(),
                why: format!("it is {} (FrozenStartsNothing)", freeze.told()),
                hint: hint.to_owned(),
            }),
        }
    }

    /// The outcome of an order that changes the environment as a whole.
    pub(super) fn environment(
        &self,
        after: crate::environment::EnvironmentState,
        line: String,
    ) -> CommandOutcome {
        CommandOutcome {
            environment: Some(after),
            events: vec![Event {
                fleet: None,
                instance: None,
                kind: EventKind::Command,
                text: format!("{}: {line}", self.who),
            }],
            lines: vec![line],
            ..CommandOutcome::default()
        }
    }
}
