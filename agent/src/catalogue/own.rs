//! What the agent itself knows of its instance, as far as its registration depends on it.

use calvin_lifecycle::Lifecycle;
use calvin_model::{
    CatalogueRole, Health, ImageManifest, Role,
    image::{CheckKind, CheckSpec},
};

/// What the agent's own check says. Texts are there only where it fails, so that what is equal is
/// nothing new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The role that is wanted of it.
    pub role: Option<Role>,
    /// Whether it is to be found at all.
    pub presence: Presence,
    /// The checks that count in its role.
    pub checks: Vec<OwnCheck>,
    /// The workload's process.
    pub workload: OwnWord,
}

/// Whether an instance may be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// As it was told.
    AsTold,
    /// It is retired, or about to be, or its machine is being stopped: not at all.
    Leaving,
    /// The same, and nothing of it works any more: its machine leaves Consul too.
    Gone,
}

/// A check that counts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCheck {
    /// Its place in the image.
    pub place: usize,
    /// What it says.
    pub word: OwnWord,
}

/// What something says of itself, damped as the image has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnWord {
    /// All is well.
    Passing,
    /// It fails, and why.
    Failing(String),
    /// Nothing yet.
    Open,
}

impl OwnWord {
    fn of(health: Health, reason: impl FnOnce() -> String) -> Self {
        match health {
            Health::Healthy => Self::Passing,
            Health::Unhealthy => Self::Failing(reason()),
            Health::Unknown => Self::Open,
        }
    }
}

impl Own {
    /// What the lifecycle knows now; nothing before the machine has an identity.
    #[must_use]
    pub fn of(lifecycle: &Lifecycle, manifest: &ImageManifest) -> Option<Self> {
        if !lifecycle.is_enrolled() {
            return None;
        }
        let wanted = lifecycle.record().wanted.map(|wanted| wanted.role);
        let leaving = [wanted, lifecycle.role()].contains(&Some(Role::Retired));
        let checks = lifecycle.checks_now().into_iter();
        let check = |(name, health, reason): (&str, Health, Option<&str>)| {
            let mut specs = manifest.checks.iter();
            let place = specs.position(|spec| spec.name == name)?;
            let reason = || format!("check {name}: {}", reason.unwrap_or("its last run passed"));
            let word = OwnWord::of(health, reason);
            Some(OwnCheck { place, word })
        };
        Some(Self {
            role: wanted,
            presence: match (leaving, lifecycle.has_ended()) {
                (true, true) => Presence::Gone,
                (true, false) => Presence::Leaving,
                (false, _) => Presence::AsTold,
            },
            checks: checks.filter_map(check).collect(),
            workload: OwnWord::of(lifecycle.workload_health(), || {
                "the workload ended by itself and is started again".to_owned()
            }),
        })
    }

    /// The role to be registered in, where the coordinator said this one last.
    pub(super) fn role(&self, told: CatalogueRole) -> CatalogueRole {
        match self.presence {
            Presence::AsTold => told,
            Presence::Leaving | Presence::Gone => CatalogueRole::Absent,
        }
    }

    /// What only the agent can know: the workload's process, and the checks that are commands.
    pub(super) fn word(&self, manifest: &ImageManifest) -> OwnWord {
        let commands = self.checks.iter().filter(|check| {
            let spec = manifest.checks.get(check.place);
            match spec.and_then(CheckSpec::kind) {
                Some(CheckKind::Exec { .. }) => true,
                Some(CheckKind::Http { .. } | CheckKind::Tcp { .. } | CheckKind::Grpc { .. })
                | None => false,
            }
        });
        let commands = commands.map(|check| &check.word);
        let mut reasons = Vec::new();
        let mut open = false;
        for word in std::iter::once(&self.workload).chain(commands) {
            match word {
                OwnWord::Passing => {}
                OwnWord::Failing(reason) => reasons.push(reason.as_str()),
                OwnWord::Open => open = true,
            }
        }
        if !reasons.is_empty() {
            OwnWord::Failing(reasons.join("; "))
        } else if open {
            OwnWord::Open
        } else {
            OwnWord::Passing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_fails_is_the_word_and_one_that_is_open_keeps_it_open() {
        let text = "name = \"a\"\nversion = \"1\"\n[[check]]\nname = \"c\"\nexec = [\"c\"]\n\
                    [[check]]\nname = \"h\"\nhttp = \"/\"\nport = 1\n";
        let manifest = ImageManifest::parse("image.toml", text).unwrap();
        let failing = || OwnWord::Failing("it fails".into());
        let word = |workload: OwnWord, exec: OwnWord, http: OwnWord| {
            let check = |(place, word)| OwnCheck { place, word };
            let own = Own {
                role: None,
                presence: Presence::AsTold,
                checks: vec![check((0, exec)), check((1, http))],
                workload,
            };
            own.word(&manifest)
        };
        use OwnWord::{Open, Passing};
        assert_eq!(word(Passing, Passing, failing()), Passing, "Consul asks");
        assert_eq!(word(Passing, Open, Passing), Open);
        assert_eq!(word(Open, failing(), Passing), failing());
        assert_eq!(
            word(failing(), failing(), Open),
            OwnWord::Failing("it fails; it fails".into())
        );
    }
}
