use super::*;
use crate::transport::window::Window;

mod records;

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
        let opened = session.open(input.filled_mut(), &mut Window::default(), output)?;
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
    let agreed = ends.dialler.ciphers();
    assert_eq!(agreed.as_ref().map(|agreed| agreed.suite.as_str()), Some("TLS_AES_128_GCM_SHA256"));
    assert_eq!(agreed.as_ref().map(|agreed| agreed.key_exchange.as_str()), Some("X25519MLKEM768"));
    assert_eq!(ends.listener.ciphers(), agreed);
}

#[test]
fn an_older_tls_is_refused() {
    let version = [3, 3];
    let signatures = [0, 13, 0, 4, 0, 2, 8, 7];
    let groups = [0, 10, 0, 4, 0, 2, 0, 29];
    let rest = [&[0][..], &[0, 2, 0xc0, 0x2b], &[1, 0], &[0, 16], &signatures, &groups].concat();
    let hello = [&version[..], &[7; 32], &rest].concat();
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let message = [&[1, 0, 0, length(&hello)][..], &hello].concat();
    let mut record = [&[22, 3, 1, 0, length(&message)][..], &message].concat();
    let (mut listener, mut answer) = (ends(|key| key, |key| key).listener, Window::default());
    assert!(listener.open(&mut record, &mut Window::default(), &mut answer).is_err());
    const PROTOCOL_VERSION: u8 = 70;
    assert_eq!(answer.filled(), [21, 3, 3, 0, 2, 2, PROTOCOL_VERSION]);
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
    let (mut plain, mut answer) = (Window::default(), Window::default());
    let error = ends.listener.open(&mut hello, &mut plain, &mut answer).unwrap_err();
    assert_eq!(error, Error::NotTls);
}
