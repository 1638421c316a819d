//! From the TUN queue to the connection: steps 1 to 8.

use std::io;
use std::sync::Arc;

use crate::metrics::{Counters, Drop};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::headers::Headers;
use crate::packet::offload::{Accepts, Offload};
use crate::queue::{Fifo, Queued};
use crate::transport::Stream;
use crate::tun::device::{Queue, is_gone};
use crate::tun::segment::{Segment, segment};
use crate::tun::vnet::{VnetHeader, offload_of};
use crate::wire::frame::{Header, Kind};

use super::InterfaceGone;

/// Packets read before the connection gets a turn.
const PACKETS_A_TURN: usize = 64;

/// Bytes read before the connection gets a turn: a few super-packets.
const BYTES_A_TURN: usize = 256 * 1024;

/// Bytes handed to the connection ahead of what the kernel takes. Enough to keep it busy; the rest
/// waits in the queue, where it can still be decided about.
const AHEAD: usize = 192 * 1024;

/// What the peer of the current session can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// The super-packets that it takes whole.
    pub accepts: Accepts,
    /// The longest packet that it takes, in bytes.
    pub max_packet: usize,
}

/// One direction of one stream's data path.
#[derive(Debug)]
pub struct Outbound {
    queue: Fifo,
    pool: Pool,
    counters: Arc<Counters>,
}

impl Outbound {
    /// Holds at most `limit` bytes of waiting packets.
    pub fn new(limit: usize, counters: Arc<Counters>) -> Self {
        Self { queue: Fifo::new(limit), pool: Pool::default(), counters }
    }

    /// Steps 1 to 3: takes what the TUN queue has, up to a turn's worth. Says whether it had any.
    ///
    /// # Errors
    /// [`InterfaceGone`]
    pub fn read(&mut self, tun: &Queue) -> Result<bool, InterfaceGone> {
        let (mut packets, mut bytes) = (0, 0);
        while packets < PACKETS_A_TURN && bytes < BYTES_A_TURN {
            let mut vnet = VnetHeader::default();
            // 1 read
            let read = self.pool.fill(|room| tun.read(&mut vnet, room));
            let mut buffer = match read {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_gone(&error) => return Err(InterfaceGone),
                // Nothing is known to bring this about; the next turn tries again.
                Err(_) => {
                    self.counters.dropped(Drop::MalformedFromKernel);
                    break;
                }
            };
            packets += 1;
            bytes += buffer.packet().len();
            // 2 parse
            match parse(&vnet, buffer.packet_mut()) {
                // 3 enqueue
                Some(offload) => self.enqueue(Queued { buffer, offload }),
                None => self.discard(buffer, Drop::MalformedFromKernel),
            }
        }
        Ok(packets > 0)
    }

    /// Step 3, also for packets that waited for a stream that is gone.
    pub fn enqueue(&mut self, packet: Queued) {
        let Self { queue, pool, counters } = self;
        queue.enqueue(packet, |oldest| {
            counters.dropped(Drop::QueueFull);
            pool.recycle(oldest.buffer);
        });
    }

    /// Everything that waits, for another stream to send.
    pub fn take_queue(&mut self) -> Vec<Queued> {
        std::iter::from_fn(|| self.queue.dequeue()).collect()
    }

    /// Steps 4 to 8: hands the connection what waits, as far as it can take more. Says whether
    /// there was any.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, stream: &mut Stream, peer: &PeerLimits) -> io::Result<bool> {
        let mut any = false;
        loop {
            while stream.unsent() < AHEAD {
                // 4 dequeue
                let Some(packet) = self.queue.dequeue() else { break };
                any = true;
                self.hand_over(packet, stream, peer);
            }
            // 8 write
            stream.flush(&mut self.pool)?;
            if stream.unsent() > 0 || self.queue.is_empty() {
                return Ok(any);
            }
        }
    }

    /// Undoes steps 6 and 7 for what is not yet on its way, because its connection is over.
    pub fn take_back(&mut self, stream: &mut Stream) {
        let mut again: Vec<_> = stream
            .take_unsent()
            .filter_map(|(header, buffer)| match header.kind {
                Kind::Data { gso_size, checksum_incomplete } => {
                    Some(Queued { buffer, offload: Offload { gso_size, checksum_incomplete } })
                }
                _ => None,
            })
            .collect();
        again.extend(self.take_queue());
        again.into_iter().for_each(|packet| self.enqueue(packet));
    }

    /// Step 8 alone, for what has been handed over before.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self, stream: &mut Stream) -> io::Result<()> {
        stream.flush(&mut self.pool)
    }

    /// Steps 5 to 7.
    fn hand_over(&mut self, packet: Queued, stream: &mut Stream, peer: &PeerLimits) {
        let Queued { mut buffer, offload } = packet;
        let length = buffer.packet().len();
        if offload == Offload::NONE {
            if length > peer.max_packet {
                return self.discard(buffer, Drop::TooLong);
            }
            self.counters.sent.add(length);
            return push(stream, buffer, offload);
        }
        let Ok(headers) = Headers::parse(buffer.packet()) else {
            return self.discard(buffer, Drop::MalformedFromKernel);
        };
        if peer.accepts.takes(&headers, offload) && length <= peer.max_packet {
            self.counters.sent.add(length);
            return push(stream, buffer, offload);
        }
        // 5 segment
        let emit = |segment: Segment<'_>| {
            push(stream, Buffer::concat(&[segment.headers, segment.payload]), Offload::NONE);
        };
        match segment(buffer.packet_mut(), &headers, offload, emit) {
            Ok(_) => {
                self.counters.sent.add(length);
                self.pool.recycle(buffer);
            }
            Err(_) => self.discard(buffer, Drop::MalformedFromKernel),
        }
    }

    fn discard(&mut self, buffer: Buffer, cause: Drop) {
        self.counters.dropped(cause);
        self.pool.recycle(buffer);
    }
}

fn parse(vnet: &VnetHeader, packet: &mut [u8]) -> Option<Offload> {
    let headers = Headers::parse(packet).ok()?;
    offload_of(vnet, packet, &headers).ok()
}

/// Steps 6 and 7.
fn push(stream: &mut Stream, mut buffer: Buffer, offload: Offload) {
    let Offload { gso_size, checksum_incomplete } = offload;
    let kind = Kind::Data { gso_size, checksum_incomplete };
    buffer.set_header(Header { kind, length: buffer.packet().len() }.to_bytes());
    stream.push(buffer);
}
