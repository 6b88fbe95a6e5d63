//! Where clients look instances up.
