//! A dialler and what it finds at its endpoints, over the loopback.

use tokio::net::TcpListener;

use super::*;
use crate::config::{self, Sources};
use crate::daemon::parameters;
use crate::daemon::ways::Ways;
use crate::link::negotiate::Ours;
use crate::transport::tcp::Congestion;
use crate::wire::hello::SessionId;

fn hello() -> Hello {
    let ours = Ours {
        streams: 1,
        instance: Instance([7; 16]),
        features: 0,
        mtu: 1500,
        keepalive: Duration::from_secs(10),
        max_packet: 65_575,
    };
    ours.hello(SessionId([1; 16]), 0)
}

/// Somebody who listens, and the endpoint.
async fn listener() -> (Endpoint, TcpListener) {
    listener_at("127.0.0.1:0").await
}

async fn listener_at(address: &str) -> (Endpoint, TcpListener) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (Endpoint { host: address.ip().to_string(), port: address.port() }, listener)
}

/// A peer that answers one HELLO.
async fn answers(listener: TcpListener) {
    let (tcp, peer) = listener.accept().await.unwrap();
    let Introduced { mut stream, .. } = greet(tcp, peer, &Protection::Plaintext).await.unwrap();
    stream.push_control(Kind::Hello, &hello().to_body());
    stream.flush(&mut Pool::default()).unwrap();
    let _ = stream.readable().await;
}

fn dialler(ways: &Ways, endpoints: &[Endpoint]) -> Dialler {
    Dialler {
        order: ways.order(0, endpoints),
        allowed: None,
        options: tcp::Options {
            source: None,
            device: None,
            fwmark: None,
            dscp: None,
            congestion: Congestion::Default,
            unacknowledged_limit: Duration::from_secs(30),
        },
        protection: Protection::Plaintext,
        netlink: Netlink::open().unwrap().0,
        interface: 0,
        needed: Arc::new(AtomicBool::new(true)),
    }
}

#[tokio::test]
async fn an_endpoint_that_swallows_a_whole_attempt_does_not_begin_the_next() {
    let (silent, kept) = listener().await;
    let (good, listener) = listener().await;
    let endpoints = [silent.clone(), good.clone()];
    let mut ways = Ways::new(1);

    // However slow this machine is, the first endpoint never answers.
    let first = dialler(&ways, &endpoints).dial(&hello(), Duration::from_millis(50)).await;
    assert!(first.result.is_err(), "{:?}", first.result);
    assert_eq!(first.tried.addresses, [kept.local_addr().unwrap()]);
    assert_eq!(first.tried.last, Some(silent));
    ways.failed(0, first.tried.last.unwrap(), &first.tried.addresses);

    let second = dialler(&ways, &endpoints);
    let second = async { second.dial(&hello(), Duration::from_secs(10)).await };
    let (second, ()) = tokio::join!(second, answers(listener));
    let (introduced, way) = second.result.unwrap();
    assert_eq!((&way.endpoint, way.address), (&good, introduced.stream.peer()));
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_followed_by_the_next_within_the_attempt() {
    let (refusing, gone) = listener().await;
    drop(gone);
    let (good, listener) = listener().await;
    let endpoints = [refusing, good.clone()];
    let dialler = dialler(&Ways::new(1), &endpoints);
    let dial = async { dialler.dial(&hello(), Duration::from_secs(10)).await };
    let (outcome, ()) = tokio::join!(dial, answers(listener));
    assert_eq!(outcome.result.unwrap().1.endpoint, good);
    assert_eq!(outcome.tried.last, Some(good));
}

#[tokio::test]
async fn an_attempt_that_is_no_longer_needed_says_no_hello_and_tries_no_other_endpoint() {
    let (first, listener) = listener().await;
    let (second, untouched) = listener_at("127.0.0.1:0").await;
    let dialler = dialler(&Ways::new(1), &[first.clone(), second]);
    dialler.needed.store(false, Relaxed);
    let dial = async { dialler.dial(&hello(), Duration::from_secs(10)).await };
    let accept = async { listener.accept().await.unwrap().0 };
    let (outcome, tcp) = tokio::join!(dial, accept);
    let failure = outcome.result.unwrap_err();
    assert!(matches!(failure, Failure::NotNeeded), "{failure:?}");
    assert_eq!(outcome.tried.last, Some(first));
    tcp.readable().await.unwrap();
    assert_eq!(tcp.try_read(&mut [0; 64]).unwrap(), 0, "it was told something");
    let nobody = untouched.into_std().unwrap().accept().map(|_| "it was dialled").unwrap_err();
    assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn what_a_name_leads_to_is_not_dialled_unless_it_is_allowed() {
    let (foreign, untouched) = listener().await;
    let (good, listener) = listener_at("[::1]:0").await;
    let name = Endpoint { host: "localhost".to_owned(), port: foreign.port };
    let foreign_at = untouched.local_addr().unwrap();
    let dialler = Dialler {
        allowed: Some(vec!["::1/128".parse().unwrap()]),
        ..dialler(&Ways::new(1), &[name.clone(), foreign.clone(), good.clone()])
    };
    let dial = async { dialler.dial(&hello(), Duration::from_secs(10)).await };
    let (outcome, ()) = tokio::join!(dial, answers(listener));
    assert_eq!(outcome.result.unwrap().1.endpoint, good);
    assert_eq!(outcome.tried.foreign, [(name, foreign_at), (foreign, foreign_at)]);
    let nobody = untouched.into_std().unwrap().accept().map(|_| "it was dialled").unwrap_err();
    assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn an_attempt_that_finds_foreign_addresses_only_says_so() {
    let (foreign, _untouched) = listener().await;
    let dialler = Dialler {
        allowed: Some(vec!["192.0.2.0/24".parse().unwrap()]),
        ..dialler(&Ways::new(1), std::slice::from_ref(&foreign))
    };
    let failure = dialler.dial(&hello(), Duration::from_secs(10)).await.result.unwrap_err();
    assert!(matches!(&failure, Failure::Foreign { endpoint, .. } if *endpoint == foreign));
    assert_eq!(failure.outcomes(), [Handshake::Foreign]);
    let text = failure.to_string();
    assert!(text.contains(&foreign.to_string()), "{text}");
    assert!(text.contains("security.peer_addresses"), "{text}");
}

/// With keys a list of who may connect says nothing about where the peer is dialled.
#[test]
fn only_plaintext_limits_what_is_dialled() {
    let limits = |security: &str| {
        let nothing = tempfile::tempdir().unwrap();
        let mut sources = Sources {
            vendor_dir: nothing.path().to_owned(),
            config_dir: nothing.path().to_owned(),
            environment: Vec::new(),
            ..Sources::new("tun0")
        };
        sources.set = ["link.connect=gw.example", "security.peer_addresses=192.0.2.7"]
            .map(str::to_owned)
            .to_vec();
        sources.set.push(security.to_owned());
        let loaded = config::load(&sources).unwrap();
        parameters::dialled(&loaded.settings)
    };
    assert_eq!(limits("security.mode=plaintext"), Some(vec!["192.0.2.7/32".parse().unwrap()]));
    let key = "security.peer_public_keys=JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA=";
    assert_eq!(limits(key), None);
}
