//! Two machines for one instance: a creation that succeeded twice. Both carry its tag and its join
//! token. The first key spends the token, so the agent of the other is never let in; a provider lists
//! both, and nobody but a person deletes what is too many.

use std::net::IpAddr;

use calvin_model::InstanceId;

use super::World;
use crate::event::MachineNumber;

impl World {
    /// A second machine for an instance.
    pub(super) fn add_twin(&mut self, instance: &InstanceId, number: MachineNumber) {
        self.note(format_args!("{instance} is being made twice"));
        self.twins.insert(instance.clone(), number);
        self.doubled.insert(instance.clone());
    }

    /// The machines of an instance, in the order in which its provider happens to list them.
    pub(super) fn both(
        &self,
        instance: &InstanceId,
        number: MachineNumber,
    ) -> [Option<MachineNumber>; 2] {
        match self.twins.get(instance).copied() {
            Some(twin) if number.0.is_multiple_of(2) => [Some(twin), Some(number)],
            twin => [Some(number), twin],
        }
    }

    /// The working machine of an instance at an address.
    pub(super) fn running_at(&self, instance: &InstanceId, at: IpAddr) -> Option<MachineNumber> {
        let number = *self.by_instance.get(instance)?;
        let both = self.both(instance, number).into_iter().flatten();
        let mut there = both.filter(|number| self.machine(*number).address == at);
        there.find(|number| self.machine(*number).is_up())
    }

    /// The join token of an instance is spent by this machine: it is the instance from now on.
    pub(super) fn spend_token(&mut self, number: MachineNumber) {
        let instance = self.machine(number).instance.clone();
        self.disk.borrow_mut().keys.insert(instance.clone(), number);
        if self.twins.get(&instance) == Some(&number)
            && let Some(first) = self.by_instance.insert(instance.clone(), number)
        {
            self.twins.insert(instance, first);
        }
    }

    /// A machine is not there any more; what is left of two is the instance's machine.
    pub(super) fn forget_machine(&mut self, instance: &InstanceId, number: MachineNumber) {
        if self.twins.get(instance) == Some(&number) {
            self.twins.remove(instance);
        } else if self.by_instance.get(instance) == Some(&number) {
            match self.twins.remove(instance) {
                Some(twin) => self.by_instance.insert(instance.clone(), twin),
                None => self.by_instance.remove(instance),
            };
        }
    }

    /// A person deletes by hand what is too many: of two machines that whose agent was not let in.
    pub(crate) fn delete_by_hand(&mut self, instance: &InstanceId) {
        let twin = self.twins.get(instance).copied();
        let Some(number) = twin.or_else(|| self.by_instance.get(instance).copied()) else {
            return;
        };
        let address = self.machine(number).address;
        self.note(format_args!(
            "a person deletes the machine of {instance} at {address} by hand"
        ));
        self.machine_gone(number);
    }
}
