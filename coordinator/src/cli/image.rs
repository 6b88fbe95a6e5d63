//! `calvin image`: which builds the coordinator knows.

use std::path::PathBuf;

use calvin_proto::wire::{AddImageRequest, ImageOrderRequest, ListImagesRequest};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;

use super::{
    exit::Exit,
    failure::Failure,
    order::{Peril, order},
    render,
    setting::Setting,
    view::ImageView,
};

/// What can be done with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Record an image: its `image.toml` and the digest of its content.
    Add(AddArguments),
    /// Every recorded image, and which are vetoed.
    List,
    /// Make nothing from an image any more; what runs of it goes on.
    Veto(VetoArguments),
    /// Let instances be made from an image again.
    Unveto(UnvetoArguments),
}

/// Arguments of `calvin image add`.
#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// Where it is, as its provider names it; for `process` a directory on the coordinator's
    /// machine.
    location: String,
    /// Which provider it is for.
    #[arg(long, default_value = "process")]
    provider: String,
}

/// Arguments of `calvin image veto`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  calvin image veto web@2.0 --reason 'loses sessions under load'"
)]
pub(crate) struct VetoArguments {
    /// Which image, `name@version`.
    image: String,
    /// Why, for the status and the history.
    #[arg(long)]
    reason: String,
}

/// Arguments of `calvin image unveto`.
#[derive(Debug, Args)]
pub(crate) struct UnvetoArguments {
    /// Which image, `name@version`.
    image: String,
}

/// Carries out the command.
pub(crate) async fn run(command: ImageCommand, setting: &Setting) -> Result<Exit, Failure> {
    match command {
        ImageCommand::Add(arguments) => add(arguments, setting).await,
        ImageCommand::List => list(setting).await,
        ImageCommand::Veto(arguments) => veto(arguments, setting).await,
        ImageCommand::Unveto(arguments) => unveto(arguments, setting).await,
    }
}

async fn add(arguments: AddArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    let AddArguments { location, provider } = arguments;
    let location = if provider == "process" {
        absolute(&location)
    } else {
        location
    };
    let tried = format!("[{environment}] could not record the image at {location}");
    let request = AddImageRequest { provider, location };
    let reply = caller
        .ask(&tried, caller.client().add_image(request))
        .await?;
    let image = ImageView::from(reply);
    setting.screen.show(&image, |image, canvas| {
        let line = format!("recorded {} with {}", image.image, image.digest);
        render::change::said(&environment, &line, canvas)
    })?;
    Ok(Exit::Done)
}

/// A directory of this machine by its full path, because the coordinator has another working
/// directory. What is not here is left as it is: it may be there.
fn absolute(location: &str) -> String {
    std::fs::canonicalize(PathBuf::from(location))
        .map_or_else(|_| location.to_owned(), |path| path.display().to_string())
}

async fn list(setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let tried = "could not list the images";
    let reply = caller
        .ask(tried, caller.client().list_images(ListImagesRequest {}))
        .await?;
    let images: Vec<ImageView> = reply.images.into_iter().map(Into::into).collect();
    setting.screen.show(&images, |images, canvas| {
        render::admin::images(images, &TimeZone::system(), canvas)
    })?;
    Ok(Exit::Done)
}

async fn veto(arguments: VetoArguments, setting: &Setting) -> Result<Exit, Failure> {
    let VetoArguments { image, reason } = arguments;
    let verb = format!("veto image {image}");
    let request = ImageOrderRequest { image, reason };
    order(setting, &verb, Peril::None, async |mut client| {
        client.veto_image(request).await
    })
    .await
}

async fn unveto(arguments: UnvetoArguments, setting: &Setting) -> Result<Exit, Failure> {
    let image = arguments.image;
    let verb = format!("end the veto of image {image}");
    let reason = String::new();
    let request = ImageOrderRequest { image, reason };
    order(setting, &verb, Peril::None, async |mut client| {
        client.unveto_image(request).await
    })
    .await
}
