//! The lab: six hosts in network namespaces, two daemons, real tools.
//!
//! ```text
//!                    IPv6 islands, joined by VM2-6 until it dies: fc00:1234::/32
//!
//!   VM1-6 eth1 1::16 ───────── 1::26 eth1 VM2-6 eth2 2::26 ───────── 2::36 eth1 VM3-6
//!     │ eth2 3::16                 (the router that dies)              4::36 eth2 │
//!     │                                                                           │
//!     │ eth2 3::1                                                       4::3 eth2 │
//!   VM1 eth1 172.16.2.131 ──── .132 eth1 VM2 eth2 .162 ──── 172.16.2.163 eth1 VM3
//!     tun0 ffff::1                  (IPv4 router)                   tun0 ffff::10
//! ```
//!
//! Every test raises a lab of its own with `tests/lab/lab`, so that tests run side by side and
//! nothing outlives them. `TUNNEL64D_BIN` names another binary to test than the one just built.

mod faults;
mod formats;
mod harness;
mod islands;
mod line;
mod metrics;
mod rows;
mod status;
mod tool;
mod traffic;
#[path = "../varlink/mod.rs"]
mod varlink;
mod wait;
#[path = "../watching/mod.rs"]
mod watching;
