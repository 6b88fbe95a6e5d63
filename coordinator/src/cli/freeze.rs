//! `calvin freeze` and `calvin unfreeze`: let nothing begin, in one fleet or in all.

use std::time::Duration;

use calvin_model::HumanDuration;
use calvin_proto::wire::{FreezeRequest, StatusRequest, UnfreezeRequest};
use clap::{Args, Subcommand, ValueEnum};
use jiff::tz::TimeZone;

use super::{
    exit::Exit,
    failure::Failure,
    fleet::{After, changed},
    moment,
    order::{Peril, order},
    render,
    setting::Setting,
    status,
    view::FreezesView,
};

/// Arguments of `calvin freeze`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    after_help = "Examples:\n  \
        calvin freeze --until 17:00 --reason 'sale'\n  \
        calvin freeze db --scope all --for 2h --reason 'disks are moved'\n  \
        calvin freeze show\n\n\
        It ends at that time, or with: calvin unfreeze [FLEET]"
)]
pub(crate) struct FreezeArguments {
    /// One fleet only; the environment as a whole unless given.
    fleet: Option<String>,
    /// How much is held.
    #[arg(long, value_enum, default_value_t)]
    scope: Scope,
    /// When it ends by itself: a time of today in this zone, `17:00`, or a moment with its offset,
    /// `2026-11-26T17:00+01:00`.
    #[arg(long, value_name = "TIME", conflicts_with = "for_")]
    until: Option<String>,
    /// How long it lasts, such as 90m or 2h.
    #[arg(long = "for", id = "for_", value_name = "DURATION")]
    for_: Option<HumanDuration>,
    /// Why, for the status and the history.
    #[arg(long, required = true)]
    reason: Option<String>,
    #[command(subcommand)]
    show: Option<FreezeCommand>,
}

/// What else can be done with freezes.
#[derive(Debug, Subcommand)]
pub(crate) enum FreezeCommand {
    /// Every freeze that holds now.
    Show,
}

/// How much a freeze holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// Nothing new starts; going back, repairs and renewals go on.
    #[default]
    New,
    /// Nothing is made, replaced or deleted at all; needs an end.
    All,
}

impl Scope {
    const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::All => "all",
        }
    }
}

/// Arguments of `calvin unfreeze`.
#[derive(Debug, Args)]
pub(crate) struct UnfreezeArguments {
    /// The freeze of one fleet; that of the environment as a whole unless given.
    fleet: Option<String>,
}

/// Carries out `calvin freeze`.
pub(crate) async fn run(arguments: FreezeArguments, setting: &Setting) -> Result<Exit, Failure> {
    match arguments.show {
        Some(FreezeCommand::Show) => show(setting).await,
        None => freeze(arguments, setting).await,
    }
}

async fn freeze(arguments: FreezeArguments, setting: &Setting) -> Result<Exit, Failure> {
    let FreezeArguments {
        fleet,
        scope,
        until,
        for_,
        reason,
        show: _,
    } = arguments;
    let name = match &fleet {
        Some(fleet) => format!("fleet {fleet}"),
        None => "the environment".to_owned(),
    };
    let tried = format!("could not freeze {name}");
    if scope == Scope::All && until.is_none() && for_.is_none() {
        return Err(Failure::new(Exit::Usage, tried)
            .reason("--scope all without --until or --for would hold repairs too, for ever")
            .next("say when it ends, such as --for 2h; or leave --scope all away"));
    }
    let caller = setting.connect().await?;
    let about = caller.about().await?;
    let tried = format!("[{}] {tried}", about.environment);
    // The coordinator's clock decides when it ends, so it also says what is past.
    let now = about.wall_ms;
    let until_wall_ms =
        match (&until, for_) {
            (Some(text), _) => Some(moment::later(text, now, &TimeZone::system()).map_err(
                |error| Failure::new(Exit::Usage, tried.clone()).reason(error.to_string()),
            )?),
            (None, Some(HumanDuration(lasts))) => Some(end(now, lasts)),
            (None, None) => None,
        };
    let request = FreezeRequest {
        fleet: fleet.unwrap_or_default(),
        scope: scope.as_str().to_owned(),
        until_wall_ms,
        reason: reason.unwrap_or_default(),
    };
    let reply = caller.ask(&tried, caller.client().freeze(request)).await?;
    changed(setting, about.environment, reply, After::End)?;
    Ok(Exit::Done)
}

fn end(now: u64, lasts: Duration) -> u64 {
    now.saturating_add(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX))
}

/// Carries out `calvin unfreeze`.
pub(crate) async fn unfreeze(
    arguments: UnfreezeArguments,
    setting: &Setting,
) -> Result<Exit, Failure> {
    let fleet = arguments.fleet.unwrap_or_default();
    let verb = match fleet.as_str() {
        "" => "unfreeze the environment".to_owned(),
        fleet => format!("unfreeze fleet {fleet}"),
    };
    let request = UnfreezeRequest { fleet };
    order(setting, &verb, Peril::None, async |mut client| {
        client.unfreeze(request).await
    })
    .await
}

async fn show(setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let status = status::ask(&caller, StatusRequest::default()).await?;
    let freezes = FreezesView::of(&status);
    setting.screen.show(&freezes, |freezes, canvas| {
        render::orders::freezes(freezes, &TimeZone::system(), canvas)
    })?;
    Ok(Exit::Done)
}
