//! A dialler and what it finds at its endpoints, over the loopback.

use tokio::net::TcpListener;

use super::*;
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

/// Somebody who listens: the endpoint, and what becomes of who connects.
async fn listener() -> (Endpoint, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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
    let (silent, _kept) = listener().await;
    let (good, listener) = listener().await;
    let endpoints = [silent.clone(), good.clone()];
    let mut ways = Ways::new(1);

    // However slow this machine is, the first endpoint never answers.
    let first = dialler(&ways, &endpoints).dial(&hello(), Duration::from_millis(50)).await;
    assert!(first.result.is_err(), "{:?}", first.result);
    assert_eq!(first.last, Some(silent));
    ways.failed(0, first.last.unwrap());

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
    assert_eq!(outcome.last, Some(good));
}
