//! What is written down of those who were refused, and what they are told.

use serde_json::Value;
use tonic::{Code, Status};

use super::{Environment, waiting::until};

/// Every refusal in the audit, as its sentence.
pub(crate) fn refusals(environment: &Environment) -> Vec<String> {
    let text = std::fs::read_to_string(environment.home().join("data/audit.log")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["outcome"] == "refused")
        .map(|line| line["text"].as_str().unwrap().to_owned())
        .collect()
}

/// Fails unless there comes exactly one refusal more, and its sentence holds this word. It may
/// come a moment after the one who was refused has heard of it.
pub(crate) async fn assert_one_refusal_more(
    environment: &Environment,
    before: &[String],
    word: &str,
) {
    let new = until("a refusal in the audit", async || {
        let after = refusals(environment);
        if after.len() > before.len() {
            Ok(after[before.len()..].to_vec())
        } else {
            Err(after)
        }
    })
    .await;
    assert!(new.len() == 1 && new[0].contains(word), "{new:?}");
}

/// Fails unless somebody was refused, with this word in the reason.
pub(crate) fn assert_refused(status: &Status, word: &str) {
    let denied = matches!(
        status.code(),
        Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition | Code::NotFound
    );
    assert!(denied, "{status:?}");
    assert!(
        status.message().contains(word),
        "without {word:?}: {}",
        status.message()
    );
}
