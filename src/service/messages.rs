//! Every state change that is logged, with a MESSAGE_ID that stays the same for ever.
//!
//! `journalctl MESSAGE_ID=…` finds all events of one kind, and the journal catalog explains each
//! with the cause and remedy written here. An id is never reused or changed; a message whose
//! meaning changes gets a new one (`journalctl --new-id128`).

use tracing::Level;

/// One kind of event, logged with [`report!`](crate::report).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// 128 random bits as 32 lower-case hexadecimal digits.
    pub id: &'static str,
    /// The constant that declares it: `SESSION_UP`.
    pub name: &'static str,
    /// How grave it is.
    pub level: Level,
    /// The start of the line, before the fields.
    pub text: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What the admin can do, or that nothing needs doing.
    pub remedy: &'static str,
}

/// Declares the messages and the list of them all, so that none is missing from the catalog.
macro_rules! messages {
    ($(
        $constant:ident $level:ident $id:literal $text:literal
        cause: $cause:literal
        remedy: $remedy:literal
    )*) => {
        $(
            #[doc = concat!("“", $text, "” ", $cause)]
            pub const $constant: Message = Message {
                id: $id,
                name: stringify!($constant),
                level: Level::$level,
                text: $text,
                cause: $cause,
                remedy: $remedy,
            };
        )*

        /// All of them, in the order of a tunnel's life.
        pub const ALL: &[Message] = &[$($constant),*];
    };
}

messages! {
    STARTED INFO "b032cb8b6b654d19adff2880fe252fa6" "started"
        cause: "The daemon has read its configuration and begins to set up the tunnel."
        remedy: "Nothing needs doing."
    READY INFO "18f2706e6f9c40a9914526762d4d913e" "ready"
        cause: "The interface is up with its addresses and routes, or, if link.ready asks for it, the peer is connected; systemd has been told."
        remedy: "Nothing needs doing."
    STOPPING INFO "162757194b1340139fcccd9e0c797b00" "stopping"
        cause: "The daemon was asked to stop and says goodbye to the peer. The interface goes away with it, unless systemd keeps it open for a restart."
        remedy: "Nothing needs doing."
    CONFIGURATION_REJECTED ERROR "fce9fffc38bd4d08a4dd4f9436252726" "configuration rejected"
        cause: "The configuration has errors, each named with its file and line, or names a key or an interface that can't be used."
        remedy: "Correct them, try with “tunnel64d check NAME”, and start the service again; it does not restart by itself with a wrong configuration."
    START_FAILED ERROR "bf1eee0822a3407ab960c659d185da5b" "cannot start"
        cause: "The tunnel can't be without what the error names: the interface, the right to configure it, a thread."
        remedy: "Do what the error says; systemd tries again by itself."
    PLAINTEXT WARN "989156bfb7114a3abe32f2f52909f68d" "the tunnel is neither encrypted nor authenticated"
        cause: "security.mode is \"plaintext\": anybody on the path can read and forge what the tunnel carries, and anybody who can use one of security.peer_addresses can be the peer."
        remedy: "Set security.mode to \"tls\" and exchange public keys, unless the path is trusted."
    CONTROL_UNAVAILABLE WARN "2e226b839258bad76bdb2111f030dcea" "no control socket"
        cause: "The control socket can't be made in the directory that the error names. The tunnel runs without it; “tunnel64d status” and “tunnel64d reload” can't reach it."
        remedy: "Make the directory, writable for the user that the daemon runs as, and start again. The unit does so by itself; by hand, --runtime-dir names another one."
    INTERFACE_CREATED INFO "a836765f283f412b8478c6fde8386393" "interface created"
        cause: "The TUN interface is there, with as much offload as the kernel has."
        remedy: "Nothing needs doing. Without offload the tunnel is several times slower; kernels from 6.2 on have all of it."
    INTERFACE_ADOPTED INFO "ed731824d037410f989c3171ca2f6c9d" "interface taken over"
        cause: "systemd has kept the interface open since the process before this one, with addresses, routes and the packets that wait; what has changed in the configuration was changed on it."
        remedy: "Nothing needs doing."
    INTERFACE_NOT_ADOPTED WARN "6f565ca6ac0f4cba9f6f695f339a2f06" "interface not taken over"
        cause: "What systemd has kept open since the process before this one does not fit the configuration, another interface.name for one, or the interface was deleted or renamed meanwhile. It was given up, and the interface is created anew."
        remedy: "Nothing needs doing after interface.name was changed. Otherwise find out who changes interfaces while the service restarts."
    INTERFACE_INCOMPLETE ERROR "b18a69f1e30f4f66aa2eff5f4029fa78" "interface incomplete"
        cause: "The kernel refused an address, a route or the MTU; the rest is in place, and it is tried again."
        remedy: "The error says what is in the way: a route of somebody else's, a gateway out of reach, IPv6 switched off."
    INTERFACE_COMPLETED INFO "632e5eea78514ef2a0f1fc3abca40aee" "interface completed"
        cause: "What the kernel had refused before is in place now, and the interface is as configured."
        remedy: "Nothing needs doing."
    INTERFACE_RESTORED WARN "9c8bb8342b68429892b9ee37c68e33c8" "interface restored"
        cause: "Somebody else changed the interface, deleted one of its addresses or routes, or set it down; that was put right."
        remedy: "If it comes again and again, find out who does it. With systemd-networkd, set ManageForeignRoutes=no in networkd.conf and leave the interface unmanaged."
    INTERFACE_QUARREL WARN "fb70f26446a041c38b5f015d26e2ddd6" "somebody keeps undoing the interface's configuration"
        cause: "Several times within minutes what was put right on the interface was undone again. It goes on being put right, every 30 seconds at the most, and further lines about it are left out until a minute passes in peace."
        remedy: "Find out who does it: “ip monitor” shows what changes, not who. With systemd-networkd, set ManageForeignRoutes=no in networkd.conf and leave the interface unmanaged; see also NetworkManager and scripts."
    INTERFACE_LOST ERROR "818686275cd64474ace7726047c1e841" "interface lost"
        cause: "Somebody deleted the interface under the running daemon; it is created again, after a pause that grows if it comes again and again."
        remedy: "Find out who deletes it: another daemon that manages network interfaces, or a script."
    INTERFACE_UNREADABLE ERROR "090a8b743d904384979d0eb116826482" "nothing can be read from the interface"
        cause: "The interface is there, but the kernel refuses one read after the other on the queue of this worker, with this error. What is sent into the tunnel waits there, or is lost where the kernel throws away what it can't hand over, which is counted as malformed_from_kernel; the queue is tried again ten times a second."
        remedy: "If it lasts, stop the service and start it again, which opens the interface anew. Please report it with the kernel's version: nothing is known to bring it about."
    CARRIER_UNHEEDED WARN "e95325b031104b30bf012addbd8342a9" "a lost carrier will go unnoticed"
        cause: "The kernel can't be told to pass over routes through an interface without carrier, which it does not by default. While there is no session for longer than link.dead_after, senders wait in vain instead of learning that the far side is unreachable, and another route is not taken."
        remedy: "Set the sysctl that the error names, for instance in /etc/sysctl.d with “default” in place of the interface's name, so that it holds for an interface that is created later."
    CARRIER_LOST WARN "2a72ea2f86544f05853e47a65137e57b" "carrier lost"
        cause: "There was no session with the peer for longer than link.dead_after. The interface says NO-CARRIER; unless another line says otherwise, the kernel passes over its routes, so that senders take another way or learn that the far side is unreachable."
        remedy: "See why there is no session: the lines before this one."
    CARRIER_GAINED INFO "545dc47cd78a4fd8921d1f5d200a411f" "carrier gained"
        cause: "A session with the peer is up again and the interface carries packets."
        remedy: "Nothing needs doing."
    LISTENING INFO "d5422b57806f4b4aa1486c332d16c632" "listening"
        cause: "The peer can connect now."
        remedy: "Nothing needs doing."
    LISTENING_ELSEWHERE WARN "d274b7515e394332bcdfcefcce58f02a" "the socket unit has another address than link.listen"
        cause: "tunnel64d@NAME.socket is active and hands over its socket, which is used; link.listen says another address, which is not."
        remedy: "Make them agree: ListenStream= by “systemctl edit tunnel64d@NAME.socket”, or link.listen. Without a socket unit the daemon binds link.listen itself."
    SOCKET_UNUSED WARN "164b416294034aecafa5f94e2f5a6ae7" "the socket unit's socket is not used"
        cause: "tunnel64d@NAME.socket is active and hands over its socket, but link.listen is not set, or the socket is none that peers can connect to; the error says which."
        remedy: "Set link.listen to the address of the socket unit, or disable the socket unit."
    LISTEN_FAILED ERROR "0d8fa7b9a6a24a8e9531cd8f409ce056" "cannot listen"
        cause: "The address of link.listen is not on this host yet, another process has the port, or the kernel does not have what the key in the error names; it is tried again."
        remedy: "“ss -ltnp” shows who has the port. A port below 1024 needs CAP_NET_BIND_SERVICE, which the unit grants."
    DIAL_FAILED WARN "e521c823caa24dfb9ded59a023504ce3" "cannot connect"
        cause: "No connection to link.connect: the name does not resolve, nobody listens, or the path is cut. It is tried again, less and less often, up to link.reconnect.max."
        remedy: "Look at the peer's log and at the firewalls between. “timed out” is mostly a firewall, “refused” a peer that does not run."
    DIAL_LOOP WARN "9e920beed12b405abb361c5ce05917ef" "the peer's address is routed into the tunnel itself"
        cause: "The route to link.connect leads through the tunnel's own interface, so that the tunnel would have to carry itself."
        remedy: "Add a more specific route to the peer's outer address through the real uplink, or use link.fwmark with a routing rule."
    ADDRESS_PASSED_OVER WARN "c3e93808ba214f4ba0755e54463667be" "an address of the endpoint is not dialled"
        cause: "An endpoint of link.connect leads to an address that security.peer_addresses does not list. In plaintext the peer is known by its address alone, so that no other is dialled, whatever a name resolves to. Other addresses and endpoints are tried."
        remedy: "If the address is the peer's, add it to security.peer_addresses. If not, correct link.connect, or find out who answers for the name."
    SESSION_UP INFO "06b75d62359a49409fee0e3c6212b077" "session up"
        cause: "The peer is connected and packets flow."
        remedy: "Nothing needs doing."
    SESSION_DOWN WARN "715da9d379334c159b2a7efe8105f1c5" "session down"
        cause: "The last connection to the peer ended; the reason says why. It is opened again."
        remedy: "One now and then is the network. Many: look for a firewall that forgets idle connections, and compare link.keepalive with its limit."
    SESSION_REPLACED INFO "c7a9201ac7664e569bd78836a34d9f5a" "session replaced by a newer one"
        cause: "The peer began a new session while the old one was still up here, as one does that was restarted or whose path changed. The interface and what flows through it did not notice."
        remedy: "Nothing needs doing, unless it comes again and again: then two peers may be using the same configuration."
    SESSION_LEFT INFO "e1d0d40e9a5b450e9a8d5f63ee699223" "session left for a newer one"
        cause: "The peer closed the session because a newer one takes its place; that one is up here in a moment. It happens when both ends dial at once."
        remedy: "Nothing needs doing, unless it comes again and again: then two peers may be using the same configuration."
    STREAM_UP DEBUG "5ae274391011478d8de39d2c97196e0e" "stream up"
        cause: "One of the session's TCP connections is there."
        remedy: "Nothing needs doing."
    STREAM_DOWN INFO "84c682c5709040f6859162bfeed7bb0a" "stream down"
        cause: "One of the session's TCP connections ended while others remain; its flows move to those."
        remedy: "Nothing needs doing, unless it happens often."
    CONNECTION_REFUSED WARN "00023122e55948c8b2775a1f2fc56fcb" "connection not accepted"
        cause: "Somebody connected who may not: an address that security.peer_addresses does not list, a key that security.peer_public_keys does not list, or one connection too many."
        remedy: "If it is the peer, add its address or key. If not, it was a scan or a mistake, and nothing came of it."
    PEER_MISBEHAVED WARN "2e817fc290784735857b56f6aafe273c" "peer misbehaved"
        cause: "What came over a connection does not follow the protocol: another program, another version, or damage on the way. The connection was closed; a running session is not touched."
        remedy: "See that the far end is tunnel64d and of a version that this one understands."
    METRICS_SERVED INFO "a524c85b1b804a16bc9fd5000a4de34a" "metrics are served"
        cause: "Prometheus, or whoever asks, gets the metrics at the address of metrics.listen."
        remedy: "Nothing needs doing."
    METRICS_UNSERVED WARN "d617f9230957417eac77909ec2532ae5" "metrics can't be served"
        cause: "The address of metrics.listen can't be had: another process has the port, or the directory of the socket isn't there or isn't writable. The tunnel runs without; it is tried again every two seconds."
        remedy: "“ss -ltnpx” shows who has it. Each tunnel needs an address of its own; a socket can be in /run/tunnel64d, which the unit makes and may write to."
    RELOADED INFO "dbe964062263409bbb39e1075c9a9bea" "configuration reloaded"
        cause: "The configuration was read again and is in force; the keys that have changed are named. The session went on, unless its peer is no longer one."
        remedy: "Nothing needs doing."
    RELOAD_REJECTED ERROR "b11802b9881d493b873c9e582fe8118a" "reload rejected, the old configuration stays"
        cause: "The new configuration has errors, each named with its file and line, names a key, a port or a device that can't be had, or changes a key that only a restart applies. Nothing of it has been applied."
        remedy: "Correct it and reload again, or restart the service if the error says so; the tunnel runs on meanwhile."
    WORKER_STALLED ERROR "4e1dd882291742799699f504a0837106" "a worker makes no progress"
        cause: "A thread has not finished its work in time; the watchdog is not fed, so that systemd restarts the service."
        remedy: "This is a fault in tunnel64d or an overloaded host. Please report it with the lines before."
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_and_names_are_unique() {
        let ids: HashSet<_> = ALL.iter().map(|message| message.id).collect();
        let names: HashSet<_> = ALL.iter().map(|message| message.name).collect();
        assert_eq!((ids.len(), names.len()), (ALL.len(), ALL.len()));
    }

    #[test]
    fn ids_are_128_bits_as_the_journal_writes_them() {
        for message in ALL {
            assert_eq!(message.id.len(), 32, "{}", message.name);
            let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            assert!(message.id.bytes().all(digit), "{}", message.name);
        }
    }

    #[test]
    fn every_message_says_why_and_what_to_do_in_sentences() {
        for message in ALL {
            for sentence in [message.cause, message.remedy] {
                assert!(sentence.ends_with('.'), "{}: {sentence}", message.name);
            }
            assert!(!message.text.contains(['\n', '=']), "{}", message.name);
        }
    }
}
