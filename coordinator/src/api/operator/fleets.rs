//! Fleets: apply, show, scale, delete.

use calvin_model::{
    FleetName, FleetSpec,
    config::ConfigError,
    image::{DataKind, ImageTag},
};
use calvin_planner::{Build, Command};
use calvin_proto::wire::{
    ApplyFleetRequest, ChangeReply, FleetRequest, ScaleFleetRequest, ShowFleetReply,
};

use crate::runtime::local;

use super::{
    OperatorParts, PROCESS,
    answer::{change, fleet, shown},
    error::{OperatorError, near},
    picture::fleet_status,
};

/// Refuses windows in a time zone that nothing is known of: they would never open.
fn known_time_zones(spec: &FleetSpec, request: &ApplyFleetRequest) -> Result<(), ConfigError> {
    let windows = &spec.replace.windows;
    let unknown = windows
        .iter()
        .find(|window| local(window.zone(), 0).is_none());
    let Some(window) = unknown else {
        return Ok(());
    };
    let message = format!(
        "windows: {window} names no time zone that is known: {}; write one such as Europe/Berlin or UTC",
        window.zone()
    );
    Err(ConfigError::about(
        &request.file,
        &request.toml,
        "windows",
        message,
    ))
}

impl OperatorParts {
    pub(super) async fn apply_fleet(
        &self,
        request: ApplyFleetRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let spec = FleetSpec::parse(&request.file, &request.toml)?;
        if spec.provider != PROCESS {
            return Err(OperatorError::NotFound {
                kind: "provider",
                near: near(&spec.provider, [PROCESS]),
                name: spec.provider,
            });
        }
        known_time_zones(&spec, &request)?;
        let build = self.build(&spec.image)?;
        let name = spec.name.clone();
        let order = Command::ApplyFleet {
            spec: Box::new(spec),
            build,
        };
        if request.dry_run {
            let view = self.desk.view();
            let outcome = calvin_planner::command(&view.command_input(), &order, who)?;
            return Ok(ChangeReply {
                lines: outcome.lines,
                ..ChangeReply::default()
            });
        }
        let outcome = self.desk.order(order, who).await?;
        Ok(change(outcome, name.as_str()))
    }

    pub(super) fn show_fleet(
        &self,
        request: &FleetRequest,
    ) -> Result<ShowFleetReply, OperatorError> {
        let view = self.desk.view();
        let (name, state) = fleet(&view, &request.fleet)?;
        let toml = toml::to_string(&state.spec)
            .map_err(|error| OperatorError::invalid(format!("fleet {name} is no TOML: {error}")))?;
        Ok(ShowFleetReply {
            status: Some(fleet_status(&view, name, state)),
            toml,
        })
    }

    pub(super) async fn scale_fleet(
        &self,
        request: ScaleFleetRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Scale {
            fleet: self.known_fleet(&request.fleet)?,
            count: request.count,
        };
        let outcome = self.desk.order(order, who).await?;
        Ok(change(outcome, &request.fleet))
    }

    pub(super) async fn delete_fleet(
        &self,
        request: FleetRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let fleet = self.known_fleet(&request.fleet)?;
        let order = Command::DeleteFleet { fleet };
        let outcome = self.desk.order(order, who).await?;
        Ok(change(outcome, &request.fleet))
    }

    /// The fleet's name, if there is such a fleet.
    pub(super) fn known_fleet(&self, name: &str) -> Result<FleetName, OperatorError> {
        let view = self.desk.view();
        Ok(fleet(&view, name)?.0.clone())
    }

    /// The build that an image stands for.
    pub(super) fn build(&self, tag: &ImageTag) -> Result<Build, OperatorError> {
        let Some(record) = self.images.get(tag) else {
            let known = self.images.list();
            let known: Vec<String> = known.iter().map(|one| one.image.to_string()).collect();
            return Err(OperatorError::NotFound {
                kind: "image",
                near: near(&tag.to_string(), known.iter().map(String::as_str)),
                name: tag.to_string(),
            });
        };
        let manifest = &record.manifest;
        match manifest.data {
            DataKind::None => {}
            DataKind::Volume => {
                return Err(OperatorError::Unsupported {
                    message: format!(
                        "image {tag} says data = \"volume\": replacing its instances would lose what they keep, and moving a volume to its successor is not in this version"
                    ),
                });
            }
        }
        let work = manifest.workload.as_ref().map(|workload| workload.work);
        Ok(Build {
            image: record.image.clone(),
            work: work.unwrap_or_default(),
            services: !manifest.services.is_empty(),
            quorum: manifest.quorum.is_some(),
        })
    }

    /// The build that a request names, or else the fleet's file.
    pub(super) fn build_for(&self, fleet_name: &str, image: &str) -> Result<Build, OperatorError> {
        if image.is_empty() {
            let view = self.desk.view();
            let (_, state) = fleet(&view, fleet_name)?;
            return self.build(&state.spec.image);
        }
        let tag: ImageTag = image.parse().map_err(|error| {
            OperatorError::invalid(format!("image {:?}: {error}", shown(image)))
        })?;
        self.build(&tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(zone: &str) -> Result<(), String> {
        let toml = format!(
            "name = \"web\"\nimage = \"web@1.0\"\ncount = 1\n[replace]\n\
             windows = [\"mon-fri 09:00-16:00 {zone}\"]\n"
        );
        let request = ApplyFleetRequest {
            file: "web.toml".to_owned(),
            toml,
            ..ApplyFleetRequest::default()
        };
        let spec = FleetSpec::parse(&request.file, &request.toml).unwrap();
        known_time_zones(&spec, &request).map_err(|error| error.to_string())
    }

    #[test]
    fn a_window_in_a_time_zone_that_is_not_known_is_refused_by_key_and_place() {
        assert_eq!(check("Europe/Berlin"), Ok(()));
        let error = check("Europe/Atlantis").unwrap_err();
        assert!(error.contains("web.toml:5"), "{error}");
        assert!(
            error.contains("windows: mon-fri 09:00-16:00 Europe/Atlantis"),
            "{error}"
        );
    }
}
