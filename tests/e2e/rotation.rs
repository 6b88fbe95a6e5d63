//! The environment's CA is replaced while machines live on.

use calvin_proto::wire::{RotateCaRequest, ShowCaRequest};

use crate::support::{Environment, waiting::until};

#[tokio::test]
async fn machines_outlive_the_ca_that_they_were_made_under() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let before = environment.processes("web", "init");
    for _ in 0..2 {
        let mut client = environment.operator.client.clone();
        client.rotate_ca(RotateCaRequest {}).await.unwrap();
        // All renew within 20 s, and only then is the old one dropped.
        until("the old CA to be dropped", async || {
            let shown = client.show_ca(ShowCaRequest {}).await;
            let shown = shown.map_err(|status| status.to_string())?.into_inner();
            if shown.trusted.len() == 1 {
                Ok(())
            } else {
                Err(format!("{shown:?}"))
            }
        })
        .await;
        // Each comes again with what it has now.
        let healthy = |id: &str, status: &calvin_proto::wire::FleetStatus| {
            let mut all = status.instances.iter();
            all.any(|one| one.id == id && one.class == "healthy")
        };
        environment
            .until_fleet("web", "every machine to be let in", |status| {
                before.keys().all(|id| healthy(id, status))
            })
            .await;
    }
    let refused = environment.log().matches("what=\"handshake\"").count();
    assert_eq!(refused, 0, "{}", environment.log());
    environment.assert_nothing_failed().await;
    assert_eq!(environment.processes("web", "init"), before);
}
