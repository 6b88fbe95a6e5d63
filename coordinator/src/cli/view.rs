//! The coordinator's replies as `--output json` shows them: one struct for each message, with the
//! same field names as on the wire (`proto/calvin/v1/operator.proto` documents them), where an
//! empty text is `null` and a number of an enum is its word. Scripts rely on these names: fields
//! are added, never renamed or removed.

mod admin;
mod fleet;
mod orders;
mod plan;
mod recovery;
mod simulate;

pub(crate) use admin::{
    CaView, CheckView, ContextView, DoctorView, HistoryLineView, ImageView, OperatorView,
};
pub(crate) use fleet::{
    BlockedView, FleetView, GapView, InstanceView, ReportView, RestsOnView, RolloutView,
    ShownFleetView, StatusView, WaitingView,
};
pub(crate) use orders::{FreezeView, FreezesView, GateView, OrderView, ZoneView};
#[cfg(test)]
pub(crate) use orders::{LostZoneView, PauseView};
#[cfg(test)]
pub(crate) use plan::WayBackView;
pub(crate) use plan::{ChangeView, PlanStepView, PlanView};
#[cfg(test)]
pub(crate) use recovery::BackedUpFleetView;
pub(crate) use recovery::{BackupView, FindingView, RecoveryView};
#[cfg(test)]
pub(crate) use simulate::{AnswerView, PhaseTimeView, ViolationView};
pub(crate) use simulate::{
    FleetForecastView, ForecastView, ForecastsView, MomentView, SeedsView, ShortestView,
};

/// `None` for the wire's empty text.
fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn each<W, V: From<W>>(items: Vec<W>) -> Vec<V> {
    items.into_iter().map(V::from).collect()
}
