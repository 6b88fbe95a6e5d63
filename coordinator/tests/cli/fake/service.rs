//! The calls of the operator service, each answered from the script.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use calvin_proto::wire::{
    AboutReply, AboutRequest, AddImageRequest, AddOperatorReply, AddOperatorRequest,
    ApplyFleetRequest, ApproveRecoveryRequest, ApproveRolloutRequest, BackupChunk, ChangeReply,
    ConsoleChunk, ConsoleRequest, CreateBackupRequest, DoctorCheck, DoctorReply, DoctorRequest,
    FleetOrderRequest, FleetRequest, FreezeRequest, FreezeState, HistoryLine, HistoryRequest,
    Image, ImageOrderRequest, InstanceOrderRequest, InstanceRequest, InstanceStatus,
    ListImagesReply, ListImagesRequest, ListOperatorsReply, ListOperatorsRequest, ListZonesReply,
    ListZonesRequest, PlanRolloutReply, PlanRolloutRequest, PlanStep, Recovery,
    RevokeOperatorRequest, RolloutRequest, RolloutStatus, RotateCaReply, RotateCaRequest,
    ScaleFleetRequest, ShowCaReply, ShowCaRequest, ShowFleetReply, ShowRecoveryRequest,
    StartRolloutRequest, StatusReply, StatusRequest, TrustedCa, UnfreezeRequest, Zone,
    ZoneOrderRequest, operator_server::Operator,
};
use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status};

use super::{
    Shared,
    states::{self, Rest, WALL_MS, image, order},
};

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
pub(crate) struct Script {
    pub(super) shared: Arc<Shared>,
}

impl Script {
    fn changed(&self, what: String, line: &str, rollout: &str) -> Answer<ChangeReply> {
        self.shared.changes.lock().unwrap().push(what);
        Ok(Response::new(ChangeReply {
            lines: vec![line.to_owned()],
            rollout: rollout.to_owned(),
            next: String::new(),
        }))
    }

    fn frozen(&self) -> bool {
        let changes = self.shared.changes.lock().unwrap();
        changes.iter().any(|change| change.starts_with("freeze "))
    }

    fn ordered(&self, order: &str, of: &str, line: &str) -> Answer<ChangeReply> {
        self.changed(format!("{order} {of}"), line, "")
    }
}

fn known(fleet: &str) -> Result<(), Status> {
    match fleet {
        "wbe" => Err(Status::not_found(
            "there is no fleet wbe; did you mean web?",
        )),
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl Operator for Script {
    type WatchStatusStream = Items<StatusReply>;
    type WatchRolloutStream = Items<RolloutStatus>;
    type HistoryStream = Items<HistoryLine>;
    type ConsoleStream = Items<ConsoleChunk>;
    type CreateBackupStream = Items<BackupChunk>;

    async fn about(&self, _: Request<AboutRequest>) -> Answer<AboutReply> {
        Ok(Response::new(AboutReply {
            environment: "test".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: 1,
            caller: "uid 1000".to_owned(),
            role: "admin".to_owned(),
            domain: "test.internal".to_owned(),
            operator_address: "127.0.0.1:7443".to_owned(),
            wall_ms: now_ms(),
        }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusReply> {
        let fleet = request.into_inner().fleet;
        if fleet == "stuck" {
            std::future::pending::<()>().await;
        }
        known(&fleet)?;
        let name = if fleet.is_empty() { "web" } else { &fleet };
        Ok(Response::new(StatusReply {
            environment: "test".to_owned(),
            wall_ms: WALL_MS,
            fleets: vec![states::fleet(name)],
            epoch: 1,
            up_ms: 60_000,
            freeze: (fleet.is_empty() && self.frozen()).then(|| FreezeState {
                scope: "new".to_owned(),
                until_wall_ms: Some(WALL_MS + 60_000),
                order: Some(order("the sale")),
            }),
            ..StatusReply::default()
        }))
    }

    async fn watch_status(
        &self,
        request: Request<StatusRequest>,
    ) -> Answer<Self::WatchStatusStream> {
        let reply = self.status(request).await?.into_inner();
        let watchers = self.shared.watchers.clone();
        let watched = stream::once(async move {
            watchers.send_modify(|now| *now += 1);
            std::future::pending().await
        });
        // Nothing changes: it goes on until who watches leaves.
        Ok(Response::new(
            stream::iter([Ok(reply)]).chain(watched).boxed(),
        ))
    }

    async fn apply_fleet(&self, request: Request<ApplyFleetRequest>) -> Answer<ChangeReply> {
        let ApplyFleetRequest { file, toml, .. } = request.into_inner();
        if toml == "broken" {
            return Err(Status::invalid_argument(format!(
                "{file}:1:7: expected `=`"
            )));
        }
        self.changed(
            format!("apply {file} {}", toml.trim()),
            "fleet web is made",
            "",
        )
    }

    async fn show_fleet(&self, request: Request<FleetRequest>) -> Answer<ShowFleetReply> {
        let fleet = request.into_inner().fleet;
        known(&fleet)?;
        Ok(Response::new(ShowFleetReply {
            status: Some(states::fleet(&fleet)),
            toml: format!("name = \"{fleet}\"\n"),
        }))
    }

    async fn scale_fleet(&self, request: Request<ScaleFleetRequest>) -> Answer<ChangeReply> {
        let ScaleFleetRequest { fleet, count } = request.into_inner();
        let line = format!("fleet {fleet} is to have {count} instances");
        self.changed(format!("scale {fleet} {count}"), &line, "")
    }

    async fn delete_fleet(&self, request: Request<FleetRequest>) -> Answer<ChangeReply> {
        let fleet = request.into_inner().fleet;
        self.changed(format!("delete {fleet}"), "it is drained and deleted", "")
    }

    async fn plan_rollout(&self, request: Request<PlanRolloutRequest>) -> Answer<PlanRolloutReply> {
        let PlanRolloutRequest { fleet, image } = request.into_inner();
        Ok(Response::new(PlanRolloutReply {
            plan: "p-1".to_owned(),
            from: format!("{fleet}@1.0"),
            to: image,
            steps: vec![PlanStep {
                wave: 1,
                instance: format!("{fleet}-aaaa0001"),
                action: "replace".to_owned(),
                reason: "its image is another".to_owned(),
            }],
            peak_extra: 1,
            waves: 1,
            remarks: vec!["another rollout runs".to_owned()],
            ..PlanRolloutReply::default()
        }))
    }

    async fn start_rollout(&self, request: Request<StartRolloutRequest>) -> Answer<ChangeReply> {
        let StartRolloutRequest {
            fleet,
            image,
            emergency_reason,
            ..
        } = request.into_inner();
        let rollout = format!("{fleet}-7");
        let what = match emergency_reason.as_str() {
            "" => format!("start {fleet} {image}"),
            reason => format!("start {fleet} {image}, emergency: {reason}"),
        };
        self.changed(what, &format!("rollout {rollout} started"), &rollout)
    }

    async fn abort_rollout(&self, request: Request<RolloutRequest>) -> Answer<ChangeReply> {
        let fleet = request.into_inner().fleet;
        self.changed(format!("abort {fleet}"), "it is given up", "")
    }

    async fn rollback_rollout(&self, request: Request<RolloutRequest>) -> Answer<ChangeReply> {
        let fleet = request.into_inner().fleet;
        self.changed(format!("rollback {fleet}"), "it goes back", "")
    }

    async fn undo_rollout(&self, request: Request<RolloutRequest>) -> Answer<ChangeReply> {
        let fleet = request.into_inner().fleet;
        let rollout = format!("{fleet}-7");
        self.changed(
            format!("undo {fleet}"),
            "the image before is rolled out",
            &rollout,
        )
    }

    async fn watch_rollout(
        &self,
        request: Request<FleetRequest>,
    ) -> Answer<Self::WatchRolloutStream> {
        let fleet = request.into_inner().fleet;
        let run = *self.shared.runs.lock().unwrap();
        let (states, rest) = states::course(&fleet, run);
        // The newest may still be the one before, for a moment after a start.
        let before = (fleet == "web").then(|| states::rollout(&fleet, 6, "done"));
        let items = stream::iter(before.into_iter().chain(states).map(Ok));
        self.shared.watchers.send_modify(|watchers| *watchers += 1);
        Ok(Response::new(match rest {
            Rest::End => items.boxed(),
            Rest::Silent => items.chain(stream::pending()).boxed(),
        }))
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Answer<Self::HistoryStream> {
        let line = HistoryLine {
            number: 1,
            wall_ms: WALL_MS,
            who: "planner".to_owned(),
            kind: "phase".to_owned(),
            fleet: request.into_inner().fleet,
            text: "something was decided".to_owned(),
            ..HistoryLine::default()
        };
        Ok(Response::new(stream::iter([Ok(line)]).boxed()))
    }

    async fn show_instance(&self, _: Request<InstanceRequest>) -> Answer<InstanceStatus> {
        Ok(Response::new(states::instance("web", "healthy")))
    }

    async fn replace_instance(&self, request: Request<InstanceRequest>) -> Answer<ChangeReply> {
        let instance = request.into_inner().instance;
        self.changed(format!("replace {instance}"), "it is replaced", "")
    }

    async fn console(&self, _: Request<ConsoleRequest>) -> Answer<Self::ConsoleStream> {
        let chunks = ["first\n", "second\n"].map(|text| Ok(ConsoleChunk { data: text.into() }));
        Ok(Response::new(stream::iter(chunks).boxed()))
    }

    async fn add_image(&self, request: Request<AddImageRequest>) -> Answer<Image> {
        let location = request.into_inner().location;
        self.shared
            .changes
            .lock()
            .unwrap()
            .push(format!("image {location}"));
        Ok(Response::new(image(&location)))
    }

    async fn list_images(&self, _: Request<ListImagesRequest>) -> Answer<ListImagesReply> {
        Ok(Response::new(ListImagesReply {
            images: vec![image("/srv/web-1.0")],
        }))
    }

    async fn add_operator(&self, request: Request<AddOperatorRequest>) -> Answer<AddOperatorReply> {
        let AddOperatorRequest {
            name,
            role,
            csr_der,
            ..
        } = request.into_inner();
        if name == "mallory" {
            return Err(Status::already_exists("there is an operator mallory"));
        }
        assert!(!csr_der.is_empty(), "a signing request is sent");
        self.shared
            .changes
            .lock()
            .unwrap()
            .push(format!("operator {name} {role} {csr_der:?}"));
        Ok(Response::new(AddOperatorReply {
            certificate_pem: "certificate".to_owned(),
            ca_pem: "ca".to_owned(),
        }))
    }

    async fn list_operators(&self, _: Request<ListOperatorsRequest>) -> Answer<ListOperatorsReply> {
        Ok(Response::new(ListOperatorsReply::default()))
    }

    async fn revoke_operator(
        &self,
        request: Request<RevokeOperatorRequest>,
    ) -> Answer<ChangeReply> {
        let name = request.into_inner().name;
        self.changed(format!("revoke {name}"), "it is refused from now on", "")
    }

    async fn rotate_ca(&self, _: Request<RotateCaRequest>) -> Answer<RotateCaReply> {
        Ok(Response::new(RotateCaReply {
            trusted: vec!["abcdef".to_owned()],
            ..RotateCaReply::default()
        }))
    }

    async fn show_ca(&self, _: Request<ShowCaRequest>) -> Answer<ShowCaReply> {
        let ca = TrustedCa {
            fingerprint: "abcdef".to_owned(),
            from_wall_ms: WALL_MS,
            until_wall_ms: WALL_MS + 1_000,
        };
        Ok(Response::new(ShowCaReply {
            trusted: vec![ca],
            ca_pem: "pem".to_owned(),
            not_renewed: 2,
        }))
    }

    async fn show_recovery(&self, _: Request<ShowRecoveryRequest>) -> Answer<Recovery> {
        Ok(Response::new(states::recovery()))
    }

    async fn approve_recovery(
        &self,
        request: Request<ApproveRecoveryRequest>,
    ) -> Answer<ChangeReply> {
        let ApproveRecoveryRequest { plan, reason, .. } = request.into_inner();
        self.changed(format!("approve {plan} {reason}"), "it decides again", "")
    }

    async fn create_backup(
        &self,
        _: Request<CreateBackupRequest>,
    ) -> Answer<Self::CreateBackupStream> {
        let cut_off = BackupChunk {
            data: b"{\"calvin_backup\":1,".to_vec(),
        };
        let begun = stream::iter([Ok(cut_off)]);
        if self.shared.backups_stall.load(Ordering::SeqCst) {
            self.shared.watchers.send_modify(|now| *now += 1);
            return Ok(Response::new(begun.chain(stream::pending()).boxed()));
        }
        Ok(Response::new(begun.boxed()))
    }

    async fn doctor(&self, _: Request<DoctorRequest>) -> Answer<DoctorReply> {
        let disk = DoctorCheck {
            name: "disk".to_owned(),
            ok: false,
            found: "99 % full".to_owned(),
            advice: "make room".to_owned(),
        };
        Ok(Response::new(DoctorReply { checks: vec![disk] }))
    }

    async fn pause_rollout(&self, request: Request<FleetOrderRequest>) -> Answer<ChangeReply> {
        self.ordered(
            "pause_rollout",
            &request.into_inner().fleet,
            "it is ordered",
        )
    }

    async fn resume_rollout(&self, request: Request<FleetOrderRequest>) -> Answer<ChangeReply> {
        self.ordered(
            "resume_rollout",
            &request.into_inner().fleet,
            "it is ordered",
        )
    }

    async fn promote_rollout(&self, request: Request<FleetOrderRequest>) -> Answer<ChangeReply> {
        self.ordered(
            "promote_rollout",
            &request.into_inner().fleet,
            "it is ordered",
        )
    }

    async fn pin_fleet(&self, request: Request<FleetOrderRequest>) -> Answer<ChangeReply> {
        self.ordered("pin_fleet", &request.into_inner().fleet, "it is ordered")
    }

    async fn unpin_fleet(&self, request: Request<FleetOrderRequest>) -> Answer<ChangeReply> {
        self.ordered("unpin_fleet", &request.into_inner().fleet, "it is ordered")
    }

    async fn resume_repairs(&self, request: Request<FleetOrderRequest>) -> Answer<ChangeReply> {
        self.ordered(
            "resume_repairs",
            &request.into_inner().fleet,
            "it is ordered",
        )
    }

    async fn approve_rollout(
        &self,
        request: Request<ApproveRolloutRequest>,
    ) -> Answer<ChangeReply> {
        let ApproveRolloutRequest { fleet, gate, .. } = request.into_inner();
        if fleet == "mine" {
            return Err(states::not_approved());
        }
        self.ordered(
            "approve_rollout",
            &format!("{fleet} {gate}"),
            "1 of 2 approved",
        )
    }

    async fn freeze(&self, request: Request<FreezeRequest>) -> Answer<ChangeReply> {
        let FreezeRequest {
            fleet,
            scope,
            until_wall_ms,
            reason,
        } = request.into_inner();
        let lasts = until_wall_ms.map(|until| until.saturating_sub(now_ms()).div_ceil(60_000));
        let what = format!("{fleet:?} {scope} {lasts:?} {reason}");
        self.ordered("freeze", &what, "it is frozen")
    }

    async fn unfreeze(&self, request: Request<UnfreezeRequest>) -> Answer<ChangeReply> {
        let fleet = request.into_inner().fleet;
        self.ordered("unfreeze", &format!("{fleet:?}"), "it is no longer frozen")
    }

    async fn protect_instance(
        &self,
        request: Request<InstanceOrderRequest>,
    ) -> Answer<ChangeReply> {
        self.ordered("protect", &request.into_inner().instance, "it is protected")
    }

    async fn unprotect_instance(
        &self,
        request: Request<InstanceOrderRequest>,
    ) -> Answer<ChangeReply> {
        let instance = request.into_inner().instance;
        self.ordered("unprotect", &instance, "it is no longer protected")
    }

    async fn veto_image(&self, request: Request<ImageOrderRequest>) -> Answer<ChangeReply> {
        self.ordered("veto", &request.into_inner().image, "it is vetoed")
    }

    async fn unveto_image(&self, request: Request<ImageOrderRequest>) -> Answer<ChangeReply> {
        let image = request.into_inner().image;
        self.ordered("unveto", &image, "it is no longer vetoed")
    }

    async fn lose_zone(&self, request: Request<ZoneOrderRequest>) -> Answer<ChangeReply> {
        let ZoneOrderRequest { zone, reason } = request.into_inner();
        self.ordered("lose_zone", &format!("{zone} {reason}"), "it is lost")
    }

    async fn find_zone(&self, request: Request<ZoneOrderRequest>) -> Answer<ChangeReply> {
        self.ordered("find_zone", &request.into_inner().zone, "it is back")
    }

    async fn list_zones(&self, _: Request<ListZonesRequest>) -> Answer<ListZonesReply> {
        let lost = order("the hall burns");
        let zone = Zone {
            name: "a".to_owned(),
            providers: vec!["process".to_owned()],
            fleets: vec!["web".to_owned()],
            instances: 3,
            healthy: 0,
            lost: Some(lost),
        };
        Ok(Response::new(ListZonesReply { zones: vec![zone] }))
    }
}

/// The real time, which `doctor` compares with its own.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
