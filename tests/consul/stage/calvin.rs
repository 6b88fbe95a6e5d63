//! The environments of the end-to-end tests: the same files as there.

#[path = "../../e2e/support/environment.rs"]
pub(crate) mod environment;
#[path = "../../e2e/support/files.rs"]
pub(crate) mod files;
#[path = "../../e2e/support/observe.rs"]
pub(crate) mod observe;
#[path = "../../e2e/support/operator.rs"]
pub(crate) mod operator;
#[path = "../../e2e/support/processes.rs"]
pub(crate) mod processes;
#[path = "../../e2e/support/traffic.rs"]
pub(crate) mod traffic;
#[path = "../../e2e/support/waiting.rs"]
pub(crate) mod waiting;

pub(crate) use environment::Environment;
