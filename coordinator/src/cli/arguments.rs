//! The command line as it is typed.

use clap::{Parser, Subcommand};

use super::{
    backup::BackupCommand,
    ca::CaCommand,
    completions::CompletionsArguments,
    consul::ConsulCommand,
    context::ContextCommand,
    demo::DemoArguments,
    exit::Exit,
    fleet::FleetCommand,
    freeze::{FreezeArguments, UnfreezeArguments},
    image::ImageCommand,
    instance::InstanceCommand,
    operator::OperatorCommand,
    recover::RecoverCommand,
    repair::RepairCommand,
    restore::RestoreArguments,
    rollout::{BackArguments, RolloutCommand},
    serve::ServeArguments,
    setting::Global,
    simulate::SimulateArguments,
    status::StatusArguments,
    zone::ZoneCommand,
};
use crate::demo::workload::WorkloadCommand;

/// Replaces running fleets blue-green, driven by the health of their agents.
#[derive(Debug, Parser)]
#[command(name = "calvin", version, after_help = Exit::help(), max_term_width = 80)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work: five acts on this machine, in under a minute; nothing is left running.
    Demo(DemoArguments),
    /// Run a coordinator.
    Serve(ServeArguments),
    /// What is wrong, since when, what happens next, and what to type.
    Status(StatusArguments),
    /// Fleets: how many instances of which image.
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Rollouts: replace a fleet's image, watch it, go back.
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Roll out the image that served before.
    Undo(BackArguments),
    /// Single machines.
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Builds that the coordinator knows.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Let nothing begin for a while, in one fleet or in all.
    Freeze(FreezeArguments),
    /// End a freeze.
    Unfreeze(UnfreezeArguments),
    /// Zones: what is there, and which are lost.
    #[command(subcommand)]
    Zone(ZoneCommand),
    /// Repairs that are held.
    #[command(subcommand)]
    Repair(RepairCommand),
    /// Who may speak to the environment.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Backups: everything that an environment needs to be restored.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Restore a backup into a data directory without a store.
    Restore(RestoreArguments),
    /// After a restore: what differs from the world, and a person's word on it.
    #[command(subcommand)]
    Recover(RecoverCommand),
    /// The environment's certificate authority.
    #[command(subcommand)]
    Ca(CaCommand),
    /// What Consul must let an environment do.
    #[command(subcommand)]
    Consul(ConsulCommand),
    /// The environments that you work with.
    #[command(subcommand)]
    Context(ContextCommand),
    /// What a fleet file would do, and whether anything breaks a rule; asks no coordinator.
    Simulate(SimulateArguments),
    /// What is wrong here, on the way, and at the coordinator.
    Doctor,
    /// What a shell needs to complete commands and flags.
    Completions(CompletionsArguments),
    /// The demo's workloads.
    #[command(subcommand, hide = true)]
    Workload(WorkloadCommand),
}
