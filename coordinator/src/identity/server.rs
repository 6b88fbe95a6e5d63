//! The coordinator's own certificate, its renewal, and the rotation of CAs. Both listeners take
//! what is made here with their next connection; nothing is restarted.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use calvin_model::EnvironmentName;
use calvin_proto::{
    convert::Trust,
    transport::{Trusted, new_key, server_config},
};
use rcgen::KeyPair;
use rustls::ServerConfig;

use super::{
    BACKDATED, CasKept, Identity, IdentityError, Issued, State, TrustedCa,
    authority::{Authority, past_half},
    certificate, wall_ms,
};

/// Life of the coordinator's certificate. It is made anew at each start, at half its life, and when
/// the clock went back to before its beginning.
const SERVER_LIFE: Duration = Duration::from_secs(30 * 86_400);

pub(super) struct ServerCertificate {
    issued: Issued,
    key_pem: String,
    from: SystemTime,
}

impl ServerCertificate {
    pub(super) fn issue(
        authority: &Authority,
        environment: &EnvironmentName,
        at: SystemTime,
    ) -> Result<Self, IdentityError> {
        let key_pem = new_key()?;
        let key = KeyPair::from_pem(&key_pem).map_err(IdentityError::make("a key"))?;
        let issuer = &authority.oldest().issuer;
        Ok(Self {
            issued: certificate::server(issuer, environment, &key, at, SERVER_LIFE)?,
            key_pem,
            from: at,
        })
    }

    pub(super) fn config(&self, authority: &Authority) -> Result<ServerConfig, IdentityError> {
        let trusted = Trusted::from_pem(&authority.bundle_pem())?;
        Ok(server_config(
            &trusted,
            &self.issued.certificate_pem,
            &self.key_pem,
        )?)
    }

    fn is_due(&self, authority: &Authority, at: SystemTime) -> bool {
        // The clock was ahead when it was made, and was set back: to everybody else it is not good
        // yet, and would not be for as long as the clock was ahead.
        let not_good_yet = at < self.from - BACKDATED;
        let of_another = self.issued.authority != authority.oldest().key_id;
        of_another || not_good_yet || past_half(self.from, SERVER_LIFE, at)
    }
}

/// What a rotation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The CAs that are trusted now, newest first.
    pub trusted: Vec<TrustedCa>,
    /// Instances that still use a certificate of an older CA, or were made with only that.
    pub not_renewed: u32,
    /// Operators whose certificate is of an older CA.
    pub operators: Vec<String>,
}

impl Identity {
    /// Makes a new CA, which signs from now on. The older ones stay trusted until nothing rests on
    /// them.
    ///
    /// # Errors
    /// Where it cannot be made or kept, or too many are trusted already.
    pub fn rotate_ca(&self, by: &str) -> Result<Rotated, IdentityError> {
        let at = self.now();
        let mut state = self.state();
        state.authority.add(self.environment(), at)?;
        self.settle(&mut state, at)?;
        drop(state);
        let rotated = self.ca();
        if let Some(newest) = rotated.trusted.first() {
            let text = format!("made CA {} and signs with it", newest.fingerprint);
            self.audit().done(at, by, "ca_rotated", &text);
        }
        Ok(rotated)
    }

    /// The CAs that are trusted now, and who keeps the older ones.
    #[must_use]
    pub fn ca(&self) -> Rotated {
        let known = self.known();
        let newest = &known.signs;
        let now = wall_ms(self.now());
        let older = known
            .instances
            .values()
            .filter(|record| record.rests_on(now).any(|id| id != newest));
        Rotated {
            trusted: known.trusted.clone(),
            not_renewed: u32::try_from(older.count()).unwrap_or(u32::MAX),
            operators: known
                .operators
                .iter()
                .filter(|(_, record)| record.rests_on(now).is_some_and(|id| id != newest))
                .map(|(name, _)| name.to_string())
                .collect(),
        }
    }

    /// Renews the coordinator's own certificate when it is time, and forgets CAs that nothing
    /// rests on. To be called every minute: a clock that is set back makes it time at once.
    ///
    /// # Errors
    /// Where files cannot be written; the next call tries again.
    pub fn maintain(&self) -> Result<(), IdentityError> {
        let at = self.now();
        self.audit().settle(at);
        self.settle(&mut self.state(), at)
    }

    /// Brings listeners and agents in line with the CAs and certificates as they are.
    pub(super) fn settle(&self, state: &mut State, at: SystemTime) -> Result<(), IdentityError> {
        if state.authority.count() > 1 && state.keeps == CasKept::Needed {
            let now = wall_ms(at);
            let (instances, operators) = (&state.instances, &state.operators);
            let used = |key_id: &str| {
                instances
                    .values()
                    .any(|record| record.rests_on(now).any(|id| id == key_id))
                    || operators
                        .values()
                        .any(|record| record.rests_on(now) == Some(key_id))
            };
            for ca in state.authority.drop_unused(at, used)? {
                let text = format!(
                    "no longer trusts CA {}: nothing rests on it",
                    ca.fingerprint
                );
                self.audit().done(at, "coordinator", "ca_dropped", &text);
            }
        }
        let due = state.server.is_due(&state.authority, at);
        if due {
            state.server = ServerCertificate::issue(&state.authority, self.environment(), at)?;
        }
        let trust = Trust {
            ca_pem: state.authority.bundle_pem(),
            coordinators: self.coordinators(),
        };
        let changed = *self.inner.trust.borrow().as_ref() != trust;
        if due || changed {
            let config = state.server.config(&state.authority)?;
            self.inner.tls.store(Arc::new(config));
        }
        if changed {
            self.inner.trust.send_replace(Arc::new(trust));
            self.publish(state);
        }
        Ok(())
    }
}

#[cfg(test)]
impl State {
    /// Who signed the coordinator's certificate.
    pub(super) fn server_authority(&self) -> String {
        self.server.issued.authority.clone()
    }

    /// The coordinator's certificate, PEM.
    pub(super) fn server_certificate(&self) -> String {
        self.server.issued.certificate_pem.clone()
    }
}
