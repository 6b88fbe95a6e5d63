//! Every call of the service, with the role that it needs.

use std::sync::Arc;

use calvin_model::OperatorRole;
use calvin_proto::wire::{self, operator_server::Operator};
use tonic::{Request, Response, Status};

use super::{OperatorParts, OperatorService, watch::Answers};
use crate::{
    identity::{Call, Caller},
    runtime::wall_ms_now,
};

type Reply<T> = Result<Response<T>, Status>;

impl OperatorService {
    /// Who calls, and what they ask, if they may do what needs `role`.
    fn admit<T>(
        &self,
        request: Request<T>,
        role: OperatorRole,
    ) -> Result<(Caller, T, &Arc<OperatorParts>), Status> {
        let caller = self.parts.identity.call(&request, role).judge()?;
        Ok((caller, request.into_inner(), &self.parts))
    }

    /// As `admit`, for what goes on until the caller ends it: the call is judged again meanwhile.
    fn admit_long<T>(
        &self,
        request: Request<T>,
        role: OperatorRole,
    ) -> Result<(Call, T, &Arc<OperatorParts>), Status> {
        let call = self.parts.identity.call(&request, role);
        call.judge()?;
        Ok((call, request.into_inner(), &self.parts))
    }
}

#[tonic::async_trait]
impl Operator for OperatorService {
    type WatchStatusStream = Answers<wire::StatusReply>;
    type WatchRolloutStream = Answers<wire::RolloutStatus>;
    type HistoryStream = Answers<wire::HistoryLine>;
    type ConsoleStream = Answers<wire::ConsoleChunk>;
    type CreateBackupStream = Answers<wire::BackupChunk>;

    async fn about(&self, request: Request<wire::AboutRequest>) -> Reply<wire::AboutReply> {
        let (caller, _, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.about(caller)))
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Reply<wire::StatusReply> {
        let (_, asked, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.status(&asked.fleet)?))
    }

    async fn watch_status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Reply<Self::WatchStatusStream> {
        let (call, asked, parts) = self.admit_long(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.watch_status(asked, call)?))
    }

    async fn apply_fleet(
        &self,
        request: Request<wire::ApplyFleetRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.apply_fleet(asked, &caller.name).await?))
    }

    async fn show_fleet(
        &self,
        request: Request<wire::FleetRequest>,
    ) -> Reply<wire::ShowFleetReply> {
        let (_, asked, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.show_fleet(&asked)?))
    }

    async fn scale_fleet(
        &self,
        request: Request<wire::ScaleFleetRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.scale_fleet(asked, &caller.name).await?))
    }

    async fn delete_fleet(&self, request: Request<wire::FleetRequest>) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.delete_fleet(asked, &caller.name).await?,
        ))
    }

    async fn plan_rollout(
        &self,
        request: Request<wire::PlanRolloutRequest>,
    ) -> Reply<wire::PlanRolloutReply> {
        let (_, asked, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.plan_rollout(&asked)?))
    }

    async fn start_rollout(
        &self,
        request: Request<wire::StartRolloutRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.start_rollout(asked, &caller.name).await?,
        ))
    }

    async fn abort_rollout(
        &self,
        request: Request<wire::RolloutRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.abort_rollout(asked, &caller.name).await?,
        ))
    }

    async fn rollback_rollout(
        &self,
        request: Request<wire::RolloutRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.roll_back(asked, &caller.name).await?))
    }

    async fn undo_rollout(
        &self,
        request: Request<wire::RolloutRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.undo_rollout(asked, &caller.name).await?,
        ))
    }

    async fn watch_rollout(
        &self,
        request: Request<wire::FleetRequest>,
    ) -> Reply<Self::WatchRolloutStream> {
        let (call, asked, parts) = self.admit_long(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.watch_rollout(asked, call)?))
    }

    async fn history(&self, request: Request<wire::HistoryRequest>) -> Reply<Self::HistoryStream> {
        let (_, asked, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.history(asked).await?))
    }

    async fn show_instance(
        &self,
        request: Request<wire::InstanceRequest>,
    ) -> Reply<wire::InstanceStatus> {
        let (_, asked, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.show_instance(&asked.instance)?))
    }

    async fn replace_instance(
        &self,
        request: Request<wire::InstanceRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.replace_instance(asked, &caller.name).await?,
        ))
    }

    async fn console(&self, request: Request<wire::ConsoleRequest>) -> Reply<Self::ConsoleStream> {
        let (call, asked, parts) = self.admit_long(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.console(asked, call).await?))
    }

    async fn add_image(&self, request: Request<wire::AddImageRequest>) -> Reply<wire::Image> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.add_image(asked, &caller.name).await?))
    }

    async fn list_images(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Reply<wire::ListImagesReply> {
        let (_, _, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.list_images()))
    }

    async fn add_operator(
        &self,
        request: Request<wire::AddOperatorRequest>,
    ) -> Reply<wire::AddOperatorReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Admin)?;
        Ok(Response::new(parts.add_operator(asked, caller.name).await?))
    }

    async fn list_operators(
        &self,
        request: Request<wire::ListOperatorsRequest>,
    ) -> Reply<wire::ListOperatorsReply> {
        let (_, _, parts) = self.admit(request, OperatorRole::Admin)?;
        Ok(Response::new(parts.list_operators()))
    }

    async fn revoke_operator(
        &self,
        request: Request<wire::RevokeOperatorRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Admin)?;
        Ok(Response::new(
            parts.revoke_operator(asked, caller.name).await?,
        ))
    }

    async fn rotate_ca(
        &self,
        request: Request<wire::RotateCaRequest>,
    ) -> Reply<wire::RotateCaReply> {
        let (caller, _, parts) = self.admit(request, OperatorRole::Admin)?;
        Ok(Response::new(parts.rotate_ca(caller.name).await?))
    }

    async fn show_ca(&self, request: Request<wire::ShowCaRequest>) -> Reply<wire::ShowCaReply> {
        let (_, _, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.show_ca()))
    }

    async fn show_recovery(
        &self,
        request: Request<wire::ShowRecoveryRequest>,
    ) -> Reply<wire::Recovery> {
        let (_, _, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.show_recovery()))
    }

    async fn approve_recovery(
        &self,
        request: Request<wire::ApproveRecoveryRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Admin)?;
        Ok(Response::new(
            parts.approve_recovery(asked, &caller.name).await?,
        ))
    }

    async fn create_backup(
        &self,
        request: Request<wire::CreateBackupRequest>,
    ) -> Reply<Self::CreateBackupStream> {
        let (caller, _, parts) = self.admit(request, OperatorRole::Admin)?;
        Ok(Response::new(parts.create_backup(caller.name)))
    }

    async fn doctor(&self, request: Request<wire::DoctorRequest>) -> Reply<wire::DoctorReply> {
        let (_, _, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.doctor().await))
    }

    async fn pause_rollout(
        &self,
        request: Request<wire::FleetOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.pause_rollout(asked, &caller.name).await?,
        ))
    }

    async fn resume_rollout(
        &self,
        request: Request<wire::FleetOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.resume_rollout(asked, &caller.name).await?,
        ))
    }

    async fn promote_rollout(
        &self,
        request: Request<wire::FleetOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.promote_rollout(asked, &caller.name).await?,
        ))
    }

    async fn approve_rollout(
        &self,
        request: Request<wire::ApproveRolloutRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.approve_rollout(asked, &caller.name).await?,
        ))
    }

    async fn freeze(&self, request: Request<wire::FreezeRequest>) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.freeze(asked, &caller.name).await?))
    }

    async fn unfreeze(&self, request: Request<wire::UnfreezeRequest>) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.unfreeze(asked, &caller.name).await?))
    }

    async fn pin_fleet(
        &self,
        request: Request<wire::FleetOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.pin_fleet(asked, &caller.name).await?))
    }

    async fn unpin_fleet(
        &self,
        request: Request<wire::FleetOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.unpin_fleet(asked, &caller.name).await?))
    }

    async fn protect_instance(
        &self,
        request: Request<wire::InstanceOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.protect_instance(asked, &caller.name).await?,
        ))
    }

    async fn unprotect_instance(
        &self,
        request: Request<wire::InstanceOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.unprotect_instance(asked, &caller.name).await?,
        ))
    }

    async fn veto_image(
        &self,
        request: Request<wire::ImageOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.veto_image(asked, &caller.name).await?))
    }

    async fn unveto_image(
        &self,
        request: Request<wire::ImageOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.unveto_image(asked, &caller.name).await?,
        ))
    }

    async fn lose_zone(
        &self,
        request: Request<wire::ZoneOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.lose_zone(asked, &caller.name).await?))
    }

    async fn find_zone(
        &self,
        request: Request<wire::ZoneOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(parts.find_zone(asked, &caller.name).await?))
    }

    async fn resume_repairs(
        &self,
        request: Request<wire::FleetOrderRequest>,
    ) -> Reply<wire::ChangeReply> {
        let (caller, asked, parts) = self.admit(request, OperatorRole::Operator)?;
        Ok(Response::new(
            parts.resume_repairs(asked, &caller.name).await?,
        ))
    }

    async fn list_zones(
        &self,
        request: Request<wire::ListZonesRequest>,
    ) -> Reply<wire::ListZonesReply> {
        let (_, _, parts) = self.admit(request, OperatorRole::Viewer)?;
        Ok(Response::new(parts.list_zones()))
    }
}

impl OperatorParts {
    fn about(&self, caller: Caller) -> wire::AboutReply {
        let address = self.operator_address;
        wire::AboutReply {
            environment: self.config.environment.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: self.desk.view().epoch.number,
            caller: caller.name,
            role: caller.role.to_string(),
            domain: self.config.domain.clone(),
            operator_address: address.map(|one| one.to_string()).unwrap_or_default(),
            wall_ms: wall_ms_now(),
        }
    }
}
