use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use super::*;
use crate::transport::window::Window;

struct Ends {
    dialler: Session,
    listener: Session,
}

fn ends(
    dialler_pins: impl Fn(PublicKey) -> PublicKey,
    listener_pins: impl Fn(PublicKey) -> PublicKey,
) -> Ends {
    let (a, b) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let dialler = Endpoint::new(&a, vec![dialler_pins(b.public())]).unwrap();
    let listener = Endpoint::new(&b, vec![listener_pins(a.public())]).unwrap();
    Ends { dialler: dialler.client().unwrap(), listener: listener.server().unwrap() }
}

fn other(_: PublicKey) -> PublicKey {
    PrivateKey::generate().unwrap().public()
}

/// Carries bytes between the ends until both are ready, or one refuses.
fn handshake(ends: &mut Ends) -> (Result<(), Error>, Result<(), Error>) {
    fn turn(session: &mut Session, input: &mut Window, output: &mut Window) -> Result<bool, Error> {
        let opened = session.open(input.filled_mut(), |_| {}, output)?;
        input.take(opened.consumed);
        Ok(opened.ready)
    }
    let (mut to_listener, mut to_dialler) = (Window::default(), Window::default());
    let (mut dialler, mut listener) = (Ok(false), Ok(false));
    for _ in 0..6 {
        if dialler.is_ok() {
            dialler = turn(&mut ends.dialler, &mut to_dialler, &mut to_listener);
        }
        if listener.is_ok() {
            listener = turn(&mut ends.listener, &mut to_listener, &mut to_dialler);
        }
    }
    (dialler.map(|ready| assert!(ready)), listener.map(|ready| assert!(ready)))
}

#[test]
fn two_ends_that_know_each_other_agree_and_prove_their_keys() {
    let mut ends = ends(|key| key, |key| key);
    assert_eq!(handshake(&mut ends), (Ok(()), Ok(())));
    assert_eq!(ends.dialler.peer(), Ok(ends.listener.ours));
    assert_eq!(ends.listener.peer(), Ok(ends.dialler.ours));
    let Side::Client(client) = &ends.dialler.side else { panic!() };
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[test]
fn a_listener_with_another_key_is_refused_and_learns_it() {
    let mut ends = ends(other, |key| key);
    let (dialler, listener) = handshake(&mut ends);
    assert_eq!(dialler, Err(Error::UnknownKey(ends.listener.ours)));
    assert!(
        matches!(listener, Err(Error::Refused(key)) if key == ends.listener.ours),
        "{listener:?}"
    );
}

#[test]
fn a_dialler_with_another_key_is_refused_and_learns_it() {
    let mut ends = ends(|key| key, other);
    let (dialler, listener) = handshake(&mut ends);
    assert_eq!(listener, Err(Error::UnknownKey(ends.dialler.ours)));
    assert!(matches!(dialler, Err(Error::Refused(key)) if key == ends.dialler.ours), "{dialler:?}");
}

#[test]
fn plaintext_is_told_apart_from_tls() {
    let mut ends = ends(|key| key, |key| key);
    let mut hello = *b"\x01\0\0\0\0\0\0\x3ctunnel64";
    let error = ends.listener.open(&mut hello, |_| {}, &mut Window::default()).unwrap_err();
    assert_eq!(error, Error::NotTls);
}

#[test]
fn what_is_sealed_comes_out_as_it_was_and_a_changed_byte_is_noticed() {
    let mut ends = ends(|key| key, |key| key);
    assert_eq!(handshake(&mut ends), (Ok(()), Ok(())));
    for length in [1, 100, RECORD - 1, RECORD, RECORD + 1, 65_583] {
        let plain: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
        let mut sealed = vec![0; sealed_len(length)];
        let count = ends.dialler.seal(&plain, &mut sealed, &mut []).unwrap();
        assert_eq!(count, sealed.len());
        let mut seen = Vec::new();
        let take = |part: &[u8]| seen.extend_from_slice(part);
        let opened = ends.listener.open(&mut sealed, take, &mut Window::default()).unwrap();
        assert_eq!((opened.consumed, seen), (count, plain));
    }
    let mut sealed = vec![0; sealed_len(40)];
    ends.dialler.seal(&[7; 40], &mut sealed, &mut []).unwrap();
    sealed[20] ^= 1;
    assert!(ends.listener.open(&mut sealed, |_| {}, &mut Window::default()).is_err());
}

#[test]
fn keys_are_updated_without_anybody_noticing() {
    let mut ends = ends(|key| key, |key| key);
    assert_eq!(handshake(&mut ends), (Ok(()), Ok(())));
    let Side::Client(client) = &mut ends.dialler.side else { panic!() };
    let UnbufferedStatus { state, .. } = client.process_tls_records(&mut []);
    let Ok(ConnectionState::WriteTraffic(traffic)) = state else { panic!() };
    traffic.refresh_traffic_keys().unwrap();
    let (mut sealed, mut wire) = (vec![0; sealed_len(9)], Window::default());
    ends.dialler.open(&mut [], |_| {}, &mut wire).unwrap();
    assert!(wire.len() > 0, "a key update goes out first");
    let count = ends.dialler.seal(b"new keys!", &mut sealed, &mut []).unwrap();
    wire.extend(&sealed[..count]);
    let mut seen = Vec::new();
    let take = |part: &[u8]| seen.extend_from_slice(part);
    ends.listener.open(wire.filled_mut(), take, &mut Window::default()).unwrap();
    assert_eq!(seen, b"new keys!");
}
