//! `calvin operator`: who may speak to the environment with a certificate.
//!
//! The key is made here and never sent: the coordinator sees a signing request only. The directory
//! that `add` writes is what is handed over; `calvin context add NAME --from DIRECTORY` takes it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use calvin_model::{EnvironmentName, HumanDuration};
use calvin_proto::{
    transport::{new_key, signing_request},
    wire::{AddOperatorRequest, ListOperatorsRequest, RevokeOperatorRequest},
};
use clap::{Args, Subcommand, ValueEnum};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    caller::Caller,
    contexts::{Context, make_private_directory, write_private},
    exit::Exit,
    failure::Failure,
    fleet::{After, changed},
    render,
    setting::Setting,
    view::OperatorView,
};

/// What can be done with operators.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Make a key and a certificate, in a directory to be handed over.
    Add(AddArguments),
    /// Every operator.
    List,
    /// Refuse an operator's certificate from now on.
    Revoke(RevokeArguments),
}

/// Arguments of `calvin operator add`.
#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// The operator's name, for people and for the audit.
    name: String,
    /// What they may do.
    #[arg(long, value_enum)]
    role: OperatorRole,
    /// How long the certificate is good; 90 days unless given.
    #[arg(long, value_name = "DURATION")]
    valid: Option<HumanDuration>,
    /// The directory to make; `NAME@ENVIRONMENT` unless given.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OperatorRole {
    /// Read.
    Viewer,
    /// Read, and change fleets.
    Operator,
    /// Everything.
    Admin,
}

impl OperatorRole {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Arguments of `calvin operator revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArguments {
    /// The operator's name.
    name: String,
}

/// Carries out the command.
pub(crate) async fn run(command: OperatorCommand, setting: &Setting) -> Result<Exit, Failure> {
    match command {
        OperatorCommand::Add(arguments) => add(arguments, setting).await,
        OperatorCommand::List => list(setting).await,
        OperatorCommand::Revoke(arguments) => revoke(arguments, setting).await,
    }
}

/// What `operator add` made, as JSON.
#[derive(Debug, Serialize)]
struct AddedView {
    environment: String,
    name: String,
    role: String,
    directory: String,
    address: Option<String>,
}

async fn add(arguments: AddArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let about = caller.about().await?;
    let environment = about.environment;
    let tried = format!(
        "[{environment}] could not add the operator {}",
        arguments.name
    );
    let directory = arguments
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}@{environment}", arguments.name)));
    if directory.exists() {
        return Err(Failure::new(Exit::Usage, tried)
            .reason(format!("{} exists already", directory.display()))
            .next("name another directory with --out"));
    }
    make_private_directory(&directory)?;
    let context = Context {
        environment: environment.parse::<EnvironmentName>().ok(),
        address: Some(about.operator_address.clone()).filter(|address| !address.is_empty()),
        ca: Some("ca.pem".into()),
        certificate: Some("certificate.pem".into()),
        key: Some("key.pem".into()),
        socket: None,
    };
    if let Err(failure) = fill(&caller, &arguments, &directory, &context, &tried).await {
        // A key without a certificate is of no use, and the same command must work again.
        let _ = fs::remove_dir_all(&directory);
        return Err(failure);
    }
    let view = AddedView {
        environment,
        name: arguments.name,
        role: arguments.role.as_str().to_owned(),
        directory: directory.display().to_string(),
        address: context.address,
    };
    setting.screen.show(&view, |view, canvas| {
        let said = |line: &str| render::change::said(&view.environment, line, canvas);
        let mut text = said(&format!("added the {} {}", view.role, view.name));
        text.push_str(&said(&format!(
            "key, certificate and CA are in {}; hand it over by a way that nobody else reads",
            view.directory
        )));
        let address = match &view.address {
            Some(_) => "",
            None => " --address HOST:PORT",
        };
        text.push_str(&format!(
            "next: on their machine: calvin context add {} --from {}{address}\n",
            view.environment, view.directory
        ));
        text
    })?;
    Ok(Exit::Done)
}

async fn fill(
    caller: &Caller,
    arguments: &AddArguments,
    directory: &Path,
    context: &Context,
    tried: &str,
) -> Result<(), Failure> {
    let failed = |error| Failure::new(Exit::Failed, tried).because(error);
    let key = new_key().map_err(failed)?;
    write_private(&directory.join("key.pem"), key.as_bytes())?;
    let csr_der = signing_request(&key).map_err(failed)?;
    let valid = arguments.valid.unwrap_or_default().0;
    let request = AddOperatorRequest {
        name: arguments.name.clone(),
        role: arguments.role.as_str().to_owned(),
        csr_der,
        valid_ms: u64::try_from(valid.as_millis()).unwrap_or(u64::MAX),
    };
    let reply = caller
        .ask(tried, caller.client().add_operator(request))
        .await?;
    write_private(
        &directory.join("certificate.pem"),
        reply.certificate_pem.as_bytes(),
    )?;
    write_private(&directory.join("ca.pem"), reply.ca_pem.as_bytes())?;
    let toml = toml::to_string(context)
        .map_err(|error| Failure::new(Exit::Failed, tried).because(error))?;
    write_private(&directory.join("context.toml"), toml.as_bytes())
}

async fn list(setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let tried = "could not list the operators";
    let reply = caller
        .ask(
            tried,
            caller.client().list_operators(ListOperatorsRequest {}),
        )
        .await?;
    let operators: Vec<OperatorView> = reply.operators.into_iter().map(Into::into).collect();
    setting.screen.show(&operators, |operators, canvas| {
        render::admin::operators(operators, &TimeZone::system(), canvas)
    })?;
    Ok(Exit::Done)
}

async fn revoke(arguments: RevokeArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    let tried = format!(
        "[{environment}] could not revoke the operator {}",
        arguments.name
    );
    let request = RevokeOperatorRequest {
        name: arguments.name,
    };
    let reply = caller
        .ask(&tried, caller.client().revoke_operator(request))
        .await?;
    changed(setting, environment, reply, After::End)?;
    Ok(Exit::Done)
}
