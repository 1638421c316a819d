//! daemon
pub mod worker;
