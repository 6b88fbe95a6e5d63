//! Images: directories with an `image.toml`, known by the hash of their content.
//!
//! `calvin image add` works by reference: the directory stays where it is, and its digest is
//! recorded. What a fleet rolls out is therefore the content that was added and no other: the
//! provider computes the digest again whenever it makes a machine.

mod digest;
mod store;
#[cfg(test)]
mod tests;

pub use digest::{DigestError, Fingerprint, digest_of};
pub use store::{Added, ImageError, ImageRecord, ImageStore};
