//! `calvin.toml`: the coordinator itself, written by the operator of the environment.
