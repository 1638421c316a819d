//! What breaks, one file a kind: a process, the path, the interface, the start, a stranger,
//! a new configuration.
//!
//! ```text
//!   VM1-6 ── VM1 ══════ VM2 ══════ VM3 ── VM3-6
//!             │          │          │
//!      killed, deleted   cut     strangers dial from here
//! ```

mod carrier;
mod flood;
mod interface;
mod path;
mod reload;
mod restart;
mod security;
mod start;
mod strangers;

/// Where the steady inner connection of these tests goes: VM3-6.
const FAR: &str = "fc00:1234:4::36";
