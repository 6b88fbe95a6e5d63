//! Ways to hold all ports together: owned and chosen at run time, or borrowed.

use std::collections::BTreeMap;

use calvin_planner::EnvironmentRules;

use super::{AgentLink, Catalogue, Clock, Images, Ports, Probe, Provider, Store};

/// Ports whose implementations are chosen when the process starts and may move to the engine's
/// thread.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "each field is the port of its type, or what it gives"
)]
pub struct PortSet {
    pub clock: Box<dyn Clock + Send>,
    pub rules: EnvironmentRules,
    pub store: Box<dyn Store + Send>,
    pub providers: BTreeMap<String, Box<dyn Provider + Send>>,
    pub catalogue: Box<dyn Catalogue + Send>,
    pub agents: Box<dyn AgentLink + Send>,
    pub probe: Box<dyn Probe + Send>,
    pub images: Box<dyn Images + Send>,
}

impl Ports for PortSet {
    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn rules(&self) -> EnvironmentRules {
        self.rules.clone()
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut *self.store
    }

    fn providers(&self) -> Vec<(&str, &dyn Provider)> {
        self.providers
            .iter()
            .map(|(name, provider)| (name.as_str(), &**provider as &dyn Provider))
            .collect()
    }

    fn provider(&mut self, name: &str) -> Option<&mut dyn Provider> {
        match self.providers.get_mut(name) {
            Some(provider) => Some(&mut **provider),
            None => None,
        }
    }

    fn catalogue(&mut self) -> &mut dyn Catalogue {
        &mut *self.catalogue
    }

    fn agents(&mut self) -> &mut dyn AgentLink {
        &mut *self.agents
    }

    fn probe(&mut self) -> &mut dyn Probe {
        &mut *self.probe
    }

    fn images(&self) -> &dyn Images {
        &*self.images
    }
}

/// Borrowed ports: the caller keeps the world when the engine ends.
impl<P: Ports> Ports for &mut P {
    fn clock(&self) -> &dyn Clock {
        (**self).clock()
    }

    fn rules(&self) -> EnvironmentRules {
        (**self).rules()
    }

    fn store(&mut self) -> &mut dyn Store {
        (**self).store()
    }

    fn providers(&self) -> Vec<(&str, &dyn Provider)> {
        (**self).providers()
    }

    fn provider(&mut self, name: &str) -> Option<&mut dyn Provider> {
        (**self).provider(name)
    }

    fn catalogue(&mut self) -> &mut dyn Catalogue {
        (**self).catalogue()
    }

    fn agents(&mut self) -> &mut dyn AgentLink {
        (**self).agents()
    }

    fn probe(&mut self) -> &mut dyn Probe {
        (**self).probe()
    }

    fn images(&self) -> &dyn Images {
        (**self).images()
    }
}
