//! What the agent does for a machine that is being stopped: its services leave Consul, and the runner,
//! which waits for that before it ends the workload, hears of it.

use std::{future::pending, time::Duration};

use calvin_model::{CatalogueRole, ConsulReport};
use calvin_proto::convert::RegistrationOrder;
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use crate::{fault::chain, workload::Runner};

/// Time for those who look names up to hear of it: proxies ask Consul's DNS once a second as a rule.
const HEARD: Duration = Duration::from_secs(1);

/// Waits for the stop, and then for the end of the registration; says so to the runner.
pub(super) async fn say_when_not_found(
    runner: Runner,
    mut report: watch::Receiver<Option<ConsulReport>>,
    registration: watch::Receiver<Option<RegistrationOrder>>,
) {
    let mut states = runner.state();
    let stops = states.wait_for(|state| state.as_ref().is_some_and(|state| state.stopping));
    if stops.await.is_err() {
        return pending().await;
    }
    let is_absent = |report: &Option<ConsulReport>| {
        let registered = report.as_ref().and_then(|report| report.registered);
        registered == Some(CatalogueRole::Absent)
    };
    let never_told = registration.borrow().is_none();
    if !never_told && !is_absent(&report.borrow()) {
        info!("the machine is being stopped: takes its services out of Consul");
        if report.wait_for(is_absent).await.is_err() {
            return pending().await;
        }
        sleep(HEARD).await;
    }
    if let Err(error) = runner.not_found().await {
        warn!(
            error = chain(&error),
            "the runner takes no word of the stop"
        );
    }
    // A task ends with its agent only.
    pending().await
}
