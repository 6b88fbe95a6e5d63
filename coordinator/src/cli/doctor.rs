//! `calvin doctor`: what is wrong here, on the way to the coordinator, and at the coordinator.

mod local;

use calvin_proto::wire::DoctorRequest;

use super::{
    caller::Caller,
    exit::Exit,
    failure::Failure,
    failure::Page,
    render,
    screen::Format,
    setting::Setting,
    view::{CheckView, DoctorView},
};

/// Makes every check that can be made.
pub(crate) async fn run(setting: &Setting) -> Result<Exit, Failure> {
    let mut checks = local::files(setting);
    let mut exit = Exit::Done;
    match ask(setting).await {
        Ok(found) => checks.extend(found),
        Err(failure) => {
            exit = failure.exit();
            let report = failure.report(Format::Table, Page::Lines);
            let found = report
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            // Advice to call the doctor helps nobody here.
            let advice = failure
                .advice()
                .filter(|advice| !advice.contains("calvin doctor"))
                .unwrap_or("is it running, and is this the right --socket or --context?");
            checks.push(local::bad("coordinator", found.to_owned(), advice));
        }
    }
    // Failed checks first, else in the order in which they were made.
    checks.sort_by_key(|check| check.ok);
    let ok = checks.iter().all(|check| check.ok);
    let view = DoctorView { ok, checks };
    setting.screen.show(&view, render::admin::doctor)?;
    Ok(match (exit, ok) {
        (Exit::Done, false) => Exit::Failed,
        (exit, _) => exit,
    })
}

async fn ask(setting: &Setting) -> Result<Vec<CheckView>, Failure> {
    let caller: Caller = setting.connect().await?;
    let about = caller.about().await?;
    let mut checks = local::about(setting, &about);
    let tried = "could not ask the coordinator for its checks";
    let reply = caller
        .ask(tried, caller.client().doctor(DoctorRequest {}))
        .await?;
    checks.extend(reply.checks.into_iter().map(CheckView::of_coordinator));
    Ok(checks)
}
