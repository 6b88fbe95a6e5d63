//! Images, and how machines that are made from them behave.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use calvin_engine::ports::Images;
use calvin_lifecycle::Spec;
use calvin_model::{
    Digest, ImageManifest, ImageRef,
    image::{ImageTag, Work},
};
use calvin_planner::Build;

/// An image, with how machines made from it behave.
#[derive(Debug, Clone)]
pub struct SimImage {
    /// Name and version.
    pub tag: ImageTag,
    /// How its workload behaves.
    pub behaviour: Behaviour,
    /// When its workload may run.
    pub work: Work,
    /// Whether its machines vote, and say what they know of their voters.
    pub votes: bool,
}

/// How a workload behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Its checks pass while it runs.
    Good,
    /// Its checks never pass.
    NeverHealthy,
    /// It answers and does not answer by turns, for ever; each takes half of this.
    Flapping {
        /// A turn of both.
        turn: Duration,
    },
    /// Its checks begin to fail when it has been active for so long.
    BadOnceActive {
        /// How long.
        after: Duration,
    },
    /// The same while things go wrong by chance; later its checks pass again.
    LeaksOnceActive {
        /// How long.
        after: Duration,
    },
}

/// What `image add` would have recorded.
pub(crate) fn reference(tag: &ImageTag) -> ImageRef {
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().zip(tag.to_string().bytes()) {
        *place = byte;
    }
    ImageRef {
        tag: tag.clone(),
        digest: Digest::from_sha256(bytes),
    }
}

impl SimImage {
    /// What the planner knows of it.
    pub(crate) fn build(&self) -> Build {
        Build {
            image: reference(&self.tag),
            work: self.work,
            services: true,
            quorum: self.votes,
        }
    }

    /// Its `image.toml`, with one check that runs every `check_every`.
    ///
    /// # Panics
    /// Never: the text is the one below, with a tag that was parsed.
    pub(crate) fn manifest(&self, check_every: Duration) -> ImageManifest {
        let work = match self.work {
            Work::Boot => "boot",
            Work::OnActive => "on_active",
        };
        let when = match self.work {
            Work::Boot => "always",
            Work::OnActive => "active",
        };
        let quorum = if self.votes {
            "[quorum]\nexec = [\"voters\"]\ninterval = \"2s\"\ntimeout = \"1s\"\n"
        } else {
            ""
        };
        let text = format!(
            "name = \"{}\"\nversion = \"{}\"\n\
             [workload]\ncommand = [\"web\"]\nwork = \"{work}\"\n\
             [[service]]\nname = \"web\"\nport = 80\n\
             [[check]]\nname = \"http\"\nhttp = \"/health\"\nport = 80\n\
             interval = \"{}ms\"\ntimeout = \"500ms\"\nwhen = \"{when}\"\n{quorum}",
            self.tag.name,
            self.tag.version,
            check_every.as_millis().max(1_000),
        );
        match ImageManifest::parse("image.toml", &text) {
            Ok(manifest) => manifest,
            Err(error) => unreachable!("the simulator's own manifest: {error}"),
        }
    }
}

/// One recorded image.
#[derive(Debug)]
pub(crate) struct KnownImage {
    pub(crate) manifest: ImageManifest,
    pub(crate) spec: Arc<Spec>,
    pub(crate) behaviour: Behaviour,
}

/// Recorded images.
#[derive(Debug, Default)]
pub(crate) struct SimImages {
    pub(crate) known: BTreeMap<ImageTag, KnownImage>,
}

impl SimImages {
    pub(crate) fn new(images: &[SimImage], check_every: Duration) -> Self {
        let known = images.iter().map(|image| {
            let manifest = image.manifest(check_every);
            let known = KnownImage {
                spec: Arc::new(Spec::of(&manifest)),
                manifest,
                behaviour: image.behaviour,
            };
            (image.tag.clone(), known)
        });
        Self {
            known: known.collect(),
        }
    }
}

impl Images for SimImages {
    fn manifest(&self, image: &ImageRef) -> Option<ImageManifest> {
        self.known
            .get(&image.tag)
            .map(|image| image.manifest.clone())
    }
}
