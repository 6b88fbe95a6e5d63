//! Takes over identities that the records do not know: a store that was restored from a backup lacks
//! the instances that came after it, and the certificates that were renewed since. Both were signed
//! by a CA of ours, which is what counts.

use calvin_model::{FleetName, InstanceId};
use calvin_proto::transport::PeerCertificate;

use super::{
    CasKept, Identity, IdentityError, certificate::Issued, records::InstanceRecord, token, wall_ms,
};

/// As in the first-boot data: instance ids are never used twice, so each has one create intent.
const INTENT: u64 = 1;

impl Identity {
    /// Says which CAs are kept from now on: while the coordinator recovers, all of them.
    pub fn keep_cas(&self, keeps: CasKept) {
        self.state().keeps = keeps;
    }

    /// Takes over the identity of an instance as its certificate shows it. One that is known with
    /// this key stays as it is, and so does one that is revoked.
    ///
    /// # Errors
    /// Where it cannot be recorded.
    pub fn adopt(
        &self,
        instance: &InstanceId,
        fleet: &FleetName,
        shown: &PeerCertificate,
    ) -> Result<(), IdentityError> {
        let issued = Issued {
            // Not known, and not needed: who shows it has it.
            certificate_pem: String::new(),
            serial: shown.serial.clone(),
            key: shown.key.clone(),
            authority: shown.authority.clone(),
            until_wall_ms: wall_ms(shown.not_after),
        };
        let mut state = self.state();
        let record = match state.instances.get(instance) {
            Some(record) if record.revoked || record.knows_key(&shown.key) => return Ok(()),
            Some(record) => {
                let mut record = InstanceRecord::clone(record);
                record.enrolled.get_or_insert_with(|| issued.clone());
                record.newest = Some(issued);
                record.previous_key = None;
                record.used_under = None;
                record
            }
            None => {
                // The token was spent; it is known again, so that only this key may ask with it.
                let token = self
                    .inner
                    .token_key
                    .token(self.environment(), instance, INTENT);
                InstanceRecord {
                    fleet: fleet.clone(),
                    token_hash: token::hash(&token),
                    token_until_wall_ms: 0,
                    made_under: shown.authority.clone(),
                    enrolled: Some(issued.clone()),
                    newest: Some(issued),
                    previous_key: None,
                    used_under: None,
                    revoked: false,
                    alarm: None,
                }
            }
        };
        self.keep(&mut state, instance, record)?;
        drop(state);
        let text = format!("took over the identity that instance {instance} showed");
        self.audit()
            .done(self.now(), "coordinator", "instance_adopted", &text);
        Ok(())
    }
}
