//! End to end: Debian 12 and 13 booted with systemd, the package installed with apt.
//!
//! ```text
//!    near  eth1 172.16.2.131/24 ───────── 172.16.2.163/24 eth1  far
//!          tun0 fc00:1234:ffff::1 ══════ fc00:1234:ffff::10 tun0
//! ```
//!
//! Each case runs with `near` on either release; `far` is on the other one, so that both releases
//! always talk to each other. Every test boots machines of its own, laid over root file systems
//! that `tests/e2e/rootfs` makes once.
//!
//! The package is `target/debian/tunnel64d.deb`, or what `E2E_PACKAGE` names.

/// Makes a test for either release of each case, a function of the near machine's [`Release`].
///
/// [`Release`]: machine::Release
macro_rules! on_both_releases {
    ($($case:ident),+ $(,)?) => {
        mod bookworm {
            $(#[test] fn $case() { super::$case($crate::machine::Release::Bookworm); })+
        }
        mod trixie {
            $(#[test] fn $case() { super::$case($crate::machine::Release::Trixie); })+
        }
    };
}

/// Makes one test of each case, for what does not depend on the release: `far` is on the other one
/// anyhow.
macro_rules! on_one_release {
    ($($case:ident),+ $(,)?) => {
        mod either {
            $(#[test] fn $case() { super::$case($crate::machine::Release::Trixie); })+
        }
    };
}

mod failures;
mod gateways;
mod install;
mod machine;
mod neighbours;
mod operations;
mod package;
mod quality;
mod reload;
mod removal;
mod restart;
mod salt;
mod sandbox;
mod upgrade;
#[path = "../lab/wait.rs"]
mod wait;
