//! What two HELLOs add up to.

use std::time::Duration;

use crate::wire::bye::Reason;
use crate::wire::hello::{Hello, Instance, SessionId, VERSIONS};

/// The most streams a session can have.
pub const MAX_STREAMS: u8 = 16;

/// What this end says of itself in every HELLO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// How many streams we are ready for, 1 to [`MAX_STREAMS`].
    pub streams: u8,
    /// This process.
    pub instance: Instance,
    /// The super-packets that we take, as feature bits.
    pub features: u32,
    /// The MTU of our TUN interface, as configured.
    pub mtu: u16,
    /// The silence after which we ask whether the peer is there; for its information only.
    pub keepalive: Duration,
    /// The longest packet that we take.
    pub max_packet: u32,
}

/// What holds for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The protocol version.
    pub version: u8,
    /// How many streams it has when all are up.
    pub streams: u8,
    /// The process at the other end.
    pub peer: Instance,
    /// The super-packets that the peer takes, as feature bits.
    pub features: u32,
    /// The smaller of both MTUs.
    pub mtu: u16,
    /// The MTU of the peer's TUN interface.
    pub peer_mtu: u16,
    /// The longest packet that the peer takes.
    pub max_packet: u32,
}

impl Ours {
    /// Our HELLO for one stream of a session.
    pub fn hello(&self, session: SessionId, stream: u8) -> Hello {
        Hello {
            versions: VERSIONS,
            stream,
            streams: self.streams,
            session,
            instance: self.instance,
            features: self.features,
            mtu: self.mtu,
            keepalive: self.keepalive,
            max_packet: self.max_packet,
        }
    }

    /// What we agree on with a peer that said this.
    ///
    /// # Errors
    /// [`Reason::Version`] without a common version, [`Reason::Myself`] when it was us who said it.
    pub fn agree(&self, theirs: &Hello) -> Result<Agreed, Reason> {
        let version = theirs.common_version(&VERSIONS).ok_or(Reason::Version)?;
        if theirs.instance == self.instance {
            return Err(Reason::Myself);
        }
        Ok(Agreed {
            version,
            streams: self.streams.min(theirs.streams),
            peer: theirs.instance,
            features: theirs.features,
            mtu: self.mtu.min(theirs.mtu),
            peer_mtu: theirs.mtu,
            max_packet: theirs.max_packet,
        })
    }
}
