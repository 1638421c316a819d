//! Our records, between two ends of ours and beside rustls's own.

use std::io::{Read, Write};

use proptest::prelude::*;
use rustls::AlertDescription::{
    AccessDenied, BadRecordMac, DecodeError, IllegalParameter, UnexpectedMessage,
};
use rustls::{ClientConnection, ServerConnection, SupportedCipherSuite};

use super::super::records::Records;
use super::super::session::State;
use super::*;

const HEADER: usize = 5;
const OVERHEAD: usize = HEADER + 1 + 16;

fn established() -> Ends {
    let mut ends = ends(|key| key, |key| key);
    assert_eq!(handshake(&mut ends), (Ok(()), Ok(())));
    ends
}

fn records(session: &mut Session) -> &mut Records {
    let State::Established(established) = &mut session.state else { panic!("no handshake") };
    &mut established.records
}

fn sealed(session: &mut Session, plain: &[u8]) -> Vec<u8> {
    let mut wire = Window::default();
    session.seal(plain, &mut wire).unwrap();
    wire.filled().to_vec()
}

/// What comes of these bytes: data, what is answered, and how it ends.
fn opened(session: &mut Session, bytes: &[u8]) -> (Vec<u8>, Vec<u8>, Result<Progress, Error>) {
    let (mut plain, mut answer) = (Window::default(), Window::default());
    let result = session.open(&mut bytes.to_vec(), &mut plain, &mut answer);
    (plain.filled().to_vec(), answer.filled().to_vec(), result)
}

fn error_of(session: &mut Session, bytes: &[u8]) -> rustls::Error {
    match opened(session, bytes) {
        (_, _, Err(Error::Other(error))) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_sealed_comes_out_as_it_was_in_as_few_records_as_it_fits_in() {
    let mut ends = established();
    for length in [1, 100, RECORD - 1, RECORD, RECORD + 1, 65_583] {
        let plain: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
        let wire = sealed(&mut ends.dialler, &plain);
        assert_eq!(wire.len(), length + length.div_ceil(RECORD) * OVERHEAD);
        let (seen, answer, result) = opened(&mut ends.listener, &wire);
        let whole = Progress { consumed: wire.len(), ready: true, closed: false };
        assert_eq!((seen, answer, result), (plain, vec![], Ok(whole)));
    }
}

#[test]
fn the_same_bytes_never_look_the_same_and_are_taken_once() {
    let mut ends = established();
    let first = sealed(&mut ends.dialler, b"again");
    let second = sealed(&mut ends.dialler, b"again");
    assert_eq!(first[..HEADER], second[..HEADER]);
    assert!(first[HEADER..].iter().zip(&second[HEADER..]).filter(|(a, b)| a != b).count() > 10);
    assert_eq!(opened(&mut ends.listener, &first).0, b"again");
    assert_eq!(error_of(&mut ends.listener, &first), rustls::Error::DecryptError);
}

#[test]
fn a_changed_byte_anywhere_ends_the_connection_and_the_peer_is_told() {
    for place in 0..40 + OVERHEAD {
        let mut ends = established();
        let mut wire = sealed(&mut ends.dialler, &[7; 40]);
        wire[place] ^= 1;
        let (seen, told, result) = opened(&mut ends.listener, &wire);
        assert_eq!(seen, b"", "byte {place}");
        if place == 3 {
            let waits = Progress { consumed: 0, ready: true, closed: false };
            assert_eq!(result, Ok(waits), "for the rest of a longer record");
            continue;
        }
        assert!(result.is_err(), "byte {place}");
        let (_, answer, end) = opened(&mut ends.dialler, &told);
        assert_eq!(answer, b"", "who is told does not answer");
        let Err(Error::Other(rustls::Error::AlertReceived(alert))) = end else {
            panic!("byte {place}: {end:?}")
        };
        assert_eq!(alert, if place == 0 { UnexpectedMessage } else { BadRecordMac });
    }
}

#[test]
fn a_record_that_is_too_long_too_short_or_nothing_but_padding_is_refused() {
    let long = [23, 3, 3, 0x40, 0x12];
    let error = error_of(&mut established().listener, &long);
    assert_eq!(error, rustls::Error::PeerSentOversizedRecord, "refused before it has come");
    let longest = [23, 3, 3, 0x40, 0x11];
    assert!(opened(&mut established().listener, &longest).2.is_ok(), "it may still come");
    let short = [&[23, 3, 3, 0, 15][..], &[0; 15]].concat();
    assert_eq!(error_of(&mut established().listener, &short), rustls::Error::DecryptError);

    let mut ends = established();
    let mut wire = Window::default();
    records(&mut ends.dialler).seal_as(0, &[0; 9], &mut wire).unwrap();
    let error = error_of(&mut ends.listener, wire.filled());
    assert!(matches!(error, rustls::Error::InappropriateMessage { .. }), "{error:?}");
}

#[test]
fn nothing_is_opened_or_sealed_after_an_error() {
    let mut ends = established();
    let good = sealed(&mut ends.dialler, b"good");
    error_of(&mut ends.listener, &[&[23, 3, 3, 0, 17][..], &[0; 17]].concat());
    assert_eq!(error_of(&mut ends.listener, &good), rustls::Error::HandshakeNotComplete);
    assert!(ends.listener.seal(b"more", &mut Window::default()).is_err());
}

#[test]
fn padding_is_taken_off_and_nothing_else_is() {
    let mut ends = established();
    let mut wire = Window::default();
    // Data, its type and padding, in place of data and the type that follows it.
    records(&mut ends.dialler).seal_as(0, b"data\0\0\x17\0\0\0", &mut wire).unwrap();
    assert_eq!(opened(&mut ends.listener, wire.filled()).0, b"data\0\0");
}

#[test]
fn what_has_no_place_after_the_handshake_ends_the_connection_with_the_right_alert() {
    const TICKET: &[u8] = &[4, 0, 0, 1, 0];
    for (kind, message, alert) in [
        (22, TICKET, UnexpectedMessage),
        (22, &[24, 0, 0, 1, 2][..], IllegalParameter),
        (22, &[24, 0, 0, 1], IllegalParameter),
        (22, &[24, 0, 0, 1, 0, 0], IllegalParameter),
        (22, &[24, 0, 0], UnexpectedMessage),
        (22, &[], UnexpectedMessage),
        (20, &[1], UnexpectedMessage),
        (24, b"beat", UnexpectedMessage),
        (21, &[2], DecodeError),
        (21, &[1, 0, 0], DecodeError),
    ] {
        let mut ends = established();
        let mut wire = Window::default();
        records(&mut ends.dialler).seal_as(kind, message, &mut wire).unwrap();
        let (_, told, result) = opened(&mut ends.listener, wire.filled());
        assert!(matches!(result, Err(Error::Other(_))), "{kind} {message:?}: {result:?}");
        let heard = error_of(&mut ends.dialler, &told);
        assert_eq!(heard, rustls::Error::AlertReceived(alert), "{kind} {message:?}");
    }
}

#[test]
fn a_listeners_tickets_are_ignored_and_what_stands_behind_them_is_not() {
    let mut ends = established();
    let mut wire = Window::default();
    let tickets = [4, 0, 0, 3, 7, 7, 7, 4, 0, 0, 1, 7];
    records(&mut ends.listener).seal_as(22, &tickets, &mut wire).unwrap();
    assert!(opened(&mut ends.dialler, wire.filled()).2.is_ok());
    let mut wire = Window::default();
    let rest = [&tickets[..], &[24, 0, 0, 1, 1]].concat();
    records(&mut ends.listener).seal_as(22, &rest, &mut wire).unwrap();
    records(&mut ends.listener).next_key();
    ends.listener.seal(b"new keys!", &mut wire).unwrap();
    assert_eq!(opened(&mut ends.dialler, wire.filled()).0, b"new keys!");
}

#[test]
fn records_without_data_are_borne_for_a_while() {
    for (kind, message) in [(23, &[][..]), (22, &[24, 0, 0, 1, 0]), (21, &[1, 90])] {
        let mut ends = established();
        let mut wire = Window::default();
        let mut send = |times| {
            for _ in 0..times {
                records(&mut ends.dialler).seal_as(kind, message, &mut wire).unwrap();
                if kind == 22 {
                    records(&mut ends.dialler).next_key();
                }
            }
            ends.dialler.seal(b"x", &mut wire).unwrap();
            let bytes = wire.filled().to_vec();
            wire.take(bytes.len());
            opened(&mut ends.listener, &bytes).2
        };
        assert!(send(32).is_ok() && send(32).is_ok(), "{kind}");
        assert!(send(33).is_err(), "{kind}");
    }
}

#[test]
fn an_alert_ends_the_connection_and_is_not_answered() {
    let mut ends = established();
    let mut wire = Window::default();
    records(&mut ends.listener).seal_as(21, &[2, AccessDenied.into()], &mut wire).unwrap();
    let (_, answer, result) = opened(&mut ends.dialler, wire.filled());
    assert_eq!((answer, result), (vec![], Err(Error::Refused(ends.dialler.ours))));
}

#[test]
fn a_worn_key_is_replaced_by_the_next_one_without_anybody_noticing() {
    let mut ends = established();
    assert_eq!(records(&mut ends.dialler).wears_out_after(3), 1 << 23, "half of AES-GCM's");
    for round in 0..20_u8 {
        let wire = sealed(&mut ends.dialler, &[round; 40_000]);
        let update = if round == 0 { 0 } else { 5 + OVERHEAD };
        assert_eq!(wire.len(), 40_000 + 3 * OVERHEAD + update);
        let (seen, answer, _) = opened(&mut ends.listener, &wire);
        assert_eq!((seen, answer), (vec![round; 40_000], vec![]));
        let back = sealed(&mut ends.listener, b"the other way nothing changes");
        assert_eq!(back.len(), 29 + OVERHEAD);
        assert_eq!(opened(&mut ends.dialler, &back).0, b"the other way nothing changes");
    }
}

#[test]
fn key_updates_that_are_asked_for_are_answered_once_before_the_next_data() {
    let mut ends = established();
    let mut wire = Window::default();
    for _ in 0..20 {
        records(&mut ends.dialler).seal_as(22, &[24, 0, 0, 1, 1], &mut wire).unwrap();
        records(&mut ends.dialler).next_key();
    }
    let (_, answer, result) = opened(&mut ends.listener, wire.filled());
    assert!(result.is_ok() && answer.is_empty(), "nothing grows");
    let back = sealed(&mut ends.listener, b"new keys!");
    assert_eq!(back.len(), 5 + 9 + 2 * OVERHEAD);
    assert_eq!(opened(&mut ends.dialler, &back).0, b"new keys!");
    assert_eq!(sealed(&mut ends.listener, b"new keys!").len(), 9 + OVERHEAD);
}

/// An end that is rustls's alone.
enum Theirs {
    Client(ClientConnection),
    Server(ServerConnection),
}

/// One end of ours and one of rustls's, that have shaken hands.
struct Mixed {
    ours: Session,
    theirs: Theirs,
    sealed: Window,
}

macro_rules! either {
    ($theirs:expr, $side:ident => $what:expr) => {
        match $theirs {
            Theirs::Client($side) => $what,
            Theirs::Server($side) => $what,
        }
    };
}

impl Mixed {
    fn new(we_dial: bool, suite: SupportedCipherSuite) -> Self {
        let mut mixed = Self::before_hello(we_dial, suite);
        for _ in 0..6 {
            assert_eq!(mixed.heard_by_us().unwrap(), b"");
            assert_eq!(mixed.heard_by_them(), b"");
        }
        mixed
    }

    fn before_hello(we_dial: bool, suite: SupportedCipherSuite) -> Self {
        let (a, b) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let ours = Endpoint::new(&a, vec![b.public()]).unwrap();
        let provider = CryptoProvider { cipher_suites: vec![suite], ..provider() };
        let theirs = Endpoint::with_provider(&b, vec![a.public()], provider).unwrap();
        let name = ServerName::try_from("tunnel64d").unwrap();
        let (ours, theirs) = if we_dial {
            let server = ServerConnection::new(theirs.server).unwrap();
            (ours.client().unwrap(), Theirs::Server(server))
        } else {
            let client = ClientConnection::new(theirs.client, name).unwrap();
            (ours.server().unwrap(), Theirs::Client(client))
        };
        Self { ours, theirs, sealed: Window::default() }
    }

    /// Carries what we have to say to rustls's end; gives the data that it made of it.
    fn heard_by_them(&mut self) -> Vec<u8> {
        let mut plain = Vec::new();
        while self.sealed.len() > 0 {
            either!(&mut self.theirs, side => {
                let read = side.read_tls(&mut self.sealed.filled()).unwrap();
                self.sealed.take(read);
                side.process_new_packets().unwrap();
                // Ends with an error when there is no more.
                let _ = side.reader().read_to_end(&mut plain);
            });
        }
        plain
    }

    /// The same the other way.
    fn heard_by_us(&mut self) -> Result<Vec<u8>, Error> {
        let (mut wire, mut plain) = (Vec::new(), Window::default());
        either!(&mut self.theirs, side => while side.wants_write() {
            side.write_tls(&mut wire).unwrap();
        });
        let opened = self.ours.open(&mut wire, &mut plain, &mut self.sealed)?;
        assert!(opened.consumed == wire.len() || opened.closed);
        Ok(plain.filled().to_vec())
    }

    fn say(&mut self, bytes: &[u8]) {
        self.ours.seal(bytes, &mut self.sealed).unwrap();
    }

    fn let_them_say(&mut self, bytes: &[u8]) {
        either!(&mut self.theirs, side => side.writer().write_all(bytes).unwrap());
    }

    fn let_them_update(&mut self) {
        either!(&mut self.theirs, side => side.refresh_traffic_keys().unwrap());
    }
}

#[test]
fn rustls_takes_our_records_for_its_own_and_we_take_its() {
    let suites = provider().cipher_suites;
    assert_eq!(suites.len(), 3);
    for (we_dial, suite) in
        [true, false].iter().flat_map(|we| suites.iter().map(move |s| (*we, *s)))
    {
        let mut mixed = Mixed::new(we_dial, suite);
        assert_eq!(mixed.ours.ciphers().unwrap().suite, name_of(suite));
        records(&mut mixed.ours).wears_out_after(5);
        for round in 0..12_u8 {
            let bytes = vec![round; 30_000];
            mixed.say(&bytes);
            assert_eq!(mixed.heard_by_them(), bytes);
            if round % 3 == 0 {
                mixed.let_them_update();
            }
            mixed.let_them_say(&bytes);
            assert_eq!(mixed.heard_by_us(), Ok(bytes));
        }
        either!(&mut mixed.theirs, side => side.send_close_notify());
        let (mut wire, mut plain) = (Vec::new(), Window::default());
        either!(&mut mixed.theirs, side => side.write_tls(&mut wire).unwrap());
        let end = mixed.ours.open(&mut wire, &mut plain, &mut Window::default()).unwrap();
        assert!(end.closed && !end.ready);
    }
}

fn name_of(suite: SupportedCipherSuite) -> String {
    suite.suite().as_str().unwrap().replace("TLS13_", "TLS_")
}

#[test]
fn what_stands_right_behind_the_handshake_is_taken_as_what_it_is() {
    let suite = TLS13_AES_128_GCM_SHA256;
    // The dialler's last words of the handshake, data, a key update, and data under the next key.
    let mut mixed = Mixed::before_hello(false, suite);
    mixed.let_them_say(b"at once");
    assert_eq!(mixed.heard_by_us().unwrap(), b"");
    assert_eq!(mixed.heard_by_them(), b"");
    mixed.let_them_update();
    mixed.let_them_say(b", and more");
    assert_eq!(mixed.heard_by_us().unwrap(), b"at once, and more");
    mixed.say(b"heard");
    assert_eq!(mixed.heard_by_them(), b"heard");

    // The same with garbage: it is no reason to say that the peer does not speak TLS.
    let mut ends = ends(|key| key, |key| key);
    let (mut to_listener, mut to_dialler) = (Window::default(), Window::default());
    let mut plain = Window::default();
    ends.dialler.open(&mut [], &mut plain, &mut to_listener).unwrap();
    ends.listener.open(to_listener.filled_mut(), &mut plain, &mut to_dialler).unwrap();
    let mut last = Window::default();
    ends.dialler.open(to_dialler.filled_mut(), &mut plain, &mut last).unwrap();
    last.extend(&[0x55; 100]);
    let error = ends.listener.open(last.filled_mut(), &mut plain, &mut to_dialler).unwrap_err();
    let unexpected = matches!(error, Error::Other(rustls::Error::InappropriateMessage { .. }));
    assert!(unexpected, "{error:?}");
}

proptest! {
    #[test]
    fn data_comes_out_however_the_bytes_arrive(
        lengths in prop::collection::vec(prop_oneof![1usize..200, 10_000usize..70_000], 1..6),
        reads in prop::collection::vec(1usize..40_000, 1..8),
    ) {
        let mut ends = established();
        let (mut wire, mut all) = (Window::default(), Vec::new());
        for (index, length) in lengths.iter().enumerate() {
            let plain = vec![index.to_le_bytes()[0]; *length];
            ends.dialler.seal(&plain, &mut wire).unwrap();
            all.extend(plain);
        }
        let (mut input, mut plain, mut answer) = <(Window, Window, Window)>::default();
        for length in reads.iter().cycle() {
            let length = (*length).min(wire.len());
            if length == 0 {
                break;
            }
            input.extend(wire.take(length));
            let opened = ends.listener.open(input.filled_mut(), &mut plain, &mut answer).unwrap();
            input.take(opened.consumed);
        }
        prop_assert_eq!((plain.filled(), input.len(), answer.len()), (all.as_slice(), 0, 0));
    }
}
