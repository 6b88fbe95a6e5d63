//! ACL tokens and policies (the documentation's "ACL HTTP API").

use std::time::Duration;

use rs_consul::CreateACLPolicyRequest;
use serde::{Deserialize, Serialize};

use crate::{
    client::{Client, Token},
    error::{Error, Reason},
    names::{InvalidName, Problem, check_id, check_node, check_service, check_text, check_uuid},
    query::go_duration,
    request::Request,
};

/// Shortest life of a token that expires (Consul's `acl.token_min_expiration_ttl` as it comes).
pub const EXPIRATION_MIN: Duration = Duration::from_secs(60);
/// Longest (Consul's `acl.token_max_expiration_ttl` as it comes).
pub const EXPIRATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// A policy by its name or id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyLink {
    /// Its id; Consul fills it in.
    #[serde(rename = "ID", default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its name.
    pub name: String,
}

/// All that the Consul agent of one node needs: `node:write` on it, `service:read` on all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeIdentity {
    /// The node.
    pub node_name: String,
    /// The datacenter.
    pub datacenter: String,
}

/// All that one service needs: `service:write` on it, `service:read` and `node:read` on all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceIdentity {
    /// The service.
    pub service_name: String,
    /// In which datacenters; everywhere, or that of a local token, where it is empty.
    #[serde(default, deserialize_with = "crate::catalog::or_default")]
    pub datacenters: Vec<String>,
}

/// A token to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenRequest {
    /// Its accessor, so that a second try cannot make a second token; Consul makes one where it is none.
    pub accessor: Option<String>,
    /// Its secret, a UUID, where whoever asks for it must know it even if the answer gets lost; Consul
    /// makes one where it is none.
    pub secret: Option<Token>,
    /// What it is for.
    pub description: String,
    /// Names of policies.
    pub policies: Vec<String>,
    /// The nodes whose Consul agents it is for.
    pub node_identities: Vec<NodeIdentity>,
    /// The services that it is for.
    pub service_identities: Vec<ServiceIdentity>,
    /// Whether it holds in this datacenter only.
    pub local: bool,
    /// After which time it goes by itself.
    pub expires: Option<Duration>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TokenInfo {
    /// Names it without giving it away.
    #[serde(rename = "AccessorID")]
    pub accessor: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Its policies.
    #[serde(default, deserialize_with = "crate::catalog::or_default")]
    pub policies: Vec<PolicyLink>,
    /// Its node identities.
    #[serde(default, deserialize_with = "crate::catalog::or_default")]
    pub node_identities: Vec<NodeIdentity>,
    /// Its service identities.
    #[serde(default, deserialize_with = "crate::catalog::or_default")]
    pub service_identities: Vec<ServiceIdentity>,
    /// Whether it holds in its datacenter only.
    #[serde(default)]
    pub local: bool,
}

/// A token that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// What it is.
    pub info: TokenInfo,
    /// Its secret; shown to nobody else.
    pub secret: Token,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Its rules as HCL.
    #[serde(default)]
    pub rules: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreateToken<'a> {
    #[serde(rename = "AccessorID", skip_serializing_if = "Option::is_none")]
    accessor: Option<&'a str>,
    #[serde(rename = "SecretID", skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    description: &'a str,
    policies: Vec<PolicyLink>,
    node_identities: &'a [NodeIdentity],
    service_identities: &'a [ServiceIdentity],
    local: bool,
    #[serde(rename = "ExpirationTTL", skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    #[serde(rename = "SecretID")]
    secret: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WritePolicy<'a> {
    name: &'a str,
    description: &'a str,
    rules: &'a str,
}

impl<'a> CreateToken<'a> {
    fn of(token: &'a TokenRequest) -> Self {
        let link = |name: &String| PolicyLink {
            id: String::new(),
            name: name.clone(),
        };
        Self {
            accessor: token.accessor.as_deref(),
            secret: token.secret.as_ref().map(Token::secret),
            description: &token.description,
            policies: token.policies.iter().map(link).collect(),
            node_identities: &token.node_identities,
            service_identities: &token.service_identities,
            local: token.local,
            expires: token.expires.map(go_duration),
        }
    }
}

/// Checks the name of a policy: letters, digits, hyphen and underscore, at most 128 (Consul's own rule).
fn check_policy(name: &str) -> Result<(), InvalidName> {
    check_id("policy name", name)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.len() > 128 || !name.chars().all(plain) {
        return Err(InvalidName {
            kind: "policy name",
            text: name.to_owned(),
            problem: Problem::Rule(
                "may hold only a-z, A-Z, 0-9, hyphen and underscore, at most 128",
            ),
        });
    }
    Ok(())
}

impl TokenRequest {
    /// Whether all of it can be sent.
    ///
    /// # Errors
    /// The first name or duration that cannot.
    pub fn check(&self) -> Result<(), InvalidName> {
        if let Some(accessor) = &self.accessor {
            check_uuid("accessor", accessor)?;
        }
        if let Some(secret) = &self.secret
            && check_uuid("secret", secret.secret()).is_err()
        {
            return Err(InvalidName {
                kind: "secret of a token",
                // It is never shown.
                text: "(not shown)".to_owned(),
                problem: Problem::Rule("is not a UUID, which is all that Consul takes"),
            });
        }
        check_text("description", &self.description)?;
        for name in &self.policies {
            check_policy(name)?;
        }
        for identity in &self.node_identities {
            check_node(&identity.node_name)?;
            check_id("datacenter", &identity.datacenter)?;
        }
        for identity in &self.service_identities {
            check_service(&identity.service_name)?;
            if self.local && !identity.datacenters.is_empty() {
                return Err(InvalidName {
                    kind: "service identity",
                    text: identity.service_name.clone(),
                    problem: Problem::Rule("must not name datacenters: the token is local"),
                });
            }
        }
        if let Some(expires) = self.expires
            && !(EXPIRATION_MIN..=EXPIRATION_MAX).contains(&expires)
        {
            return Err(InvalidName {
                kind: "life of a token",
                text: format!("{expires:?}"),
                problem: Problem::Rule("must be from 1 min to 24 h"),
            });
        }
        Ok(())
    }
}

impl Client {
    /// Makes a token. Needs `acl:write`.
    ///
    /// # Errors
    /// Where a name is none, or Consul does not do it; also where the accessor is taken.
    pub async fn token_create(&self, token: &TokenRequest) -> Result<NewToken, Error> {
        let tried = format!("make the token {:?}", token.description);
        token.check().map_err(|error| Error::new(&tried, error))?;
        let request = Request::put(tried, "/v1/acl/token").json(&CreateToken::of(token))?;
        let answer = self.call(request).await?;
        let secret: Secret = answer.exactly()?;
        let info = answer.exactly()?;
        let secret = secret
            .secret
            .parse()
            .map_err(|error| Error::new(answer.tried.clone(), Reason::Answer(Box::new(error))))?;
        Ok(NewToken { info, secret })
    }

    /// Gives the token with this accessor the policies and identities of `token`, all of them. Its secret
    /// and its life stay. Needs `acl:write`.
    ///
    /// # Errors
    /// Where a name is none, there is no such token, or Consul does not do it.
    pub async fn token_update(&self, accessor: &str, token: &TokenRequest) -> Result<(), Error> {
        let tried = format!("change the token {:?}", token.description);
        let checked = check_uuid("accessor", accessor).and_then(|()| token.check());
        checked.map_err(|error| Error::new(&tried, error))?;
        let request = Request::put(tried, "/v1/acl/token")
            .segment(accessor)
            .json(&CreateToken {
                accessor: Some(accessor),
                secret: None,
                expires: None,
                ..CreateToken::of(token)
            })?;
        self.call(request).await.map(drop)
    }

    /// A token by its accessor; none where there is none: so it is read back as gone. Needs `acl:read`.
    ///
    /// # Errors
    /// Where Consul does not answer.
    pub async fn token(&self, accessor: &str) -> Result<Option<TokenInfo>, Error> {
        let tried = format!("read token {accessor}");
        check_uuid("accessor", accessor).map_err(|error| Error::new(&tried, error))?;
        // From the leader, which asks the others: what is revoked must not seem to live, nor the other
        // way round.
        let request = Request::get(tried, "/v1/acl/token")
            .segment(accessor)
            .flag("consistent");
        match self.ask(request).await?.found() {
            Ok(None) => Ok(None),
            Ok(Some(answer)) => answer.exactly().map(Some),
            // Consul says the same of a token that is asked after and of one that asks: is it ours?
            Err(error) if matches!(error.reason, Reason::UnknownToken) => {
                self.token_self().await.map(|_| None)
            }
            Err(error) => Err(error),
        }
    }

    /// All tokens. Needs `acl:read`.
    ///
    /// # Errors
    /// Where Consul does not answer.
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>, Error> {
        let request = Request::get("list the tokens", "/v1/acl/tokens").flag("consistent");
        self.call(request).await?.json()
    }

    /// The token of this client itself. Needs no rule.
    ///
    /// # Errors
    /// Where Consul does not answer, or does not know the token.
    pub async fn token_self(&self) -> Result<TokenInfo, Error> {
        let request = Request::get("read the own token", "/v1/acl/token/self");
        self.call(request).await?.exactly()
    }

    /// Revokes a token. One that is gone is taken for done. Needs `acl:write`.
    ///
    /// # Errors
    /// Where Consul does not do it.
    pub async fn token_revoke(&self, accessor: &str) -> Result<(), Error> {
        let tried = format!("revoke token {accessor}");
        check_uuid("accessor", accessor).map_err(|error| Error::new(&tried, error))?;
        let request = Request::delete(tried, "/v1/acl/token").segment(accessor);
        self.ask(request).await?.found().map(drop)
    }

    /// Makes a policy. Needs `acl:write`.
    ///
    /// # Errors
    /// Where its name is none or taken, or Consul does not understand its rules.
    pub async fn policy_create(
        &self,
        name: &str,
        description: &str,
        rules: &str,
    ) -> Result<(), Error> {
        let tried = format!("make policy {name}");
        check_policy(name).map_err(|error| Error::new(&tried, error))?;
        check_text("description", description).map_err(|error| Error::new(&tried, error))?;
        let policy = CreateACLPolicyRequest {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            rules: Some(rules.to_owned()),
        };
        self.given(tried, async |given| given.create_acl_policy(&policy).await)
            .await
            .map(drop)
    }

    /// A policy by its name; none where there is none. Needs `acl:read`.
    ///
    /// # Errors
    /// Where the name is none, or Consul does not answer.
    pub async fn policy(&self, name: &str) -> Result<Option<Policy>, Error> {
        let tried = format!("read policy {name}");
        check_policy(name).map_err(|error| Error::new(&tried, error))?;
        let request = Request::get(tried, "/v1/acl/policy/name").segment(name);
        match self.ask(request).await?.found()? {
            None => Ok(None),
            Some(answer) => answer.exactly().map(Some),
        }
    }

    /// Gives a policy other rules. Needs `acl:write`.
    ///
    /// # Errors
    /// Where Consul does not understand them, or does not do it.
    pub async fn policy_update(&self, policy: &Policy, rules: &str) -> Result<(), Error> {
        let tried = format!("change policy {}", policy.name);
        check_uuid("policy id", &policy.id).map_err(|error| Error::new(&tried, error))?;
        let request = Request::put(tried, "/v1/acl/policy")
            .segment(&policy.id)
            .json(&WritePolicy {
                name: &policy.name,
                description: &policy.description,
                rules,
            })?;
        self.call(request).await.map(drop)
    }

    /// Deletes a policy. Needs `acl:write`.
    ///
    /// # Errors
    /// Where Consul does not do it.
    pub async fn policy_delete(&self, policy: &Policy) -> Result<(), Error> {
        let tried = format!("delete policy {}", policy.name);
        check_uuid("policy id", &policy.id).map_err(|error| Error::new(&tried, error))?;
        let id = policy.id.clone();
        self.given(tried, async |given| given.delete_acl_policy(id).await)
            .await
    }
}
