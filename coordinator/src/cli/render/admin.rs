//! Images, operators, CAs, contexts and what `doctor` found.

use jiff::tz::TimeZone;

use super::time::minute;
use crate::cli::{
    style::{Canvas, Tone, count, tame},
    table::{Cell, Table},
    view::{CaView, ContextView, DoctorView, ImageView, OperatorView},
};

/// Characters of a digest that tell two apart; `--output json` has all of them.
const DIGEST_SHOWN: usize = "sha256:".len() + 12;

/// The table of images.
pub(crate) fn images(images: &[ImageView], zone: &TimeZone, canvas: Canvas) -> String {
    if images.is_empty() {
        return "no image yet; record one with: calvin image add DIRECTORY\n".to_owned();
    }
    let mut table = Table::new(0, ["IMAGE", "DIGEST", "USED", "ADDED", "BY", "LOCATION"]);
    for image in images {
        table.row([
            image.image.as_str().into(),
            short(&image.digest).into(),
            image.instances.to_string().into(),
            minute(image.added_wall_ms, zone).into(),
            added_by(image).into(),
            tame(&image.location).into(),
        ]);
    }
    let mut text = table.render(canvas);
    for image in images {
        if let Some(veto) = &image.veto {
            let sentence = format!(
                "{} is vetoed by {} since {}: {}",
                image.image,
                tame(&veto.by),
                minute(veto.wall_ms, zone),
                tame(&veto.reason)
            );
            text.push_str(&canvas.labelled(6, "VETO", Tone::Warn, &sentence));
        }
    }
    text
}

/// It was not always kept.
fn added_by(image: &ImageView) -> String {
    match image.added_by.as_str() {
        "" => "-".to_owned(),
        name => tame(name).to_string(),
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(DIGEST_SHOWN).collect()
}

/// The table of operators.
pub(crate) fn operators(operators: &[OperatorView], zone: &TimeZone, canvas: Canvas) -> String {
    if operators.is_empty() {
        return "no operator yet; make one with: calvin operator add NAME --role operator\n"
            .to_owned();
    }
    let mut table = Table::new(0, ["OPERATOR", "ROLE", "ADDED", "CERTIFICATE"]);
    for operator in operators {
        let certificate = if operator.revoked {
            Cell::new(Tone::Bad, "revoked")
        } else {
            format!("until {}", minute(operator.expires_wall_ms, zone)).into()
        };
        table.row([
            operator.name.as_str().into(),
            operator.role.as_str().into(),
            minute(operator.added_wall_ms, zone).into(),
            certificate,
        ]);
    }
    table.render(canvas)
}

/// The CAs that are trusted now.
pub(crate) fn ca(ca: &CaView, zone: &TimeZone, canvas: Canvas) -> String {
    let mut text = format!(
        "{}\n",
        canvas
            .paint
            .tone(Tone::Bold, &format!("[{}]", ca.environment))
    );
    for (number, one) in ca.trusted.iter().enumerate() {
        let use_of_it = if number == 0 { "signs" } else { "trusted" };
        let sentence = format!(
            "{} to {}, {}",
            minute(one.from_wall_ms, zone),
            minute(one.until_wall_ms, zone),
            one.fingerprint
        );
        text.push_str(&canvas.labelled(10, &format!("  {use_of_it}"), Tone::Dim, &sentence));
    }
    let left = usize::try_from(ca.not_renewed).unwrap_or(usize::MAX);
    let sentence = match left {
        0 => "every instance uses a certificate of the CA that signs".to_owned(),
        left => format!(
            "{} on a certificate of an older CA",
            count(left, "instance")
        ),
    };
    text.push_str(&canvas.paragraph(2, &sentence));
    text
}

/// What `doctor` found, failed checks first.
pub(crate) fn doctor(doctor: &DoctorView, canvas: Canvas) -> String {
    let mut text = String::new();
    for check in &doctor.checks {
        let (mark, tone) = if check.ok {
            ("ok", Tone::Good)
        } else {
            ("BAD", Tone::Bad)
        };
        let sentence = format!("{}, {}: {}", check.side, check.name, tame(&check.found));
        text.push_str(&canvas.labelled(5, mark, tone, &sentence));
        if let Some(advice) = check.advice.as_ref().filter(|_| !check.ok) {
            text.push_str(&canvas.labelled(5, "", Tone::Bold, &format!("-> {}", tame(advice))));
        }
    }
    let bad = doctor.checks.iter().filter(|check| !check.ok).count();
    let verdict = match bad {
        0 => format!("{}, all well\n", count(doctor.checks.len(), "check")),
        bad => format!(
            "{} of {} failed\n",
            bad,
            count(doctor.checks.len(), "check")
        ),
    };
    text.push_str(&verdict);
    text
}

/// The table of contexts.
pub(crate) fn contexts(contexts: &[ContextView], zone: &TimeZone, canvas: Canvas) -> String {
    if contexts.is_empty() {
        return "no context yet; add one with: calvin context add NAME --from DIRECTORY\n"
            .to_owned();
    }
    let mut table = Table::new(0, ["", "CONTEXT", "ENVIRONMENT", "CERTIFICATE", "WHERE"]);
    for context in contexts {
        let place = context.address.as_deref().or(context.socket.as_deref());
        let certificate = context.expires_wall_ms.map_or_else(
            || "-".to_owned(),
            |until| format!("until {}", minute(until, zone)),
        );
        table.row([
            if context.current { "*" } else { "" }.into(),
            context.name.as_str().into(),
            context.environment.as_deref().unwrap_or("-").into(),
            certificate.into(),
            place.unwrap_or("-").into(),
        ]);
    }
    table.render(canvas)
}
