//! Opens, wires and stops the parts of a coordinator.
