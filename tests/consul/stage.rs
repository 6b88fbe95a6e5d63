//! The stage of the whole-system tests: a real Consul datacenter, a coordinator with the token that
//! `calvin consul policies` is enough for, machines with Consul clients of their own, two HAProxy in
//! front as people run it, and a client that counts.

pub(crate) mod calvin;
pub(crate) mod consul_template;
pub(crate) mod edge;
pub(crate) mod front;
pub(crate) mod haproxy;
pub(crate) mod images;
pub(crate) mod load;
pub(crate) mod machines;
pub(crate) mod names;
pub(crate) mod program;
pub(crate) mod whole;
