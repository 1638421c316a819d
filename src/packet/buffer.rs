//! Where a packet lives between the TUN and the TCP connection.
//!
//! A packet is read behind room for its frame header, so that header and packet go out as one
//! slice. Super-packets keep the large buffer they were read into; small packets are copied into
//! one of their own size, so that the memory a queue holds is about the bytes it holds.

/// Room in front of every packet, for the frame header.
pub const HEADROOM: usize = 8;

/// The longest packet a buffer takes: IPv6 with the largest payload length (RFC 8200 section 3).
pub const MAX_PACKET: usize = 40 + 65_535;

/// Packets up to this length are copied: below it a copy is cheaper than the memory of a large
/// buffer.
const COPY_UP_TO: usize = 16 * 1024;

/// Large buffers that an idle pool keeps.
const KEPT: usize = 16;

/// A packet with room for its frame header in front.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    end: usize,
}

impl Buffer {
    /// A copy of `packet`, in a buffer of its size.
    pub fn copy_of(packet: &[u8]) -> Self {
        Self::concat(&[packet])
    }

    /// A packet made of `parts`, in a buffer of its size.
    pub fn concat(parts: &[&[u8]]) -> Self {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(HEADROOM + length);
        bytes.extend_from_slice(&[0; HEADROOM]);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Self { end: bytes.len(), bytes }
    }

    /// The packet.
    pub fn packet(&self) -> &[u8] {
        &self.bytes[HEADROOM..self.end]
    }

    /// The packet, to be changed in place.
    pub fn packet_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[HEADROOM..self.end]
    }

    /// Adds bytes to the packet's end.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.truncate(self.end);
        self.bytes.extend_from_slice(bytes);
        self.end = self.bytes.len();
    }

    /// Writes the frame header in front of the packet.
    pub fn set_header(&mut self, header: [u8; HEADROOM]) {
        self.bytes[..HEADROOM].copy_from_slice(&header);
    }

    /// Header and packet, as they go out.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// The memory it holds, in bytes.
    pub fn footprint(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Large buffers to read packets into, used again and again.
#[derive(Debug, Default)]
pub struct Pool {
    free: Vec<Vec<u8>>,
}

impl Pool {
    /// Reads one packet: `read` fills the slice it is given, [`MAX_PACKET`] bytes long, and says how
    /// many bytes the packet has.
    ///
    /// # Errors
    /// Those of `read`; nothing is lost then.
    pub fn fill<E>(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Buffer, E> {
        let mut bytes = self.free.pop().unwrap_or_else(|| vec![0; HEADROOM + MAX_PACKET]);
        let length = match read(&mut bytes[HEADROOM..]) {
            Ok(length) => length.min(MAX_PACKET),
            Err(error) => {
                self.free.push(bytes);
                return Err(error);
            }
        };
        if length > COPY_UP_TO {
            return Ok(Buffer { bytes, end: HEADROOM + length });
        }
        let small = Buffer::copy_of(&bytes[HEADROOM..HEADROOM + length]);
        self.free.push(bytes);
        Ok(small)
    }

    /// Takes a buffer back that has been sent or dropped.
    pub fn recycle(&mut self, buffer: Buffer) {
        if buffer.bytes.len() == HEADROOM + MAX_PACKET && self.free.len() < KEPT {
            self.free.push(buffer.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pool: &mut Pool, length: usize) -> Buffer {
        let read = |slice: &mut [u8]| {
            slice[..length].fill(7);
            Ok::<_, ()>(length)
        };
        pool.fill(read).unwrap()
    }

    #[test]
    fn a_small_packet_does_not_hold_a_large_buffer() {
        let mut pool = Pool::default();
        let buffer = filled(&mut pool, 100);
        assert_eq!(buffer.packet(), [7; 100]);
        assert!(buffer.footprint() < 200);
        assert_eq!(pool.free.len(), 1);
    }

    #[test]
    fn a_super_packet_is_not_copied_and_its_buffer_is_used_again() {
        let mut pool = Pool::default();
        let buffer = filled(&mut pool, MAX_PACKET);
        let address = buffer.packet().as_ptr();
        pool.recycle(buffer);
        assert_eq!(filled(&mut pool, MAX_PACKET).packet().as_ptr(), address);
    }

    #[test]
    fn a_failed_read_gives_the_buffer_back() {
        let mut pool = Pool::default();
        assert_eq!(pool.fill(|_| Err::<usize, _>("no")).unwrap_err(), "no");
        assert_eq!(pool.free.len(), 1);
    }

    #[test]
    fn the_header_goes_out_in_front_of_the_packet() {
        let mut buffer = Buffer::concat(&[b"pac", b"ket"]);
        buffer.set_header(*b"HEADER!!");
        assert_eq!(buffer.frame(), b"HEADER!!packet");
        assert_eq!(buffer.packet(), b"packet");
    }
}
