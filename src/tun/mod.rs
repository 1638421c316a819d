//! Packets to and from the kernel through a TUN interface.
//!
//! The kernel puts a `virtio_net_hdr` before each packet that says what is left to do. Outwards it
//! becomes an [`Offload`](crate::packet::offload::Offload); inwards it is built anew from the
//! packet, for a peer's word about offsets is never the kernel's business.

pub mod adopt;
pub mod coalesce;
pub mod device;
pub mod sanitise;
pub mod segment;
pub mod vnet;
