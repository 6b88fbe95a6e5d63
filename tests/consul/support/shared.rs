//! One datacenter for all tests that leave it as it is: a server, and a Consul client on a node of its
//! own. Each test takes other names.

use std::{
    sync::{OnceLock, mpsc},
    thread,
};

use serde_json::json;

use super::Datacenter;

/// The node of the Consul client.
pub(crate) const NODE: &str = "calvin-node-1";

/// The datacenter. Its processes belong to a thread that lives as long as this program does: the
/// kernel ends them with it.
pub(crate) fn shared() -> &'static Datacenter {
    static SHARED: OnceLock<Datacenter> = OnceLock::new();
    SHARED.get_or_init(|| {
        let (give, take) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let datacenter = runtime.block_on(async {
                let mut datacenter = Datacenter::start(1, json!({})).await;
                datacenter.add_agent(NODE).await;
                datacenter
            });
            give.send(datacenter).unwrap();
            loop {
                thread::park();
            }
        });
        take.recv().expect("the shared datacenter starts")
    })
}
