//! `calvin consul`: what a person who runs Consul needs to let this environment in. Asks nobody: the
//! policies are needed before there is a coordinator.

use std::path::PathBuf;

use calvin_consul::{
    InvalidName,
    policies::{self, AgentScope, CoordinatorScope, Names},
};
use calvin_model::{EnvironmentName, FleetName, InstanceId, ServiceName};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::{exit::Exit, failure::Failure, setting::Setting};
use crate::config::ServeConfig;

/// What can be printed for Consul.
#[derive(Debug, Subcommand)]
pub(crate) enum ConsulCommand {
    /// The least ACL policies, as HCL; asks no coordinator.
    Policies(PoliciesArguments),
}

/// Arguments of `calvin consul policies`.
#[derive(Debug, Args)]
pub(crate) struct PoliciesArguments {
    /// Whose policy; both unless given.
    #[arg(value_enum)]
    whose: Option<Whose>,
    /// The coordinator's configuration: its environment is named in what is printed.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Services that fleets serve, once for each; all unless given.
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<ServiceName>,
    /// The agent of this instance; any unless given.
    #[arg(long, value_name = "ID")]
    instance: Option<InstanceId>,
    /// An exclusive fleet that the agent is of: its lock; once for each.
    #[arg(long = "exclusive", value_name = "FLEET", requires = "config")]
    exclusive: Vec<FleetName>,
}

/// Who works with Consul.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// The coordinator of an environment.
    Coordinator,
    /// The agents on its machines.
    Agent,
}

/// What was asked for, as HCL.
#[derive(Debug, Serialize)]
struct PoliciesView {
    environment: Option<String>,
    coordinator: Option<String>,
    agent: Option<String>,
}

/// Carries out the command.
pub(crate) fn run(command: ConsulCommand, setting: &Setting) -> Result<Exit, Failure> {
    match command {
        ConsulCommand::Policies(arguments) => print(&arguments, setting),
    }
}

fn print(arguments: &PoliciesArguments, setting: &Setting) -> Result<Exit, Failure> {
    let environment = match &arguments.config {
        None => None,
        Some(path) => {
            let config = ServeConfig::load(path).map_err(|error| {
                Failure::new(Exit::Usage, "could not print the policies").because(error)
            })?;
            Some(config.environment)
        }
    };
    if arguments.whose == Some(Whose::Coordinator) && arguments.instance.is_some() {
        let tried = "could not print the coordinator's policy";
        let failure = Failure::new(Exit::Usage, tried)
            .reason("--instance is about an agent, and a coordinator works with all of them");
        return Err(failure.next("leave --instance out, or print that of the agent"));
    }
    if arguments.whose == Some(Whose::Coordinator) && !arguments.exclusive.is_empty() {
        let tried = "could not print the coordinator's policy";
        let failure = Failure::new(Exit::Usage, tried)
            .reason("--exclusive is about agents, and the coordinator's keys hold all locks");
        return Err(failure.next("leave --exclusive out, or print that of the agent"));
    }
    let view = view(arguments, environment.as_ref()).map_err(|error| {
        Failure::new(Exit::Usage, "could not print the policies").because(error)
    })?;
    setting.screen.show(&view, |view, _| {
        let both = [&view.coordinator, &view.agent];
        let texts: Vec<&str> = both.into_iter().flatten().map(String::as_str).collect();
        texts.join("\n")
    })?;
    Ok(Exit::Done)
}

fn view(
    arguments: &PoliciesArguments,
    environment: Option<&EnvironmentName>,
) -> Result<PoliciesView, InvalidName> {
    let services = match arguments.services.as_slice() {
        [] => Names::Prefix(String::new()),
        some => Names::Exactly(some.iter().map(|name| name.as_str().to_owned()).collect()),
    };
    let (coordinator, agent) = match arguments.whose {
        None => (true, true),
        Some(Whose::Coordinator) => (true, false),
        Some(Whose::Agent) => (false, true),
    };
    let coordinator = coordinator
        .then(|| {
            let scope = CoordinatorScope::serving(services.clone())?;
            let rules = policies::coordinator(&scope)?;
            Ok(format!("{}{rules}", above_coordinator(environment)))
        })
        .transpose()?;
    let agent = agent
        .then(|| {
            let nodes = match &arguments.instance {
                None => Names::Prefix(String::new()),
                Some(instance) => Names::Exactly(vec![instance.as_str().to_owned()]),
            };
            let mut scope = AgentScope::serving(nodes, services.clone());
            if let Some(environment) = environment {
                scope = scope.of_exclusive(environment, &arguments.exclusive)?;
            }
            let rules = policies::agent(&scope)?;
            Ok(format!("{ABOVE_AGENT}{rules}"))
        })
        .transpose()?;
    Ok(PoliciesView {
        environment: environment.map(|name| name.as_str().to_owned()),
        coordinator,
        agent,
    })
}

/// How a token of it is made, with Consul's own command line.
fn above_coordinator(environment: Option<&EnvironmentName>) -> String {
    let environment = environment.map_or(String::new(), |name| format!(" of {name}"));
    format!(
        "# The least policy of the coordinator{environment}. Its token is made once, by who may do\n\
         # everything, and written into consul.token_file of calvin.toml:\n\
         #   calvin consul policies coordinator |\n\
         #     consul acl policy create -name calvin-coordinator -rules -\n\
         #   consul acl token create -policy-name calvin-coordinator\n\n"
    )
}

const ABOVE_AGENT: &str = "# The least policy of agents. The coordinator makes the token of each instance by itself, for its own\n\
# node and services, and the lock of its fleet where that is exclusive; this is for tokens that are\n\
# made by hand (--instance ID, --service NAME, --exclusive FLEET).\n\n";
