//! An environment for one test: a directory, a network, a coordinator, and what a test does to them.

pub(crate) mod audit;
pub(crate) mod clock;
pub(crate) mod environment;
pub(crate) mod files;
pub(crate) mod gate;
pub(crate) mod observe;
pub(crate) mod operator;
pub(crate) mod processes;
pub(crate) mod stranger;
pub(crate) mod traffic;
pub(crate) mod waiting;

pub(crate) use environment::Environment;
