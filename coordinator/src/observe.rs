//! What the coordinator sees for itself, without asking an agent.
