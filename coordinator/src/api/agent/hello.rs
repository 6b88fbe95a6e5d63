//! Judges an agent's first message: whether it is who its certificate says, runs on what it was
//! made from, and has not heard of a coordinator that is newer than this one.

use calvin_engine::ports::Admitted;
use calvin_model::{Epoch, InstanceId};
use calvin_proto::{convert::Hello, limits, transport::PeerCertificate};
use tonic::Status;

use super::{
    Agents,
    registry::{About, Notice},
};
use crate::identity::Refusal;

/// Why an agent is not let in.
pub(super) enum Denied {
    /// It is turned away.
    Refused(Refusal),
    /// It comes too early.
    NotYet(Status),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What an agent that is let in begins with.
#[derive(Debug)]
pub(super) struct LetIn {
    pub(super) protocol: u32,
    pub(super) epoch: Epoch,
}

impl Agents {
    /// Judges a hello.
    pub(super) fn judge(
        &self,
        instance: &InstanceId,
        certificate: &PeerCertificate,
        hello: &Hello,
    ) -> Result<LetIn, Denied> {
        self.check_who(instance, hello)?;
        let protocol = protocol(hello)?;
        let Some(epoch) = self.epoch() else {
            return Err(starting());
        };
        let admitted = {
            let registry = self.registry();
            let Some(admitted) = &registry.admitted else {
                return Err(starting());
            };
            admitted.get(instance).cloned()
        };
        let Some(admitted) = admitted else {
            return Err(Denied::Refused(Refusal::InstanceUnknown {
                instance: instance.to_string(),
            }));
        };
        self.check_image(instance, hello, &admitted)
            .map_err(|refusal| self.noted(instance, refusal, About::Instance))?;
        check_seen(instance, hello, &epoch, &admitted).map_err(|refusal| {
            // The engine judges whether this coordinator is behind the world.
            self.hear(certificate, hello);
            self.noted(instance, refusal, About::Coordinator)
        })?;
        Ok(LetIn { protocol, epoch })
    }

    /// It speaks for itself, and to its own environment.
    pub(super) fn check_who(&self, instance: &InstanceId, hello: &Hello) -> Result<(), Refusal> {
        let ours = self.identity().environment();
        if hello.environment != *ours {
            return Err(Refusal::EnvironmentForeign {
                ours: ours.clone(),
                theirs: hello.environment.to_string(),
            });
        }
        if hello.instance != *instance {
            return Err(Refusal::InstanceMismatch {
                certificate: instance.clone(),
                claimed: hello.instance.clone(),
            });
        }
        Ok(())
    }

    fn noted(&self, instance: &InstanceId, refusal: Refusal, about: About) -> Denied {
        let text = refusal.to_string();
        self.registry().note(instance, Notice { text, about });
        self.poke();
        Denied::Refused(refusal)
    }

    /// Build id and digest of `image.toml` must be those that `image add` recorded.
    fn check_image(
        &self,
        instance: &InstanceId,
        hello: &Hello,
        admitted: &Admitted,
    ) -> Result<(), Refusal> {
        let image = &admitted.image;
        let differs = |what, found: &str, recorded: &str| Refusal::ImageDiffers {
            instance: instance.clone(),
            image: image.to_string(),
            what,
            found: found.to_owned(),
            recorded: recorded.to_owned(),
        };
        let what = "digest of image.toml";
        let Some(record) = self.shared.options.images.get(&image.tag) else {
            return Err(differs(what, hello.manifest.as_str(), "nothing"));
        };
        if record.manifest_digest != hello.manifest {
            let recorded = record.manifest_digest.as_str();
            return Err(differs(what, hello.manifest.as_str(), recorded));
        }
        if record.manifest.build != hello.build {
            let text = |build: &Option<String>| build.clone().unwrap_or_else(|| "none".to_owned());
            let (found, recorded) = (text(&hello.build), text(&record.manifest.build));
            return Err(differs("build id", &found, &recorded));
        }
        Ok(())
    }
}

fn starting() -> Denied {
    Denied::NotYet(Status::unavailable(
        "the coordinator is starting; try again",
    ))
}

/// The highest version that both speak.
fn protocol(hello: &Hello) -> Result<u32, Refusal> {
    let (min, max) = (*hello.protocol.start(), *hello.protocol.end());
    let highest = max.min(limits::PROTOCOL_MAX);
    if highest < min.max(limits::PROTOCOL_MIN) {
        return Err(Refusal::ProtocolUnknown {
            ours: format!("{} to {}", limits::PROTOCOL_MIN, limits::PROTOCOL_MAX),
            theirs: format!("{min} to {max}"),
        });
    }
    Ok(highest)
}

/// An agent that has heard more than we ever said: our store is a copy, or an old one.
fn check_seen(
    instance: &InstanceId,
    hello: &Hello,
    epoch: &Epoch,
    admitted: &Admitted,
) -> Result<(), Refusal> {
    if let Some(seen) = &hello.epoch_seen
        && seen.admit(epoch).is_err()
    {
        return Err(Refusal::BehindTheWorld {
            instance: instance.clone(),
            seen: seen.to_string(),
            ours: epoch.to_string(),
        });
    }
    let ours = admitted.wanted.generation;
    if hello.generation_seen > ours {
        return Err(Refusal::BehindInGeneration {
            instance: instance.clone(),
            seen: hello.generation_seen.0,
            ours: ours.0,
        });
    }
    Ok(())
}
