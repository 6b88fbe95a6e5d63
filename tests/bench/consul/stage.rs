//! The stage of the whole-system tests, for this bench: the same files.

#[path = "../../consul/stage/calvin.rs"]
pub(crate) mod calvin;
#[path = "../../consul/stage/edge.rs"]
pub(crate) mod edge;
#[path = "../../consul/stage/images.rs"]
pub(crate) mod images;
#[path = "../../consul/stage/names.rs"]
pub(crate) mod names;
#[path = "../../consul/stage/whole.rs"]
pub(crate) mod whole;
