//! Steps 1 to 3: from the TUN queue into ours.

use std::hash::BuildHasher;
use std::io;

use crate::metrics::Drop;
use crate::packet::buffer::Buffer;
use crate::packet::flow::FlowKey;
use crate::packet::headers::Headers;
use crate::packet::offload::Offload;
use crate::queue::Queued;
use crate::time::Time;
use crate::tun::coalesce::Train;
use crate::tun::device::{Queue, is_gone};
use crate::tun::segment::{Segment, divide};
use crate::tun::vnet::{VnetHeader, offload_of};

use super::{Outbound, lose};
use crate::datapath::{InterfaceGone, Unreadable};

/// Packets read before the connection gets a turn.
pub(super) const PACKETS_A_TURN: usize = 64;

/// Bytes read before the connection gets a turn: a few super-packets.
const BYTES_A_TURN: usize = 256 * 1024;

impl Outbound {
    /// Steps 1 to 3: takes what the TUN queue has, up to a turn's worth. Says whether it had any.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub fn read(&mut self, tun: &Queue, now: Time) -> Result<bool, Unreadable> {
        let (mut packets, mut bytes, mut failed) = (0, 0, 0);
        let mut train: Option<Train> = None;
        while packets + failed < PACKETS_A_TURN && bytes < BYTES_A_TURN {
            let mut vnet = VnetHeader::default();
            // 1 read
            let read = self.pool.fill(|room| tun.read(&mut vnet, room));
            let mut buffer = match read {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_gone(&error) => {
                    self.enqueue_train(train, now);
                    return Err(Unreadable::Gone(InterfaceGone));
                }
                Err(error) if failed + 1 == PACKETS_A_TURN => {
                    // Of other errors it is not known that they cost a packet each.
                    if error.kind() == io::ErrorKind::InvalidInput {
                        self.count_undescribed(PACKETS_A_TURN);
                    }
                    return Err(Unreadable::Failing(error));
                }
                // A packet that the kernel can't describe is gone; there may be others behind it.
                Err(_) => {
                    failed += 1;
                    continue;
                }
            };
            packets += 1;
            bytes += buffer.packet().len();
            // 2 parse
            let Some((headers, offload)) = parse(&vnet, buffer.packet_mut()) else {
                self.discard(buffer, Drop::MalformedFromKernel);
                continue;
            };
            // 3 enqueue, datagrams of one flow as a train
            let limit = if self.trains { self.line.ahead() } else { 0 };
            if train.as_mut().is_some_and(|t| t.join(buffer.packet(), &headers, offload, limit)) {
                continue;
            }
            self.enqueue_train(train.take(), now);
            match Train::begin(buffer, headers, offload) {
                Ok(begun) => train = Some(begun),
                Err(buffer) => self.enqueue_new(buffer, &headers, offload, now),
            }
        }
        self.enqueue_train(train, now);
        self.count_undescribed(failed);
        Ok(packets + failed > 0)
    }

    fn count_undescribed(&self, packets: usize) {
        (0..packets).for_each(|_| self.counters.dropped(Drop::MalformedFromKernel));
    }

    fn enqueue_train(&mut self, train: Option<Train>, now: Time) {
        let Some(train) = train else { return };
        let headers = *train.headers();
        let (buffer, offload) = train.end();
        self.enqueue_new(buffer, &headers, offload, now);
    }

    fn enqueue_new(&mut self, buffer: Buffer, headers: &Headers, offload: Offload, now: Time) {
        let flow = self.flows.hash_one(FlowKey::of(buffer.packet(), headers));
        self.enqueue(Queued {
            buffer,
            offload,
            flow,
            ecn: headers.ecn,
            arrived: now,
            returned: false,
        });
    }

    /// Step 3, also for packets that waited for a stream that is gone. On a line so slow that a
    /// super-packet would hold up others, it waits in pieces.
    pub fn enqueue(&mut self, mut packet: Queued) {
        if packet.buffer.packet().len() <= self.line.ahead() || packet.offload.gso_size == 0 {
            return self.enqueue_whole(packet);
        }
        let Queued { offload, flow, ecn, arrived, returned, .. } = packet;
        let most = self.line.ahead() / usize::from(offload.gso_size);
        let most = u16::try_from(most).unwrap_or(u16::MAX);
        let mut pieces = Vec::with_capacity(16);
        let emit = |piece: Segment<'_>, offload| {
            let buffer = Buffer::concat(&[piece.headers, piece.payload]);
            pieces.push(Queued { buffer, offload, flow, ecn, arrived, returned });
        };
        let bytes = packet.buffer.packet_mut();
        let parsed = Headers::parse(bytes).ok();
        let divided = parsed.and_then(|headers| divide(bytes, &headers, offload, most, emit).ok());
        if divided.is_none() {
            return self.discard(packet.buffer, Drop::MalformedFromKernel);
        }
        self.pool.recycle(packet.buffer);
        pieces.into_iter().for_each(|piece| self.enqueue_whole(piece));
    }

    fn enqueue_whole(&mut self, packet: Queued) {
        let Self { queue, pool, counters, .. } = self;
        queue.enqueue(packet, |packet, why| lose(packet, why, pool, counters));
        self.most_held = self.most_held.max(self.queue.held());
    }
}

fn parse(vnet: &VnetHeader, packet: &mut [u8]) -> Option<(Headers, Offload)> {
    let headers = Headers::parse(packet).ok()?;
    let offload = offload_of(vnet, packet, &headers).ok()?;
    Some((headers, offload))
}
