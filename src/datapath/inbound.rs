//! From the connection to the TUN queue: steps 3 to 6. What has been read by then, and opened, is
//! the connection's doing.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::metrics::{Counters, Drop};
use crate::packet::offload::Offload;
use crate::transport::Stream;
use crate::tun::device::{Queue, is_gone};
use crate::tun::sanitise::Sanitiser;
use crate::wire::bye::Bye;
use crate::wire::frame::{Kind, Malformed};

use super::InterfaceGone;

/// Frames delivered before the other direction gets a turn.
const FRAMES_A_TURN: usize = 256;

/// Why the peer's bytes can't be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] Malformed),
    /// A frame that has no place here.
    #[error("HELLO in the middle of a stream")]
    Hello,
}

/// What came besides packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Answer with a PONG of the same body.
    Ping(Vec<u8>),
    /// Our PING was answered.
    Pong,
    /// The peer ends the stream.
    Bye(Bye),
}

/// What the bytes that had been read amounted to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Whether at least one whole frame came.
    pub heard: bool,
    /// What has to be answered or acted upon; delivery stopped there.
    pub control: Option<Control>,
    /// A packet found the interface gone. The rest was dropped and counted.
    pub gone: Option<InterfaceGone>,
}

/// The inner addresses that the peer may send from.
///
/// Checked on the IP header of every packet: a super-packet has one header for all its segments,
/// and extension headers come after the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources(Vec<IpNet>);

impl Sources {
    /// Lets through what comes from these prefixes, and nothing else.
    pub fn new(prefixes: Vec<IpNet>) -> Self {
        Self(prefixes)
    }

    /// Whether a packet from this address may enter.
    pub fn allow(&self, source: IpAddr) -> bool {
        self.0.iter().any(|prefix| prefix.contains(&source))
    }
}

/// One direction of one stream's data path.
#[derive(Debug, Clone)]
pub struct Inbound {
    sanitiser: Sanitiser,
    sources: Sources,
    counters: Arc<Counters>,
}

impl Inbound {
    /// Lets through what the sanitiser does, from these sources.
    pub fn new(sanitiser: Sanitiser, sources: Sources, counters: Arc<Counters>) -> Self {
        Self { sanitiser, sources, counters }
    }

    /// From now on these decide what is let through.
    pub fn reconfigure(&mut self, sanitiser: Sanitiser, sources: Sources) {
        (self.sanitiser, self.sources) = (sanitiser, sources);
    }

    /// Steps 3 to 6, for the whole frames that have been read, up to a turn's worth or the first
    /// control frame.
    /// Without a TUN queue packets are counted and dropped.
    ///
    /// # Errors
    /// [`Broken`]: the connection has to be closed.
    pub fn deliver(&self, stream: &mut Stream, tun: Option<&Queue>) -> Result<Delivery, Broken> {
        let mut delivery = Delivery::default();
        // 3 unframe
        for _ in 0..FRAMES_A_TURN {
            let Some(frame) = stream.next_frame()? else { break };
            delivery.heard = true;
            let control = match frame.header.kind {
                Kind::Data { gso_size, checksum_incomplete } => {
                    let offload = Offload { gso_size, checksum_incomplete };
                    if self.write(frame.body, offload, tun).is_err() {
                        delivery.gone = Some(InterfaceGone);
                    }
                    continue;
                }
                Kind::Ping => Control::Ping(frame.body.to_vec()),
                Kind::Pong => Control::Pong,
                Kind::Bye => Control::Bye(Bye::parse(frame.body)),
                Kind::Hello => return Err(Broken::Hello),
            };
            delivery.control = Some(control);
            break;
        }
        Ok(delivery)
    }

    fn write(
        &self,
        packet: &mut [u8],
        offload: Offload,
        tun: Option<&Queue>,
    ) -> Result<(), InterfaceGone> {
        // 4 sanitise
        let Ok(sane) = self.sanitiser.rebuild(packet, offload) else {
            self.counters.dropped(Drop::RefusedFromPeer);
            return Ok(());
        };
        // 5 filter
        if !self.sources.allow(sane.headers.source) {
            self.counters.dropped(Drop::ForeignSource);
            return Ok(());
        }
        let Some(tun) = tun else {
            self.counters.dropped(Drop::InterfaceDown);
            return Ok(());
        };
        // 6 write
        match tun.write(&sane.vnet, packet) {
            Ok(()) => self.counters.received.add(packet.len()),
            Err(error) if is_gone(&error) => {
                self.counters.dropped(Drop::InterfaceDown);
                return Err(InterfaceGone);
            }
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                self.counters.dropped(Drop::InterfaceDown);
            }
            Err(_) => self.counters.dropped(Drop::RefusedByKernel),
        }
        Ok(())
    }
}
