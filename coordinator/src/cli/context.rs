//! `calvin context`: the environments that this user works with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use calvin_model::{EnvironmentName, parse_toml};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;

use super::{
    certificate,
    contexts::{Context, Contexts, Home, check_name, make_private_directory, read, write_private},
    exit::Exit,
    failure::Failure,
    render,
    setting::Setting,
    target,
    view::ContextView,
};

/// What can be done with contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Add an environment; the files are copied beside contexts.toml.
    Add(AddArguments),
    /// Every context; the current one has a star.
    List,
    /// Make a context the current one.
    Use(NameArguments),
    /// Forget a context and delete its copied files.
    Remove(NameArguments),
    /// One context, or the current one.
    Show(MaybeNameArguments),
}

/// Arguments of `calvin context add`.
#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// Its name.
    name: String,
    /// A directory that `calvin operator add` made.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "socket")]
    from: Option<PathBuf>,
    /// Where the coordinator listens, `host:port`.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// The environment's name, which the coordinator's certificate must show.
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// The environment's CA certificates, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your certificate, PEM.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Write over a context of the same name.
    #[arg(long)]
    replace: bool,
}

/// Names a context.
#[derive(Debug, Args)]
pub(crate) struct NameArguments {
    /// The context's name.
    name: String,
}

/// Names a context, or the current one.
#[derive(Debug, Args)]
pub(crate) struct MaybeNameArguments {
    /// The context's name; the current one unless given.
    name: Option<String>,
}

/// Carries out the command.
pub(crate) fn run(command: ContextCommand, setting: &Setting) -> Result<Exit, Failure> {
    let home = Home::required()?;
    match command {
        ContextCommand::Add(arguments) => add(&home, arguments, setting),
        ContextCommand::List => list(&home, setting),
        ContextCommand::Use(arguments) => use_it(&home, &arguments.name, setting),
        ContextCommand::Remove(arguments) => remove(&home, &arguments.name, setting),
        ContextCommand::Show(arguments) => show(&home, arguments.name, setting),
    }
}

fn add(home: &Home, arguments: AddArguments, setting: &Setting) -> Result<Exit, Failure> {
    check_name(&arguments.name)?;
    let mut contexts = home.load()?;
    let tried = || format!("could not add the context {}", arguments.name);
    if contexts.all.contains_key(&arguments.name) && !arguments.replace {
        return Err(Failure::new(Exit::Usage, tried())
            .reason("there is one of that name")
            .next("add --replace to write over it"));
    }
    let given = given(&arguments, setting)?;
    // Says which key is missing, before anything is written.
    target::of_context(&arguments.name, &given)?;
    let context = copied(home, &arguments.name, given)?;
    let name = arguments.name;
    contexts.all.insert(name.clone(), context);
    if contexts.current.is_none() {
        contexts.current = Some(name.clone());
    }
    home.save(&contexts)?;
    told(setting, &contexts, &name, |name, current| match current {
        true => format!("added the context {name}; it is the current one\n"),
        false => format!("added the context {name}; use it with: calvin context use {name}\n"),
    })
}

/// What the arguments say, over what the directory says.
fn given(arguments: &AddArguments, setting: &Setting) -> Result<Context, Failure> {
    let base = match &arguments.from {
        Some(directory) => handed_over(directory)?,
        None => Context::default(),
    };
    let socket = setting
        .socket_flag()
        .map(|path| std::path::absolute(path).unwrap_or(path.to_owned()));
    Ok(Context {
        socket,
        environment: arguments.environment.clone().or(base.environment),
        address: arguments.address.clone().or(base.address),
        ca: arguments.ca.clone().or(base.ca),
        certificate: arguments.certificate.clone().or(base.certificate),
        key: arguments.key.clone().or(base.key),
    })
}

/// Reads the directory that `operator add` made; its paths are relative to it.
fn handed_over(directory: &Path) -> Result<Context, Failure> {
    let path = directory.join("context.toml");
    let context: Context =
        parse_toml(&path.display().to_string(), &read(&path)?).map_err(|error| {
            Failure::new(Exit::Usage, format!("could not use {}", path.display())).because(error)
        })?;
    let within = |path: Option<PathBuf>| path.map(|path| directory.join(path));
    Ok(Context {
        ca: within(context.ca),
        certificate: within(context.certificate),
        key: within(context.key),
        ..context
    })
}

/// Copies certificates and key to where only this user reads them.
fn copied(home: &Home, name: &str, context: Context) -> Result<Context, Failure> {
    let directory = home.files_of(name);
    let copy = |from: Option<PathBuf>, file: &str| -> Result<Option<PathBuf>, Failure> {
        let Some(from) = from else { return Ok(None) };
        let content = read(&from)?;
        make_private_directory(&directory)?;
        let to = directory.join(file);
        write_private(&to, content.as_bytes())?;
        Ok(Some(to))
    };
    Ok(Context {
        ca: copy(context.ca, "ca.pem")?,
        certificate: copy(context.certificate, "certificate.pem")?,
        key: copy(context.key, "key.pem")?,
        ..context
    })
}

fn list(home: &Home, setting: &Setting) -> Result<Exit, Failure> {
    let contexts = home.load()?;
    let views: Vec<ContextView> = contexts
        .all
        .keys()
        .map(|name| view(&contexts, name))
        .collect();
    setting.screen.show(&views, |views, canvas| {
        render::admin::contexts(views, &TimeZone::system(), canvas)
    })?;
    Ok(Exit::Done)
}

fn use_it(home: &Home, name: &str, setting: &Setting) -> Result<Exit, Failure> {
    let mut contexts = home.load()?;
    contexts.get(name)?;
    contexts.current = Some(name.to_owned());
    home.save(&contexts)?;
    told(setting, &contexts, name, |name, _| {
        format!("{name} is the current context\n")
    })
}

fn remove(home: &Home, name: &str, setting: &Setting) -> Result<Exit, Failure> {
    let mut contexts = home.load()?;
    contexts.get(name)?;
    let removed = view(&contexts, name);
    contexts.all.remove(name);
    contexts.current = contexts.current.filter(|current| current != name);
    home.save(&contexts)?;
    // Names are checked when they are added; a file that was edited by hand may say anything.
    check_name(name)?;
    let files = home.files_of(name);
    if files.is_dir() {
        fs::remove_dir_all(&files).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("could not delete {}", files.display()),
            )
            .because(error)
        })?;
    }
    setting.screen.show(&removed, |removed, _| {
        format!("removed the context {}\n", removed.name)
    })?;
    Ok(Exit::Done)
}

fn show(home: &Home, name: Option<String>, setting: &Setting) -> Result<Exit, Failure> {
    let contexts = home.load()?;
    let Some(name) = name.or_else(|| contexts.current.clone()) else {
        return Err(
            Failure::new(Exit::Usage, "could not show the current context")
                .reason("there is none; the socket of this machine's coordinator is used")
                .next("calvin context list"),
        );
    };
    contexts.get(&name)?;
    setting.screen.show(&view(&contexts, &name), |context, _| {
        // A context is a table of texts: it can always be written.
        toml::to_string(
            contexts
                .all
                .get(&context.name)
                .unwrap_or(&Context::default()),
        )
        .unwrap_or_default()
    })?;
    Ok(Exit::Done)
}

fn told(
    setting: &Setting,
    contexts: &Contexts,
    name: &str,
    text: impl FnOnce(&str, bool) -> String,
) -> Result<Exit, Failure> {
    let view = view(contexts, name);
    setting
        .screen
        .show(&view, |view, _| text(&view.name, view.current))?;
    Ok(Exit::Done)
}

fn view(contexts: &Contexts, name: &str) -> ContextView {
    let context = contexts.all.get(name).cloned().unwrap_or_default();
    let shown = |path: Option<&PathBuf>| path.map(|path| path.display().to_string());
    ContextView {
        name: name.to_owned(),
        current: contexts.current.as_deref() == Some(name),
        environment: context.environment.as_ref().map(ToString::to_string),
        expires_wall_ms: context.certificate.as_deref().and_then(certificate::ends),
        socket: shown(context.socket.as_ref()),
        address: context.address,
        ca: shown(context.ca.as_ref()),
        certificate: shown(context.certificate.as_ref()),
        key: shown(context.key.as_ref()),
    }
}
