//! What one agent is told: a stream that is asked for its next message only when there is room
//! for it, and then gives the newest of what the agent has not been told. So nothing may rest on its
//! being asked: when the session ends is seen by who reads.

use std::{collections::VecDeque, sync::Arc};

use calvin_model::{Epoch, InstanceId, Wanted};
use calvin_proto::{
    convert::{ConvertError, Order, ToAgent, Trust, Welcome},
    wire,
};
use futures_util::{Stream, stream};
use tokio::{sync::watch, task::AbortHandle};
use tonic::Status;

use super::{Agents, joining::Joining, registry::Opened};
use crate::catalogue::NamesFeed;

/// Takes note that a session is gone, however it ends.
pub(super) struct Guard {
    pub(super) agents: Agents,
    pub(super) instance: InstanceId,
    pub(super) number: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.agents.registry().closed(&self.instance, self.number);
        tracing::info!(instance = %self.instance, "a session ended");
        self.agents.poke();
    }
}

pub(super) struct Outbound {
    /// Said before anything else: the welcome, and what is new as a whole.
    first: VecDeque<ToAgent>,
    epoch: Epoch,
    wanted: watch::Receiver<Wanted>,
    /// Absent where the agent cannot join Consul.
    joining: Option<watch::Receiver<Joining>>,
    /// What it was told of that.
    joined: Joining,
    trust: watch::Receiver<Arc<Trust>>,
    names: NamesFeed,
    end: watch::Receiver<Option<Status>>,
    over: bool,
    reading: AbortHandle,
    _guard: Guard,
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Outbound {
    pub(super) fn new(
        welcome: Welcome,
        opened: Opened,
        guard: Guard,
        reading: AbortHandle,
    ) -> Self {
        let options = &guard.agents.shared.options;
        let mut outbound = Self {
            epoch: welcome.epoch.clone(),
            first: VecDeque::from([ToAgent::Welcome(welcome)]),
            wanted: opened.wanted,
            joining: opened.joining,
            joined: Joining::default(),
            trust: options.identity.trust(),
            names: options.names.clone(),
            end: opened.end,
            over: false,
            reading,
            _guard: guard,
        };
        // What is there now counts as news.
        outbound.wanted.mark_changed();
        if let Some(joining) = &mut outbound.joining {
            joining.mark_changed();
        }
        outbound.trust.mark_changed();
        outbound.names.mark_changed();
        outbound
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<wire::ToAgent, Status>> + Send {
        stream::unfold(self, |mut outbound| async move {
            let message = outbound.next().await?;
            Some((message, outbound))
        })
    }

    async fn next(&mut self) -> Option<Result<wire::ToAgent, Status>> {
        if self.over {
            return None;
        }
        loop {
            let message = match self.first.pop_front() {
                Some(message) => Ok(message),
                None => match self.news().await {
                    Ok(Some(message)) => Ok(message),
                    Ok(None) => continue,
                    Err(status) => Err(status),
                },
            };
            match message.map(|message| wire::ToAgent::try_from(&message)) {
                Ok(Ok(message)) => return Some(Ok(message)),
                // A snapshot that does not fit. The agent goes on with the one it has.
                Ok(Err(error)) => log_too_large(&error),
                Err(status) => {
                    self.over = true;
                    return Some(Err(status));
                }
            }
        }
    }

    /// Waits for the next thing to say: the end first, then what is wanted. Nothing, where it was put to
    /// what is said first.
    async fn news(&mut self) -> Result<Option<ToAgent>, Status> {
        loop {
            tokio::select! {
                biased;
                end = self.end.wait_for(Option::is_some) => {
                    let status = end.ok().and_then(|end| end.clone());
                    return Err(status.unwrap_or_else(going_down));
                }
                changed = self.wanted.changed() => {
                    changed.map_err(|_| Status::aborted("this session was replaced"))?;
                    let wanted = *self.wanted.borrow_and_update();
                    let epoch = self.epoch.clone();
                    return Ok(Some(ToAgent::Wanted(Order { epoch, wanted })));
                }
                changed = changed(self.joining.as_mut()) => {
                    let now = changed.ok_or_else(|| Status::aborted("this session was replaced"))?;
                    self.first.extend(now.news(&self.joined, &self.epoch));
                    self.joined = now;
                    return Ok(None);
                }
                changed = self.trust.changed() => {
                    changed.map_err(|_| going_down())?;
                    let trust = self.trust.borrow_and_update().as_ref().clone();
                    return Ok(Some(ToAgent::Trust(trust)));
                }
                changed = self.names.changed() => {
                    changed.map_err(|_| going_down())?;
                    let names = self.names.borrow_and_update().clone();
                    if let Some(names) = names {
                        return Ok(Some(ToAgent::Names(names.as_ref().clone())));
                    }
                }
            }
        }
    }
}

/// Waits until an agent is to be told something else of joining; for ever where it cannot join. Nothing
/// where its session was replaced.
async fn changed(joining: Option<&mut watch::Receiver<Joining>>) -> Option<Joining> {
    let Some(joining) = joining else {
        return std::future::pending().await;
    };
    joining.changed().await.ok()?;
    Some(joining.borrow_and_update().clone())
}

fn going_down() -> Status {
    Status::unavailable("the coordinator is going down")
}

fn log_too_large(error: &ConvertError) {
    tracing::error!(
        problem = error.in_words(),
        "a message to an agent is not sent"
    );
}
