//! FNV-1a: a small, stable hash. It seeds a fleet's random numbers and makes plan ids; both must
//! be the same on every machine and in every version, which the standard library does not promise.

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// A hash that is being made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Fnv {
    /// Of nothing yet.
    pub(crate) fn new() -> Self {
        Self(OFFSET)
    }

    /// Adds one text, and its end: `ab`, `c` differs from `a`, `bc`.
    pub(crate) fn text(mut self, text: &str) -> Self {
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        self
    }

    /// Adds one number.
    pub(crate) fn number(mut self, number: u64) -> Self {
        for byte in number.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        self
    }

    /// The hash.
    pub(crate) fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one_and_keeps_texts_apart() {
        // FNV-1a of the bytes 61 ff.
        assert_eq!(Fnv::new().text("a").finish(), {
            let a = (OFFSET ^ 0x61).wrapping_mul(PRIME);
            (a ^ 0xff).wrapping_mul(PRIME)
        });
        let split = Fnv::new().text("ab").text("c").finish();
        assert_ne!(split, Fnv::new().text("a").text("bc").finish());
    }
}
