//! Replies as text for people. Pure: a view and a canvas in, lines out; golden texts in the tests.

pub(crate) mod admin;
pub(crate) mod change;
pub(crate) mod explain;
pub(crate) mod fleet;
pub(crate) mod history;
pub(crate) mod instance;
pub(crate) mod kind;
pub(crate) mod live;
pub(crate) mod orders;
pub(crate) mod phase;
pub(crate) mod plan;
pub(crate) mod recovery;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod time;
pub(crate) mod wait;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
