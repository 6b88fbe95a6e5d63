//! One session on one connection.

use std::{error::Error as _, net::SocketAddr, sync::Arc, time::Duration};

use calvin_model::{Epoch, Report};
use calvin_proto::{
    convert::{ConvertError, FromAgent, Hello, ToAgent, Welcome},
    limits,
    transport::{explain_status, services::session_client},
    wire,
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::WatchStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tracing::{info, warn};

use super::{Renewed, Seen, Session, SessionEvent};
use crate::{clock::wall_ms, identity::Identity};

/// Time for the coordinator's welcome: a round trip, and its queue when a whole environment
/// comes back at once.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The call ended, by the coordinator or by a limit of ours.
    #[error("the call ended ({code:?}): {words}")]
    Ended {
        /// Its code.
        code: Code,
        /// Its reason.
        words: String,
    },
    /// The connection broke.
    #[error("the connection broke: {words}")]
    Broken {
        /// How.
        words: String,
    },
    /// The coordinator closed it.
    #[error("the coordinator closed it")]
    Closed,
    /// No welcome came in time.
    #[error("no welcome came within {WELCOME_TIMEOUT:?}")]
    NoWelcome,
    /// The first message was another, or a welcome came again.
    #[error("the coordinator sent {what} {place}")]
    Order {
        /// What came.
        what: &'static str,
        /// When.
        place: &'static str,
    },
    /// A message that this version does not understand.
    #[error("a message of the coordinator is refused")]
    Message(#[from] ConvertError),
    /// No common protocol.
    #[error("the coordinator chose protocol {chosen}, this agent speaks {min} to {max}", min = limits::PROTOCOL_MIN, max = limits::PROTOCOL_MAX)]
    Protocol {
        /// What it chose.
        chosen: u32,
    },
    /// The lifecycle does not listen to this coordinator.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The agent is ending.
    #[error("the agent is ending")]
    Ending,
}

impl Session {
    pub(super) async fn converse(
        &mut self,
        channel: Channel,
        address: SocketAddr,
        identity: &Arc<Identity>,
    ) -> Result<Renewed, SessionError> {
        self.refuse.mark_unchanged();
        let deadline = Instant::now() + WELCOME_TIMEOUT;
        let said = (Instant::now(), wall_ms());
        let (_open, closed) = oneshot::channel();
        let outbound = outbound(self.hello(said.1), self.reports.clone(), closed);
        let mut client = session_client(channel);
        let call = timeout_at(deadline, client.session(outbound));
        let mut inbound = call
            .await
            .map_err(|_| SessionError::NoWelcome)?
            .map_err(call_failed)?
            .into_inner();
        let first = timeout_at(deadline, next(&mut inbound))
            .await
            .map_err(|_| SessionError::NoWelcome)??;
        let welcome = welcome_of(first)?;
        let clock_offset_ms = clock_offset(said.0, &welcome);
        let epoch = welcome.epoch.clone();
        self.bring(SessionEvent::Up {
            welcome,
            clock_offset_ms,
        })
        .await?;
        self.until_accepted(&epoch).await?;
        info!(%address, %epoch, clock_offset_ms, "has a session");
        self.status.send_modify(|status| {
            status.coordinator = Some(address);
            status.fault = None;
        });
        self.listen(&mut inbound, identity, &epoch).await
    }

    /// Waits until the lifecycle has judged who speaks. Names and CA do not pass through it, so
    /// that nothing may be read of a coordinator that was replaced. It is waited for also when the
    /// connection breaks meanwhile: what was seen is then up to date for the next session.
    async fn until_accepted(&mut self, epoch: &Epoch) -> Result<(), SessionError> {
        let listens = |seen: &Seen| seen.epoch.as_ref() == Some(epoch);
        tokio::select! {
            seen = self.seen.wait_for(listens) => {
                return seen.map(drop).map_err(|_| SessionError::Ending);
            }
            refused = self.refuse.changed() => refused.map_err(|_| SessionError::Ending)?,
        }
        Err(self.refused())
    }

    fn refused(&mut self) -> SessionError {
        let reason = self.refuse.borrow_and_update().clone();
        SessionError::Refused {
            reason: reason.unwrap_or_default(),
        }
    }

    async fn listen(
        &mut self,
        inbound: &mut Streaming<wire::ToAgent>,
        identity: &Arc<Identity>,
        epoch: &Epoch,
    ) -> Result<Renewed, SessionError> {
        loop {
            tokio::select! {
                message = next(inbound) => self.take(message?, epoch).await?,
                refused = self.refuse.changed() => {
                    refused.map_err(|_| SessionError::Ending)?;
                    return Err(self.refused());
                }
                renewed = another(&mut self.identity, identity) => return renewed,
            }
        }
    }

    async fn take(&self, message: ToAgent, epoch: &Epoch) -> Result<(), SessionError> {
        match message {
            ToAgent::Welcome(_) => Err(SessionError::Order {
                what: "a welcome",
                place: "twice",
            }),
            ToAgent::Wanted(order) => self.bring(SessionEvent::Wanted(order)).await,
            ToAgent::Names(names) => {
                self.names.send_replace(Some(Arc::new(names)));
                Ok(())
            }
            ToAgent::Trust(trust) => {
                self.trust.send_replace(Some(trust));
                Ok(())
            }
            ToAgent::Join(join) => {
                replace(&self.join, join);
                Ok(())
            }
            ToAgent::Registration(order) => {
                // Whose session this is was judged; it speaks for nobody else.
                if order.epoch == *epoch {
                    replace(&self.registration, order);
                } else {
                    let spoken = &order.epoch;
                    warn!(%spoken, session = %epoch, "refused another coordinator's registration");
                }
                Ok(())
            }
        }
    }

    async fn bring(&self, event: SessionEvent) -> Result<(), SessionError> {
        let sent = self.events.send(event).await;
        sent.map_err(|_| SessionError::Ending)
    }

    fn hello(&self, wall_ms: u64) -> Hello {
        let speaker = &self.speaker;
        let seen = self.seen.borrow().clone();
        Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: limits::PROTOCOL_MIN..=limits::PROTOCOL_MAX,
            capabilities: speaker.capabilities.clone(),
            boot: speaker.boot.clone(),
            build: speaker.build.clone(),
            manifest: speaker.manifest.clone(),
            epoch_seen: seen.epoch,
            generation_seen: seen.generation,
            environment: speaker.provision.environment.clone(),
            instance: speaker.provision.instance.clone(),
            wall_ms,
            role_applied: seen.role,
            health: seen.health,
        }
    }
}

/// Replaces what was said last, if it is another.
fn replace<T: PartialEq>(last: &watch::Sender<Option<T>>, new: T) {
    last.send_if_modified(|last| {
        let changed = last.as_ref() != Some(&new);
        *last = Some(new);
        changed
    });
}

/// Waits until there is another identity than `used`.
async fn another(
    identity: &mut watch::Receiver<Option<Arc<Identity>>>,
    used: &Arc<Identity>,
) -> Result<Renewed, SessionError> {
    let is_other = |newest: &Option<Arc<Identity>>| {
        newest
            .as_ref()
            .is_some_and(|newest| !Arc::ptr_eq(newest, used))
    };
    let found = identity.wait_for(is_other).await;
    found.map(|_| Renewed).map_err(|_| SessionError::Ending)
}

/// Hello, then each newest report: one that was not sent before a newer came is left out.
///
/// It ends when the other end of `closed` is dropped: a request's stream that goes on keeps its
/// connection, and with it the session at the coordinator, also when nobody reads the answers.
fn outbound(
    hello: Hello,
    mut reports: watch::Receiver<Option<Report>>,
    closed: oneshot::Receiver<()>,
) -> impl Stream<Item = wire::FromAgent> + Send + 'static {
    let hello = wire::FromAgent::from(&FromAgent::Hello(hello));
    // What was said before was said to another session.
    reports.mark_unchanged();
    let reports = WatchStream::from_changes(reports).filter_map(|report| async move {
        report.map(|report| wire::FromAgent::from(&FromAgent::Report(report)))
    });
    stream::once(async { hello })
        .chain(reports)
        .take_until(closed)
}

async fn next(inbound: &mut Streaming<wire::ToAgent>) -> Result<ToAgent, SessionError> {
    let message = inbound.message().await.map_err(call_failed)?;
    Ok(message.ok_or(SessionError::Closed)?.try_into()?)
}

fn welcome_of(first: ToAgent) -> Result<Welcome, SessionError> {
    let what = match first {
        ToAgent::Welcome(welcome) => {
            let chosen = welcome.protocol;
            if !(limits::PROTOCOL_MIN..=limits::PROTOCOL_MAX).contains(&chosen) {
                return Err(SessionError::Protocol { chosen });
            }
            return Ok(welcome);
        }
        ToAgent::Wanted(_) => "a wanted state",
        ToAgent::Names(_) => "names",
        ToAgent::Trust(_) => "CA certificates",
        ToAgent::Join(_) => "how to join",
        ToAgent::Registration(_) => "a registration",
    };
    Err(SessionError::Order {
        what,
        place: "before its welcome",
    })
}

/// This machine's wall clock minus the coordinator's, which is taken to have spoken in the middle
/// of the round trip.
fn clock_offset(said_at: Instant, welcome: &Welcome) -> i64 {
    let half_ms = u64::try_from(said_at.elapsed().as_millis() / 2).unwrap_or(0);
    let theirs = i128::from(welcome.wall_ms.saturating_add(half_ms));
    let offset = i128::from(wall_ms()) - theirs;
    i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX })
}

/// A status without a source came from the coordinator; one with a source was made here, of what
/// happened to the connection.
fn call_failed(status: Status) -> SessionError {
    let words = explain_status(&status).unwrap_or_else(|| status.message().to_owned());
    match status.source() {
        Some(_) => SessionError::Broken { words },
        None => SessionError::Ended {
            code: status.code(),
            words,
        },
    }
}
