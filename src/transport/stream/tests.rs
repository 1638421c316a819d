use super::*;
use crate::transport::keys::PrivateKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// Two ends of one connection, before the handshake.
async fn ends(dialler: tls::Endpoint, listener: tls::Endpoint) -> (Stream, Stream) {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), port.accept());
    let dialler = Protection::Tls(dialler);
    let dialled = Stream::dialled(dialled.unwrap(), address, &dialler).unwrap();
    let listener = Protection::Tls(listener);
    (dialled, Stream::accepted(accepted.unwrap().0, address, &listener).unwrap())
}

/// What each end hears when one of them does not take the other's key.
async fn refused(dialler: tls::Endpoint, listener: tls::Endpoint) -> [HandshakeError; 2] {
    let (dialled, accepted) = ends(dialler, listener).await;
    tokio::join!(end_of(dialled), end_of(accepted)).into()
}

/// A dialler is through with the handshake before the listener has seen its key.
async fn end_of(mut stream: Stream) -> HandshakeError {
    if let Err(error) = stream.handshake().await {
        return error;
    }
    loop {
        stream.readable().await.unwrap();
        if let Err(error) = stream.read() {
            return unwrap_tls(error);
        }
    }
}

#[tokio::test]
async fn whose_key_is_refused_is_told_so() {
    let [a, b, other] = [0; 3].map(|_| PrivateKey::generate().unwrap());
    let end = |key: &PrivateKey, pinned: &PrivateKey| {
        tls::Endpoint::new(key, vec![pinned.public()]).unwrap()
    };
    let [dialler, listener] = refused(end(&other, &b), end(&b, &a)).await;
    let key = other.public();
    assert!(matches!(dialler, HandshakeError::Tls(tls::Error::Refused(k)) if k == key));
    assert!(matches!(listener, HandshakeError::Tls(tls::Error::UnknownKey(k)) if k == key));
    let [dialler, listener] = refused(end(&a, &b), end(&other, &a)).await;
    assert!(matches!(dialler, HandshakeError::Tls(tls::Error::UnknownKey(k)) if k == key));
    assert!(matches!(listener, HandshakeError::Tls(tls::Error::Refused(k)) if k == key));
}

#[tokio::test]
async fn who_does_not_come_to_an_end_of_a_message_is_sent_away() {
    let [key, other] = [0; 2].map(|_| PrivateKey::generate().unwrap());
    let ours = Protection::Tls(tls::Endpoint::new(&key, vec![other.public()]).unwrap());
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    let (stranger, accepted) = tokio::join!(TcpStream::connect(address), port.accept());
    let (mut stranger, mut accepted) =
        (stranger.unwrap(), Stream::accepted(accepted.unwrap().0, address, &ours).unwrap());
    // A ClientHello of 64 KiB, a byte a record; the half of it that comes would be awaited for ever.
    let message = [1, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat(0));
    let records = message.flat_map(|byte| [22, 3, 1, 0, 1, byte]);
    let some: Vec<u8> = records.take(40_000).collect();
    stranger.write_all(&some).await.unwrap();
    let end = timeout(Duration::from_secs(5), accepted.handshake()).await.expect("an end");
    assert!(matches!(end, Err(HandshakeError::Tls(tls::Error::NotTls))), "{end:?}");
}

/// Sealing any record is there in debug builds.
#[cfg(debug_assertions)]
#[tokio::test]
async fn a_peer_that_closes_behind_its_last_data_has_closed() {
    const ALERT: u8 = 21;
    const DATA: u8 = 23;
    const CLOSE_NOTIFY: [u8; 2] = [1, 0];
    let [a, b] = [0; 2].map(|_| PrivateKey::generate().unwrap());
    let end =
        |key: &PrivateKey, peer: &PrivateKey| tls::Endpoint::new(key, vec![peer.public()]).unwrap();
    let (mut dialled, mut accepted) = ends(end(&a, &b), end(&b, &a)).await;
    let (one, other) = tokio::join!(dialled.handshake(), accepted.handshake());
    one.and(other).unwrap();
    let layer = dialled.state.layer.as_mut().unwrap();
    layer.seal_as(DATA, control_frame(Kind::Ping, &[0; 8]).frame()).unwrap();
    layer.seal_as(ALERT, &CLOSE_NOTIFY).unwrap();
    dialled.flush(&mut Pool::default()).unwrap();
    while !accepted.read().unwrap() {
        accepted.readable().await.unwrap();
    }
    assert!(accepted.next_frame().unwrap().is_some());
    assert_eq!(accepted.read().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}
