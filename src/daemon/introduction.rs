//! Getting to know the peer: dialling it, greeting whoever connects, and the HELLO of both.
//!
//! What comes out is a connection whose peer has said HELLO. Whether it is wanted is decided by
//! the session.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::consume_budget;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Endpoint;
use crate::link::peers::lists;
use crate::link::session::Identity;
use crate::metrics::Handshake;
use crate::netlink::{Lookup, Netlink};
use crate::packet::buffer::Pool;
use crate::transport::keys::PublicKey;
use crate::transport::{HandshakeError, Protection, Stream, tcp, tls};
use crate::wire::bye::{self, Bye, Reason};
use crate::wire::frame::{self, Kind};
use crate::wire::hello::{self, Hello, Instance};

use super::ways::{Order, Way};

/// How long somebody who connected may take for HELLO.
const GREETING: Duration = Duration::from_secs(5);

/// How long one address may take while there are others to try; that of a name with many, at least.
const ADDRESS: Duration = Duration::from_secs(3);
const ADDRESS_OF_MANY: Duration = Duration::from_secs(1);

/// A connection whose peer has said HELLO.
#[derive(Debug)]
pub struct Introduced {
    /// The connection.
    pub stream: Stream,
    /// What the peer said.
    pub hello: Hello,
    /// Who the peer is.
    pub identity: Identity,
}

impl Introduced {
    fn new(stream: Stream, hello: Hello, key: Option<PublicKey>) -> Self {
        let identity =
            key.map_or_else(|| plaintext_identity(hello.instance), |key| Identity(key.0));
        Self { stream, hello, identity }
    }
}

/// Without keys, the process's random name orders two ends that have both dialled.
pub fn plaintext_identity(instance: Instance) -> Identity {
    let mut identity = [0; 32];
    identity[..16].copy_from_slice(&instance.0);
    Identity(identity)
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The name has no address.
    #[error("{name} does not resolve: {source}")]
    Name {
        /// The name that was looked up.
        name: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The address can't be reached.
    #[error("{address}: {source}")]
    Connect {
        /// The address that was dialled.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Without keys the peer is known by its address, and this is not one of its.
    #[error("{endpoint} leads to {address}, which is not in security.peer_addresses")]
    Foreign {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// The address that was not dialled.
        address: SocketAddr,
    },
    /// The way to the address leads into the tunnel.
    #[error("{0} is routed into the tunnel itself: give it a route through the uplink")]
    Loop(SocketAddr),
    /// No endpoint has answered, though none has failed for good either.
    #[error("no answer from {endpoints} within {} s", .patience.as_secs())]
    Unanswered {
        /// The endpoints that were dialled.
        endpoints: String,
        /// How long that may take.
        patience: Duration,
    },
    /// The connection was made, but what is at its other end is no peer.
    #[error("{address}: {failure}")]
    Dialled {
        /// The address that was dialled.
        address: SocketAddr,
        /// What is wrong with it.
        failure: Box<Failure>,
    },
    /// Nothing came for too long.
    #[error("timed out after {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The peer closed the connection before it said HELLO.
    #[error("closed before HELLO: {0}")]
    Closed(io::Error),
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] frame::Malformed),
    /// What came is no HELLO.
    #[error(transparent)]
    Hello(#[from] hello::Malformed),
    /// The stream that it was to replace has been heard again.
    #[error("no longer needed")]
    NotNeeded,
    /// Another frame came first.
    #[error("the first frame is no HELLO")]
    OtherFrame,
    /// The ends don't accept each other's keys, or not even each other's protocol.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The peer refused.
    #[error("refused: {}", .0.reason)]
    Refused(Bye),
    /// None of several endpoints answered.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    All(Vec<Failure>),
}

impl Failure {
    /// Whether it shows a peer that does not follow the protocol, not just one that is not there.
    pub fn is_misbehaviour(&self) -> bool {
        let foreign = matches!(self, Self::Handshake(HandshakeError::Tls(_))) && !self.is_refusal();
        foreign
            || matches!(
                self,
                Self::Frame(_) | Self::Hello(_) | Self::OtherFrame | Self::TimedOut(_)
            )
    }

    /// Whether one end does not take the other's key.
    pub fn is_refusal(&self) -> bool {
        use tls::Error::{KeyKind, Refused, UnknownKey};
        let Self::Handshake(HandshakeError::Tls(error)) = self else { return false };
        matches!(error, UnknownKey(_) | KeyKind | Refused(_))
    }

    /// What is counted for it: one for each endpoint that was tried.
    pub fn outcomes(&self) -> Vec<Handshake> {
        vec![match self {
            Self::All(failures) => return failures.iter().flat_map(Self::outcomes).collect(),
            Self::Dialled { failure, .. } => return failure.outcomes(),
            Self::NotNeeded => return Vec::new(),
            Self::Name { .. } => Handshake::Unresolved,
            Self::Foreign { .. } => Handshake::Foreign,
            Self::Loop(_) => Handshake::Loop,
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                Handshake::TimedOut
            }
            Self::Connect { .. } => Handshake::Unreachable,
            Self::Unanswered { .. } | Self::TimedOut(_) => Handshake::TimedOut,
            Self::Closed(_) | Self::Handshake(HandshakeError::Io(_)) => Handshake::Closed,
            Self::Handshake(HandshakeError::Tls(_)) if self.is_refusal() => Handshake::Key,
            Self::Handshake(_) | Self::Frame(_) | Self::Hello(_) | Self::OtherFrame => {
                Handshake::Protocol
            }
            Self::Refused(bye) if bye.reason == Reason::Version => Handshake::Version,
            Self::Refused(_) => Handshake::Refused,
        }]
    }
}

/// What dialling needs to know.
#[derive(Debug, Clone)]
pub struct Dialler {
    /// Where the peer may be found, in the order to be tried.
    pub order: Order,
    /// The addresses that may be dialled; `None` for all.
    pub allowed: Option<Vec<IpNet>>,
    /// How connections leave the machine.
    pub options: tcp::Options,
    /// How they are protected.
    pub protection: Protection,
    /// Whom to ask for the way.
    pub netlink: Netlink,
    /// The index of the tunnel's own interface.
    pub interface: u32,
    /// Cleared when the connection is no longer needed; heeded until HELLO is said.
    pub needed: Arc<AtomicBool>,
}

/// What became of an attempt to connect.
#[derive(Debug)]
pub struct Outcome {
    /// The connection, or why there is none.
    pub result: Result<(Introduced, Way), Failure>,
    /// What it met on its way.
    pub tried: Tried,
    /// The MTU in the HELLO that it said, or would have.
    pub told_mtu: u16,
}

/// What an attempt to connect has met, whatever became of it.
#[derive(Debug, Default)]
pub struct Tried {
    /// The endpoint that was tried last; `None` where there is none at all.
    pub last: Option<Endpoint>,
    /// The addresses that were dialled, in that order.
    pub addresses: Vec<SocketAddr>,
    /// Addresses that endpoints lead to and that were passed over, because they are not allowed.
    pub foreign: Vec<(Endpoint, SocketAddr)>,
}

impl Dialler {
    /// Connects to the first endpoint that answers within `patience`, says `hello` and waits for
    /// the peer's. Names are resolved anew each time.
    pub async fn dial(&self, hello: &Hello, patience: Duration) -> Outcome {
        let mut tried = Tried::default();
        let until = Instant::now() + patience;
        let attempt = timeout_at(until, self.dial_all(hello, patience, until, &mut tried)).await;
        let result = attempt.unwrap_or_else(|_| {
            let endpoints = self.order.endpoints.iter().map(ToString::to_string);
            Err(Failure::Unanswered {
                endpoints: endpoints.collect::<Vec<_>>().join(", "),
                patience,
            })
        });
        Outcome { result, tried, told_mtu: hello.mtu }
    }

    async fn dial_all(
        &self,
        hello: &Hello,
        patience: Duration,
        until: Instant,
        tried: &mut Tried,
    ) -> Result<(Introduced, Way), Failure> {
        let mut failures = Vec::new();
        'attempt: for endpoint in self.order.endpoints_in_turn() {
            // One that was not given any time is where the next attempt begins.
            if !failures.is_empty() && Instant::now() >= until {
                break;
            }
            tried.last = Some(endpoint.clone());
            let mut addresses: Vec<_> =
                match lookup_host((endpoint.host.as_str(), endpoint.port)).await {
                    Ok(addresses) => addresses.collect(),
                    Err(source) => {
                        failures.push(Failure::Name { name: endpoint.host.clone(), source });
                        continue;
                    }
                };
            addresses.retain(|address| {
                let allowed = self.allowed.as_ref().is_none_or(|all| lists(all, address.ip()));
                if !allowed {
                    tried.foreign.push((endpoint.clone(), *address));
                    failures
                        .push(Failure::Foreign { endpoint: endpoint.clone(), address: *address });
                }
                allowed
            });
            self.order.sort(&mut addresses);
            let share = patience / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
            for address in addresses {
                let patience = share.clamp(ADDRESS_OF_MANY, ADDRESS).min(patience);
                tried.addresses.push(address);
                match self.dial_one(address, hello, patience).await {
                    Ok(introduced) => {
                        return Ok((introduced, Way { endpoint: endpoint.clone(), address }));
                    }
                    Err(failure) => {
                        let is_over = matches!(failure, Failure::NotNeeded);
                        failures.push(failure);
                        if is_over {
                            break 'attempt;
                        }
                    }
                }
            }
        }
        Err(match failures.pop() {
            Some(only) if failures.is_empty() => only,
            last => Failure::All(failures.into_iter().chain(last).collect()),
        })
    }

    async fn dial_one(
        &self,
        address: SocketAddr,
        hello: &Hello,
        patience: Duration,
    ) -> Result<Introduced, Failure> {
        let failed = |source| Failure::Connect { address, source };
        if self.leads_into_tunnel(address).await {
            return Err(Failure::Loop(address));
        }
        let timed_out = |_| failed(io::ErrorKind::TimedOut.into());
        let tcp = timeout(patience, tcp::dial(address, &self.options)).await;
        let tcp = tcp.map_err(timed_out)?.map_err(failed)?;
        let introduce = async {
            let mut stream = Stream::dialled(tcp, address, &self.protection)?;
            let key = stream.handshake().await?;
            if !self.needed.load(Relaxed) {
                return Err(Failure::NotNeeded);
            }
            stream.push_control(Kind::Hello, &hello.to_body());
            stream.flush(&mut Pool::default()).map_err(failed)?;
            let hello = hear(&mut stream).await?;
            Ok(Introduced::new(stream, hello, key))
        };
        timeout(patience, introduce).await.map_err(timed_out)?.map_err(|failure| match failure {
            Failure::Connect { .. } | Failure::NotNeeded => failure,
            failure => Failure::Dialled { address, failure: Box::new(failure) },
        })
    }

    async fn leads_into_tunnel(&self, address: SocketAddr) -> bool {
        let lookup = Lookup {
            destination: address.ip(),
            source: self.options.source,
            mark: self.options.fwmark,
            device: None,
        };
        let route = self.netlink.route_to(lookup).await;
        self.options.device.is_none() && matches!(route, Ok(Some(out)) if out == self.interface)
    }
}

/// Waits for the HELLO of somebody who connected, behind the layer's handshake. Nothing is said
/// before both have come.
///
/// # Errors
/// Why it did not come.
pub async fn greet(
    tcp: TcpStream,
    peer: SocketAddr,
    protection: &Protection,
) -> Result<Introduced, Failure> {
    let introduce = async {
        let mut stream = Stream::accepted(tcp, peer, protection)?;
        let key = stream.handshake().await?;
        let hello = hear(&mut stream).await;
        if let Err(Failure::Frame(frame::Malformed::Tls)) = hello {
            // The one word that a TLS end understands: this is no TLS.
            stream.push_control(Kind::Bye, &bye::body(Reason::Protocol, ""));
            let _ = stream.flush(&mut Pool::default());
        }
        Ok(Introduced::new(stream, hello?, key))
    };
    timeout(GREETING, introduce).await.unwrap_or(Err(Failure::TimedOut(GREETING)))
}

async fn hear(stream: &mut Stream) -> Result<Hello, Failure> {
    loop {
        if let Some(frame) = stream.next_frame()? {
            return match frame.header.kind {
                Kind::Hello => Ok(Hello::parse(frame.body)?),
                Kind::Bye => Err(Failure::Refused(Bye::parse(frame.body))),
                _ => Err(Failure::OtherFrame),
            };
        }
        stream.readable().await.map_err(closed)?;
        stream.read().map_err(closed)?;
        consume_budget().await;
    }
}

/// A refusal of our key comes when we already wait for HELLO: it is one of TLS all the same.
fn closed(error: io::Error) -> Failure {
    match error.downcast::<tls::Error>() {
        Ok(error) => Failure::Handshake(error.into()),
        Err(error) => Failure::Closed(error),
    }
}

#[cfg(test)]
mod tests;
