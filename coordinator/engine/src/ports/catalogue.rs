//! What a catalogue says of itself, beside what clients find: what it cannot do, and what is still
//! open of who is gone.

use std::{collections::BTreeSet, time::Duration};

use calvin_model::{FleetName, InstanceId};

/// What a catalogue says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogueWord {
    /// What it cannot do now.
    pub faults: Vec<CatalogueFault>,
    /// What must be taken back of instances that are gone, and was not read back as gone yet.
    pub debts: Vec<CatalogueDebt>,
}

/// One thing that a catalogue cannot do now. It is tried again, and vanishes when it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueFault {
    /// The fleets that wait for it; none where nobody does.
    pub fleets: BTreeSet<FleetName>,
    /// What cannot be done and why, one sentence.
    pub what: String,
    /// What a person does about it, one sentence.
    pub advice: String,
    /// How long already.
    pub lasts: Duration,
    /// When that began, milliseconds since 1970 UTC.
    pub since_wall_ms: u64,
}

/// An access to the catalogue that is to be taken back, and waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueDebt {
    /// Of whom.
    pub instance: InstanceId,
    /// When that began, milliseconds since 1970 UTC.
    pub since_wall_ms: u64,
}

impl CatalogueWord {
    /// What a fleet waits for.
    pub fn faults_of<'a>(
        &'a self,
        fleet: &'a FleetName,
    ) -> impl Iterator<Item = &'a CatalogueFault> {
        let faults = self.faults.iter();
        faults.filter(move |fault| fault.fleets.contains(fleet))
    }
}
