//! The certificate authority that a datacenter has for its own clients (the documentation's "Connect CA
//! HTTP API").

use serde::Deserialize;

use crate::{
    client::Client,
    error::{Error, Reason},
    request::Request,
};

/// What servers say whose configuration has no `connect` (`agent/structs/errors.go`).
const DISABLED: &str = "Connect must be enabled";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Roots {
    #[serde(default)]
    trust_domain: String,
}

impl Client {
    /// What the certificates that the datacenter gives out are for: made with its first leader, the same
    /// for as long as its servers keep their data, and another one after they lost all of it. Nothing
    /// where the datacenter gives out none. Needs no rule.
    ///
    /// # Errors
    /// Where it could not be asked.
    pub async fn trust_domain(&self) -> Result<Option<String>, Error> {
        let request = Request::get("read the datacenter's authority", "/v1/connect/ca/roots");
        let answer = match self.call(request).await {
            Err(error) if is_disabled(&error) => return Ok(None),
            answer => answer?,
        };
        let Roots { trust_domain } = answer.exactly()?;
        Ok(Some(trust_domain).filter(|domain| !domain.is_empty()))
    }
}

fn is_disabled(error: &Error) -> bool {
    matches!(&error.reason, Reason::Failed { text, .. } if text.contains(DISABLED))
}
