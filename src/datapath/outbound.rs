//! From the TUN queue to the connection: steps 1 to 3 in `intake`, 4 to 8 here.

mod intake;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{Batch, Counters, Drop};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::flow::FlowKey;
use crate::packet::headers::Headers;
use crate::packet::offload::{Accepts, Offload};
use crate::queue::line::{Line, Probes, Seen};
use crate::queue::{Depth, Dropped, FlowQueue, Queued, codel};
use crate::sys;
use crate::time::Time;
use crate::transport::Stream;
use crate::tun::segment::{Segment, segment};
use crate::wire::frame::{Header, Kind};

/// After more than this much memory has been in use for what waited, it is given back.
const MUCH: usize = 1024 * 1024;

/// Not oftener than this: a busy tunnel would take it again at once.
const TIDY: Duration = Duration::from_secs(1);

/// After this long a slow line has taken some of what is on its way.
pub const HELD_BACK: Duration = Duration::from_millis(1);

/// What the queue is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueParameters {
    /// When a flow's wait is too long.
    pub codel: codel::Parameters,
    /// Memory that waiting packets may take, in bytes.
    pub limit: usize,
    /// Whether packets whose senders understand it are marked instead of dropped.
    pub mark: bool,
}

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
    queue: FlowQueue,
    flows: RandomState,
    pool: Pool,
    counters: Arc<Counters>,
    /// How long the packets of this turn waited.
    waits: Batch,
    line: Line,
    /// Whether the peer takes trains of datagrams whole.
    trains: bool,
    /// When something was last handed to the connection.
    written: Time,
    /// The most memory that was in use since it was last given back, and when that was.
    most_held: usize,
    tidied: Time,
}

impl Outbound {
    /// An empty queue and no connection.
    pub fn new(parameters: QueueParameters, counters: Arc<Counters>) -> Self {
        let QueueParameters { codel, limit, mark } = parameters;
        Self {
            queue: FlowQueue::new(codel, limit, mark),
            flows: RandomState::new(),
            pool: Pool::default(),
            counters,
            waits: Batch::default(),
            line: Line::new(codel.target),
            trains: false,
            written: Time::default(),
            most_held: 0,
            tidied: Time::default(),
        }
    }

    /// From now on these hold, also for what waits already.
    pub fn reconfigure(&mut self, parameters: QueueParameters) {
        let QueueParameters { codel, limit, mark } = parameters;
        self.queue.reconfigure(codel, limit, mark);
        self.line.set_target(codel.target);
    }

    /// The next packets leave through another connection, to this peer.
    pub fn connected(&mut self, peer: &PeerLimits) {
        self.line.forget();
        // Another line: what waits for it is divided anew.
        self.take_queue().into_iter().for_each(|packet| self.enqueue(packet));
        self.trains = peer.accepts.contains(Accepts::USO4.union(Accepts::USO6));
    }

    /// Gives memory back that a burst has taken: the allocator would keep it.
    pub fn tidy(&mut self, now: Time) {
        if self.most_held > MUCH && self.queue.is_empty() && now - self.tidied >= TIDY {
            sys::memory::give_back();
            (self.most_held, self.tidied) = (0, now);
        }
    }

    /// Whether anything waits.
    pub fn has_packets(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How much waits, and for how long.
    pub fn depth(&self, now: Time) -> Depth {
        self.queue.depth(now)
    }

    /// Everything that waits, for another stream to send.
    pub fn take_queue(&mut self) -> Vec<Queued> {
        self.queue.take_all()
    }

    /// Drops everything that waits: it is too old to be of use.
    pub fn clear(&mut self) {
        for packet in self.take_queue() {
            self.discard(packet.buffer, Drop::NoSession);
        }
    }

    /// Steps 4 to 8: hands the connection what waits, as far as it can take more. Says whether
    /// there was any.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, stream: &mut Stream, peer: &PeerLimits, now: Time) -> io::Result<bool> {
        let sent = self.send_all(stream, peer, now);
        self.counters.queue_delay.add(&mut self.waits);
        sent
    }

    fn send_all(&mut self, stream: &mut Stream, peer: &PeerLimits, now: Time) -> io::Result<bool> {
        let mut any = false;
        loop {
            let room = self.room(stream, now);
            while stream.unsent() < room {
                // 4 dequeue
                let Self { queue, pool, counters, .. } = self;
                let lose = |packet, why| lose(packet, why, pool, counters);
                let Some(packet) = queue.dequeue(now, lose) else {
                    self.line.ran_empty();
                    break;
                };
                any = true;
                self.hand_over(packet, stream, peer, now);
            }
            // 8 write
            self.write(stream, now)?;
            if stream.unsent() > 0 || self.queue.is_empty() || room == 0 {
                return Ok(any);
            }
        }
    }

    /// Whether something waits although the connection would take it, for a slow line's sake.
    pub fn is_held_back(&self, stream: &Stream) -> bool {
        stream.is_corked() || self.line.is_bounded() && !self.queue.is_empty()
    }

    /// Step 8. While a slow line is busy anyway, segments are filled: each has headers of its own.
    fn write(&mut self, stream: &mut Stream, now: Time) -> io::Result<()> {
        if stream.unsent() > 0 {
            self.written = now;
            stream.cork(self.line.is_busy());
        } else if now - self.written >= self.line.hold() {
            stream.cork(false);
        }
        stream.flush(&mut self.pool)
    }

    /// Bytes that may be handed to the connection.
    fn room(&mut self, stream: &mut Stream, now: Time) -> usize {
        if self.queue.is_empty() {
            if self.line.is_glance_due(now) {
                self.line.glance(now, probes(stream));
            }
            return self.line.ahead();
        }
        if !self.line.is_due(now) {
            return self.line.ahead();
        }
        let Some(info) = stream.info() else { return self.line.ahead() };
        let room = self.line.look(
            now,
            Seen {
                acknowledged: info.acknowledged,
                delivery_rate: info.delivery_rate,
                round_trip: info.round_trip,
                least_round_trip: info.least_round_trip,
                in_flight: info.in_flight,
                unsent: info.unsent,
                probes: probes(stream),
            },
        );
        stream.limit_unsent(self.line.unsent_limit());
        room
    }

    /// Undoes steps 6 and 7 for what is neither sealed nor on its way, because its connection is over.
    pub fn take_back(&mut self, stream: &mut Stream, now: Time) {
        let mut again: Vec<_> = stream
            .take_unsent()
            .filter_map(|(header, buffer)| {
                let Kind::Data { gso_size, checksum_incomplete } = header.kind else { return None };
                let headers = Headers::parse(buffer.packet()).ok()?;
                let flow = self.flows.hash_one(FlowKey::of(buffer.packet(), &headers));
                let offload = Offload { gso_size, checksum_incomplete };
                Some(Queued {
                    offload,
                    flow,
                    ecn: headers.ecn,
                    arrived: now,
                    buffer,
                    returned: true,
                })
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
    fn hand_over(&mut self, packet: Queued, stream: &mut Stream, peer: &PeerLimits, now: Time) {
        let Queued { mut buffer, offload, arrived, returned, .. } = packet;
        let length = buffer.packet().len();
        if offload == Offload::NONE {
            if length > peer.max_packet {
                return self.discard(buffer, Drop::TooLong);
            }
            self.count(length, now - arrived, returned);
            return push(stream, buffer, offload);
        }
        let Ok(headers) = Headers::parse(buffer.packet()) else {
            return self.discard(buffer, Drop::MalformedFromKernel);
        };
        if peer.accepts.takes(&headers, offload) && length <= peer.max_packet {
            self.count(length, now - arrived, returned);
            return push(stream, buffer, offload);
        }
        // 5 segment
        let longest = match (offload.gso_size, headers.payload_offset()) {
            (gso_size @ 1.., Some(offset)) => length.min(offset + usize::from(gso_size)),
            _ => length,
        };
        if longest > peer.max_packet {
            return self.discard(buffer, Drop::TooLong);
        }
        let emit = |segment: Segment<'_>| {
            push(stream, Buffer::concat(&[segment.headers, segment.payload]), Offload::NONE);
        };
        match segment(buffer.packet_mut(), &headers, offload, emit) {
            Ok(_) => {
                self.count(length, now - arrived, returned);
                self.pool.recycle(buffer);
            }
            Err(_) => self.discard(buffer, Drop::MalformedFromKernel),
        }
    }

    /// A packet counts when it is first handed over: not again when its connection ended and gave it
    /// back, though it may count as dropped after that.
    fn count(&mut self, length: usize, waited: Duration, returned: bool) {
        if !returned {
            self.counters.sent.add(length);
            self.waits.waited(waited);
        }
    }

    fn discard(&mut self, buffer: Buffer, cause: Drop) {
        self.counters.dropped(cause);
        self.pool.recycle(buffer);
    }
}

/// What BBR, if it is BBR, says of its probes.
fn probes(stream: &Stream) -> Option<Probes> {
    let bbr = stream.bbr()?;
    Some(Probes { least_round_trip: bbr.least_round_trip, under_way: bbr.probing })
}

/// What the queue drops.
fn lose(packet: Queued, why: Dropped, pool: &mut Pool, counters: &Counters) {
    counters.dropped(match why {
        Dropped::Congestion => Drop::Congestion,
        Dropped::Overflow => Drop::QueueFull,
    });
    pool.recycle(packet.buffer);
}

/// Steps 6 and 7.
fn push(stream: &mut Stream, mut buffer: Buffer, offload: Offload) {
    let Offload { gso_size, checksum_incomplete } = offload;
    let kind = Kind::Data { gso_size, checksum_incomplete };
    buffer.set_header(Header { kind, length: buffer.packet().len() }.to_bytes());
    stream.push(buffer);
}

#[cfg(test)]
mod tests;
