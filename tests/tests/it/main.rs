//! Black-box tests through real sockets.

mod bad_input;
mod conformance;
mod golden;
mod promises;
mod resume;
mod services;
mod tutorial;
