//! The words that tell like counts apart: each an enum, and a label's value in the metrics.

/// Declares an enum, the list of all its values, and their words.
macro_rules! labels {
    ($(
        $(#[$about:meta])*
        $name:ident { $(#[doc = $each:literal] $value:ident = $word:literal,)* }
    )*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            pub enum $name { $(#[doc = $each] $value,)* }

            impl $name {
                /// All of them, in the order of their counters.
                pub const ALL: [Self; [$($word),*].len()] = [$(Self::$value),*];

                /// As a label.
                pub const fn as_str(self) -> &'static str {
                    match self { $(Self::$value => $word,)* }
                }

                /// What it stands for, in a sentence.
                pub const fn about(self) -> &'static str {
                    match self { $(Self::$value => $each.trim_ascii(),)* }
                }
            }
        )*
    };
}

labels! {
    /// Why a packet was dropped.
    Drop {
        /// The queue towards the peer was full.
        QueueFull = "queue_full",
        /// Its flow waited too long in the queue (CoDel).
        Congestion = "congestion",
        /// It waited while there was no session for too long.
        NoSession = "no_session",
        /// It was longer than the peer takes.
        TooLong = "too_long",
        /// What the kernel handed us is no packet we understand.
        MalformedFromKernel = "malformed_from_kernel",
        /// What the peer sent is not what a packet may look like.
        RefusedFromPeer = "refused_from_peer",
        /// Its source is none that the peer may send from.
        ForeignSource = "foreign_source",
        /// The kernel refused the packet on its way into the TUN interface.
        RefusedByKernel = "refused_by_kernel",
        /// The TUN interface was down or gone.
        InterfaceDown = "interface_down",
    }

    /// Which end began a connection.
    Direction {
        /// This one.
        Dialled = "dialled",
        /// The other.
        Accepted = "accepted",
    }

    /// What became of an attempt to get to know the peer.
    Handshake {
        /// Both ends said HELLO.
        Done = "ok",
        /// The name of the endpoint has no address.
        Unresolved = "unresolved",
        /// The address is none that may be dialled.
        Foreign = "foreign",
        /// The address can't be reached, or nobody listens there.
        Unreachable = "unreachable",
        /// The way to the address leads into the tunnel.
        Loop = "loop",
        /// Nothing came for too long.
        TimedOut = "timed_out",
        /// The other end closed the connection before HELLO.
        Closed = "closed",
        /// One end does not take the other's key.
        Key = "key",
        /// The other end does not follow the protocol.
        Protocol = "protocol",
        /// The ends have no version of the protocol in common.
        Version = "version",
        /// The other end said BYE instead of HELLO.
        Refused = "refused",
    }

    /// Why a connection was closed before a word was said.
    Refusal {
        /// The address is none that may connect.
        Address = "address",
        /// Too many connections without HELLO.
        Crowded = "crowded",
    }

    /// What became of a reload.
    Reload {
        /// The new configuration is in force.
        Applied = "applied",
        /// The old configuration stays.
        Rejected = "rejected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_labels_and_no_two_are_alike() {
        let words: [&[&str]; 5] = [
            &Drop::ALL.map(Drop::as_str),
            &Direction::ALL.map(Direction::as_str),
            &Handshake::ALL.map(Handshake::as_str),
            &Refusal::ALL.map(Refusal::as_str),
            &Reload::ALL.map(Reload::as_str),
        ];
        for words in words {
            for (index, word) in words.iter().enumerate() {
                assert!(word.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{word}");
                assert!(!words[..index].contains(word), "{word}");
            }
        }
    }
}
