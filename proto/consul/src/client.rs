//! One Consul agent or server, asked over one HTTP client that rs-consul shares.
//!
//! Token and certificates are replaced in place: whoever holds a [`Client`] goes on with it, and so
//! do requests that wait. New certificates take a new pool of connections; what runs on the old one
//! ends there.

mod pools;

use std::{
    error::Error as StdError,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, combinators::BoxBody};
use hyper::body::Incoming;
use rs_consul::{Config, Consul, ConsulBuilder, ConsulError, HttpsClient};
use tokio::time::{error::Elapsed, timeout};

use self::pools::{Body, Clients, is_unsent, send};
use crate::{
    error::{Error, Reason, classify},
    request::{Answer, Request},
    tls::{Tls, TlsError},
};

/// Head and body of an answer.
type Read = (http::response::Parts, Bytes);

/// Bytes of one answer. 10,000 instances of one service, 3 kB each with their checks, are half of it.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// Kept connections that one query may find closed, one after the other.
const CLOSED_MAX: u32 = 8;
/// Longest token. Consul's are UUIDs; what an operator chose himself may be longer.
const TOKEN_MAX: usize = 256;

/// Where Consul is: `http://127.0.0.1:8500`, `https://consul.example:8501`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

/// The secret of an ACL token. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

/// How one Consul is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where.
    pub address: Address,
    /// Longest time for one request, from the connection to the last byte; those that wait are
    /// given this much more than they wait.
    pub timeout: Duration,
    /// TLS; needed for `https`.
    pub tls: Option<Tls>,
    /// The token. Without it Consul takes its own default token or the anonymous one.
    pub token: Option<Token>,
}

/// Why there can be no client with these settings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Not the address of an HTTP server.
    #[error(
        "{text:?} is not an address of Consul: it must be http://HOST:PORT or https://HOST:PORT"
    )]
    Address {
        /// The text.
        text: String,
    },
    /// The token holds what no HTTP header may hold. It is not shown.
    #[error("the token is empty, over-long or holds characters that no token has")]
    Token,
    /// Certificates or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl FromStr for Address {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<Self, SetupError> {
        let bad = || SetupError::Address {
            text: text.chars().take(80).collect(),
        };
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().ok_or_else(bad)?;
        let bare = !authority.host().is_empty()
            && uri.path() == "/"
            && uri.query().is_none()
            && !authority.as_str().contains('@');
        if !matches!(scheme, "http" | "https") || !bare || authority.port_u16().is_none() {
            return Err(bad());
        }
        Ok(Self(format!("{scheme}://{authority}")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Token {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<Self, SetupError> {
        if text.is_empty() || text.len() > TOKEN_MAX || !text.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(SetupError::Token);
        }
        let mut value = HeaderValue::from_str(text).map_err(|_| SetupError::Token)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Token {
    /// The secret itself, to hand it to whom it is for.
    #[must_use]
    pub fn secret(&self) -> &str {
        // Made from visible ASCII, so it is text.
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A client of one Consul agent or server. Clones are the same client.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    address: Address,
    timeout: Duration,
    current: ArcSwap<Transport>,
    /// Held by who replaces the token or the certificates, so that neither undoes the other.
    replacing: Mutex<()>,
}

struct Transport {
    https: HttpsClient,
    waiting: HttpsClient,
    /// The given client over the same connections, for what it does right.
    given: Consul,
    token: Option<Token>,
}

impl Transport {
    fn new(address: &Address, clients: Clients, token: Option<Token>) -> Self {
        let Clients { https, waiting } = clients;
        let config = Config {
            address: address.0.clone(),
            token: token.as_ref().map(|token| token.secret().to_owned()),
            ..Config::default()
        };
        let given = ConsulBuilder::new(config)
            .with_https_client(https.clone())
            .build();
        Self {
            https,
            waiting,
            given,
            token,
        }
    }

    fn clients(&self) -> Clients {
        Clients {
            https: self.https.clone(),
            waiting: self.waiting.clone(),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.shared.address)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// Where certificates or key cannot be used.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let clients = Clients::new(settings.tls.as_ref(), settings.timeout)?;
        let transport = Transport::new(&settings.address, clients, settings.token);
        Ok(Self {
            shared: Arc::new(Shared {
                address: settings.address,
                timeout: settings.timeout,
                current: ArcSwap::from_pointee(transport),
                replacing: Mutex::new(()),
            }),
        })
    }

    /// Whom it asks.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// Takes another token from the next request on.
    pub fn set_token(&self, token: Option<Token>) {
        let _alone = self.alone();
        let current = self.shared.current.load_full();
        let next = Transport::new(&self.shared.address, current.clients(), token);
        self.shared.current.store(Arc::new(next));
    }

    /// Takes other certificates from the next connection on; no later request uses an old one.
    ///
    /// # Errors
    /// Where they cannot be used. The old ones stay then.
    pub fn reload_tls(&self, tls: &Tls) -> Result<(), SetupError> {
        let clients = Clients::new(Some(tls), self.shared.timeout)?;
        let _alone = self.alone();
        let token = self.shared.current.load().token.clone();
        let next = Transport::new(&self.shared.address, clients, token);
        self.shared.current.store(Arc::new(next));
        Ok(())
    }

    fn alone(&self) -> std::sync::MutexGuard<'_, ()> {
        // It guards nothing that could be left half done.
        self.shared
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and gives the answer whatever its status.
    pub(crate) async fn ask(&self, request: Request) -> Result<Answer, Error> {
        let transport = self.shared.current.load_full();
        let talk = async {
            let built = self.build(&transport, &request)?;
            let response = transport.https.request(built).await;
            let response = response.map_err(|error| self.unreachable(Box::new(error)))?;
            self.read(response).await
        };
        let limit = request.limit.unwrap_or(self.shared.timeout);
        let answer = timeout(limit, talk).await;
        answered(&request.tried, limit, answer)
    }

    /// Asks as a watch does. A query that waits must be on its way within `within`: later there may be
    /// a server that was begun anew, which would let it wait for another one's number to its end. None
    /// where it is not; nobody has seen it then.
    pub(crate) async fn ask_watching(
        &self,
        request: Request,
        within: Option<Duration>,
    ) -> Result<Option<Answer>, Error> {
        let transport = self.shared.current.load_full();
        let talk = async {
            let mut tries = CLOSED_MAX;
            loop {
                let built = self.build(&transport, &request)?;
                match send(&transport.waiting, built, within).await {
                    Ok(Some(response)) => return self.read(response).await.map(Some),
                    Ok(None) => return Ok(None),
                    Err(error) if is_unsent(&error) && within.is_some() => return Ok(None),
                    Err(error) if is_unsent(&error) && tries > 0 => tries -= 1,
                    Err(error) => return Err(self.unreachable(Box::new(error))),
                }
            }
        };
        let limit = request.limit.unwrap_or(self.shared.timeout);
        match timeout(limit, talk).await {
            Ok(Ok(None)) => Ok(None),
            Ok(Ok(Some(read))) => answered(&request.tried, limit, Ok(Ok(read))).map(Some),
            Ok(Err(reason)) => Err(Error::new(request.tried, reason)),
            Err(late) => answered(&request.tried, limit, Err(late)).map(Some),
        }
    }

    fn build(
        &self,
        transport: &Transport,
        request: &Request,
    ) -> Result<http::Request<Body>, Reason> {
        let mut builder = http::Request::builder()
            .method(request.method.clone())
            .uri(format!("{}{}", self.shared.address, request.target))
            .header(http::header::USER_AGENT, "calvin-consul");
        if let Some(token) = &transport.token {
            builder = builder.header("x-consul-token", token.0.clone());
        }
        let body = BoxBody::new(Full::new(request.body.clone()));
        let built = builder.body(body);
        built.map_err(|error| Reason::Answer(Box::new(error)))
    }

    async fn read(&self, response: http::Response<Incoming>) -> Result<Read, Reason> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(too_long) => Reason::Answer(too_long),
            Err(error) => self.unreachable(error),
        })?;
        Ok((head, body.to_bytes()))
    }

    /// Asks, and gives the answer if it is a success.
    pub(crate) async fn call(&self, request: Request) -> Result<Answer, Error> {
        self.ask(request).await?.success()
    }

    /// Asks by the given client, within this crate's limit and with this crate's errors.
    pub(crate) async fn given<T>(
        &self,
        tried: String,
        ask: impl AsyncFnOnce(&Consul) -> Result<T, ConsulError>,
    ) -> Result<T, Error> {
        let limit = self.shared.timeout;
        let transport = self.shared.current.load_full();
        match timeout(limit, ask(&transport.given)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Error::new(tried, self.reason(error))),
            Err(_) => Err(Error::new(tried, Reason::TimedOut { limit })),
        }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.shared.timeout
    }

    fn unreachable(&self, source: Box<dyn StdError + Send + Sync>) -> Reason {
        if answered_unasked(&*source) {
            let text = "too many connections from this address (limits.http_max_conns_per_client)";
            return Reason::RateLimited {
                text: text.to_owned(),
            };
        }
        Reason::Unreachable {
            address: self.shared.address.to_string(),
            source,
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of the given client's errors only these say something that one acts on"
    )]
    fn reason(&self, error: ConsulError) -> Reason {
        match error {
            ConsulError::UnexpectedResponseCode(status, text) => {
                classify(status.as_u16(), text.unwrap_or_default().as_bytes())
            }
            ConsulError::TimeoutExceeded(limit) => Reason::TimedOut { limit },
            ConsulError::ResponseError(error) => self.unreachable(Box::new(error)),
            ConsulError::InvalidResponse(error) => self.unreachable(Box::new(error)),
            other => Reason::Answer(Box::new(other)),
        }
    }
}

/// The answer, or why there is none.
fn answered(
    tried: &str,
    limit: Duration,
    read: Result<Result<Read, Reason>, Elapsed>,
) -> Result<Answer, Error> {
    match read {
        Ok(Ok((head, body))) => Ok(Answer::new(
            tried.to_owned(),
            head.status,
            &head.headers,
            body,
        )),
        Ok(Err(reason)) => Err(Error::new(tried, reason)),
        Err(_) => Err(Error::new(tried, Reason::TimedOut { limit })),
    }
}

/// Whether the other side answered before it was asked: over TLS, Consul says so that there are too
/// many connections from one address (`connlimit` in `agent/agent.go`), and hyper takes no such answer.
fn answered_unasked(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let hyper = error.downcast_ref::<hyper::Error>();
        if hyper.is_some_and(|error| error.to_string().contains("unexpected message")) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for good in [
            "http://127.0.0.1:8500",
            "https://[::1]:8501",
            "https://a.b:1/",
        ] {
            good.parse::<Address>().unwrap();
        }
        for bad in [
            "",
            "127.0.0.1:8500",
            "ftp://a:1",
            "http://a",
            "http://a:1/v1",
            "http://a:1?x",
            "http://user:secret@a:1",
            "http://:1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let token: Token = "5c1f-secret".parse().unwrap();
        assert!(!format!("{token:?}").contains("secret"));
        for bad in ["", "a b", "a\nb", "ä", &"a".repeat(257)] {
            let error = bad.parse::<Token>().unwrap_err();
            assert!(bad.is_empty() || !error.to_string().contains(bad));
        }
    }
}
