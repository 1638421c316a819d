//! The settings, cut into what each room needs to know.

use std::thread::available_parallelism;
use std::time::Duration;

use crate::config::{Congestion, Mode, Offload, Settings, Streams};
use crate::netlink;
use crate::transport::tcp;

/// Streams that `auto` stands for at the most: more did not carry more.
const AUTO_STREAMS: usize = 4;

/// How connections leave the machine.
pub fn tcp(settings: &Settings) -> tcp::Options {
    let link = &settings.link;
    tcp::Options {
        source: link.source,
        device: link.device.clone(),
        fwmark: link.fwmark,
        dscp: link.dscp,
        congestion: match &link.congestion {
            Congestion::Auto => tcp::Congestion::Auto,
            Congestion::Default => tcp::Congestion::Default,
            Congestion::Named(name) => tcp::Congestion::Named(name.clone()),
        },
        // Later than our own verdict, which has the better words.
        unacknowledged_limit: link.dead_after + Duration::from_secs(5),
    }
}

/// What the interface should look like.
pub fn desired(settings: &Settings) -> netlink::Desired {
    let interface = &settings.interface;
    netlink::Desired {
        interface: interface.name.clone(),
        mtu: interface.mtu,
        addresses: interface.addresses.clone(),
        routes: interface
            .routes
            .iter()
            .map(|route| netlink::Route {
                destination: route.destination,
                via: route.via,
                metric: route.metric,
                table: route.table,
                source: route.source,
            })
            .collect(),
    }
}

/// How many streams this end is ready for: by default as many as there are processors, up to four.
pub fn streams(settings: &Settings) -> u8 {
    match settings.link.streams {
        Streams::Fixed(streams) => streams,
        Streams::Auto => {
            let processors = available_parallelism().map_or(1, usize::from);
            u8::try_from(processors.min(AUTO_STREAMS)).unwrap_or(1)
        }
    }
}

/// Whether the kernel is asked for super-packets.
pub fn offload(settings: &Settings) -> bool {
    settings.interface.offload == Offload::Auto
}

/// Whether packets cross the network in the clear.
pub fn plaintext(settings: &Settings) -> bool {
    settings.security.mode == Mode::Plaintext
}
