//! What a service owes its manager and its admin: readiness, a watchdog, and a calm log.

pub mod flap;
pub mod http;
pub mod inherited;
pub mod journal;
mod line;
pub mod logging;
pub mod messages;
pub mod notify;
pub mod repeat;
pub mod trouble;
