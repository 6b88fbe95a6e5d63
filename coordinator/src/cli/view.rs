//! The coordinator's replies as `--output json` shows them: one struct for each message, with the
//! same field names as on the wire (`proto/calvin/v1/operator.proto` documents them), where an
//! empty text is `null` and a number of an enum is its word. Scripts rely on these names: fields
//! are added, never renamed or removed.

mod admin;
mod fleet;
mod orders;
mod plan;

pub(crate) use admin::{
    CaView, CheckView, ContextView, DoctorView, HistoryLineView, ImageView, OperatorView,
};
pub(crate) use fleet::{
    BlockedView, FleetView, InstanceView, ReportView, RolloutView, ShownFleetView, StatusView,
    WaitingView,
};
pub(crate) use orders::{FreezeView, FreezesView, OrderView, ZoneView};
#[cfg(test)]
pub(crate) use plan::WayBackView;
pub(crate) use plan::{ChangeView, PlanStepView, PlanView};

/// `None` for the wire's empty text.
fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn each<W, V: From<W>>(items: Vec<W>) -> Vec<V> {
    items.into_iter().map(V::from).collect()
}
