//! What people order that holds until they end it: pause, approve, freeze, pin, protect, veto,
//! lost zones, held repairs. All of it needs the role operator: who may start a rollout may also
//! hold it, and who may delete an instance may also keep it.

use calvin_model::{FleetName, InstanceId, ZoneName, fleet::Gate, image::ImageTag};
use calvin_planner::{Command, FreezeScope};
use calvin_proto::wire::{
    ApproveRolloutRequest, ChangeReply, FleetOrderRequest, FreezeRequest, ImageOrderRequest,
    InstanceOrderRequest, UnfreezeRequest, ZoneOrderRequest,
};

use super::{
    OperatorParts,
    answer::{instance, reason, shown},
    error::{OperatorError, near},
};

impl OperatorParts {
    pub(super) async fn pause_rollout(
        &self,
        request: FleetOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Pause {
            fleet: self.known_fleet(&request.fleet)?,
            reason: reason(&request.reason, who),
        };
        let next = format!("to let it go on: calvin rollout resume {}", request.fleet);
        self.give(order, who, next).await
    }

    pub(super) async fn resume_rollout(
        &self,
        request: FleetOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Resume {
            fleet: self.known_fleet(&request.fleet)?,
        };
        self.give(order, who, watch(&request.fleet)).await
    }

    pub(super) async fn promote_rollout(
        &self,
        request: FleetOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let fleet = self.known_fleet(&request.fleet)?;
        let tried = || format!("could not promote the rollout of fleet {fleet}");
        let reason = must_say_why(&request.reason, tried)?;
        let order = Command::Promote { fleet, reason };
        self.give(order, who, watch(&request.fleet)).await
    }

    pub(super) async fn approve_rollout(
        &self,
        request: ApproveRolloutRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Approve {
            fleet: self.known_fleet(&request.fleet)?,
            gate: gate(&request.gate)?,
            reason: reason(&request.reason, who),
        };
        self.give(order, who, watch(&request.fleet)).await
    }

    pub(super) async fn freeze(
        &self,
        request: FreezeRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let fleet = self.maybe_fleet(&request.fleet)?;
        let tried = || match &fleet {
            Some(fleet) => format!("could not freeze fleet {fleet}"),
            None => "could not freeze the environment".to_owned(),
        };
        let reason = must_say_why(&request.reason, tried)?;
        let order = Command::Freeze {
            scope: scope(&request.scope)?,
            until_wall_ms: request.until_wall_ms,
            reason,
            fleet,
        };
        let next = format!("to end it: calvin unfreeze {}", request.fleet);
        self.give(order, who, next.trim_end().to_owned()).await
    }

    pub(super) async fn unfreeze(
        &self,
        request: UnfreezeRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Unfreeze {
            fleet: self.maybe_fleet(&request.fleet)?,
        };
        self.give(order, who, String::new()).await
    }

    pub(super) async fn pin_fleet(
        &self,
        request: FleetOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let fleet = self.known_fleet(&request.fleet)?;
        let reason = must_say_why(&request.reason, || format!("could not pin fleet {fleet}"))?;
        let next = format!("to end it: calvin fleet unpin {fleet}");
        self.give(Command::Pin { fleet, reason }, who, next).await
    }

    pub(super) async fn unpin_fleet(
        &self,
        request: FleetOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Unpin {
            fleet: self.known_fleet(&request.fleet)?,
        };
        self.give(order, who, String::new()).await
    }

    pub(super) async fn protect_instance(
        &self,
        request: InstanceOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let instance = self.known_instance(&request.instance)?;
        let tried = || format!("could not protect instance {instance}");
        let reason = must_say_why(&request.reason, tried)?;
        let next = format!("to end it: calvin instance unprotect {instance}");
        self.give(Command::Protect { instance, reason }, who, next)
            .await
    }

    pub(super) async fn unprotect_instance(
        &self,
        request: InstanceOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Unprotect {
            instance: self.known_instance(&request.instance)?,
        };
        self.give(order, who, String::new()).await
    }

    pub(super) async fn veto_image(
        &self,
        request: ImageOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let image = self.image_to_veto(&request.image)?;
        let reason = must_say_why(&request.reason, || format!("could not veto image {image}"))?;
        let next = format!("to end it: calvin image unveto {image}");
        self.give(Command::Veto { image, reason }, who, next).await
    }

    pub(super) async fn unveto_image(
        &self,
        request: ImageOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Unveto {
            image: image(&request.image)?,
        };
        self.give(order, who, String::new()).await
    }

    pub(super) async fn lose_zone(
        &self,
        request: ZoneOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let zone = self.known_zone(&request.zone)?;
        let tried = || format!("could not take zone {zone} for lost");
        let reason = must_say_why(&request.reason, tried)?;
        let next = format!("once it is back: calvin zone found {zone}");
        self.give(Command::LoseZone { zone, reason }, who, next)
            .await
    }

    pub(super) async fn find_zone(
        &self,
        request: ZoneOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::FindZone {
            zone: self.known_zone(&request.zone)?,
        };
        self.give(order, who, String::new()).await
    }

    pub(super) async fn resume_repairs(
        &self,
        request: FleetOrderRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let fleet = self.known_fleet(&request.fleet)?;
        let tried = || format!("could not resume the repairs of fleet {fleet}");
        let reason = must_say_why(&request.reason, tried)?;
        let next = format!("calvin status {fleet}");
        self.give(Command::ResumeRepairs { fleet, reason }, who, next)
            .await
    }

    /// Gives the order; `next` is what to type after it.
    async fn give(
        &self,
        order: Command,
        who: &str,
        next: String,
    ) -> Result<ChangeReply, OperatorError> {
        let outcome = self.desk.order(order, who).await?;
        Ok(ChangeReply {
            lines: outcome.lines,
            rollout: outcome.rollout.map(|id| id.to_string()).unwrap_or_default(),
            next,
        })
    }

    /// The fleet of that name, or all for an empty one.
    fn maybe_fleet(&self, name: &str) -> Result<Option<FleetName>, OperatorError> {
        (!name.is_empty())
            .then(|| self.known_fleet(name))
            .transpose()
    }

    fn known_instance(&self, id: &str) -> Result<InstanceId, OperatorError> {
        Ok(instance(&self.desk.view(), id)?.2)
    }

    /// An image that is recorded: the veto of a name that nothing has would hold nothing, and
    /// whoever mistyped it would believe that it does.
    fn image_to_veto(&self, text: &str) -> Result<ImageTag, OperatorError> {
        let tag = image(text)?;
        if self.images.get(&tag).is_some() {
            return Ok(tag);
        }
        let recorded: Vec<String> = self
            .images
            .list()
            .iter()
            .map(|one| one.image.to_string())
            .collect();
        Err(OperatorError::NotFound {
            kind: "image",
            near: near(text, recorded.iter().map(String::as_str)),
            name: shown(text),
        })
    }

    fn known_zone(&self, text: &str) -> Result<ZoneName, OperatorError> {
        let zones = self.zones();
        let found = zones.keys().find(|zone| zone.as_str() == text);
        found.cloned().ok_or_else(|| OperatorError::NotFound {
            kind: "zone",
            near: near(text, zones.keys().map(ZoneName::as_str)),
            name: shown(text),
        })
    }
}

fn watch(fleet: &str) -> String {
    format!("calvin rollout watch {fleet}")
}

/// The reason, which an order that overrides what the coordinator would do must have: who comes
/// next reads it in the status and in the history.
fn must_say_why(given: &str, tried: impl Fn() -> String) -> Result<String, OperatorError> {
    if given.trim().is_empty() {
        let tried = tried();
        return Err(OperatorError::invalid(format!(
            "{tried}: it needs a reason, which those who come next will read; say why with --reason"
        )));
    }
    Ok(reason(given, ""))
}

fn gate(text: &str) -> Result<Option<Gate>, OperatorError> {
    match text {
        "" => Ok(None),
        "switch" => Ok(Some(Gate::Switch)),
        "retire" => Ok(Some(Gate::Retire)),
        other => Err(OperatorError::invalid(format!(
            "there is no gate {:?}: name switch or retire",
            shown(other)
        ))),
    }
}

fn scope(text: &str) -> Result<FreezeScope, OperatorError> {
    match text {
        "" | "new" => Ok(FreezeScope::New),
        "all" => Ok(FreezeScope::All),
        other => Err(OperatorError::invalid(format!(
            "there is no scope {:?} of a freeze: name new or all",
            shown(other)
        ))),
    }
}

fn image(text: &str) -> Result<ImageTag, OperatorError> {
    text.parse()
        .map_err(|error| OperatorError::invalid(format!("image {:?}: {error}", shown(text))))
}
