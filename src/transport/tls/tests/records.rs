//! Our records, between two ends of ours and beside rustls's own.

use std::io::{Read, Write};

use proptest::prelude::*;
use rustls::AlertDescription::{AccessDenied, BadRecordMac, UnexpectedMessage};
use rustls::{ClientConnection, ServerConnection};

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
fn opened(session: &mut Session, bytes: &[u8]) -> (Vec<u8>, Vec<u8>, Result<Opened, Error>) {
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
        let whole = Opened { consumed: wire.len(), ready: true, closed: false };
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
            let waits = Opened { consumed: 0, ready: true, closed: false };
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
    let mut ends = established();
    let long = [23, 3, 3, 0x41, 0x01];
    let error = error_of(&mut ends.listener, &long);
    assert_eq!(error, rustls::Error::PeerSentOversizedRecord, "refused before it has come");
    let short = [&[23, 3, 3, 0, 15][..], &[0; 15]].concat();
    assert_eq!(error_of(&mut ends.listener, &short), rustls::Error::DecryptError);

    let mut ends = established();
    let mut wire = Window::default();
    records(&mut ends.dialler).seal_as(0, &[0; 9], &mut wire).unwrap();
    let error = error_of(&mut ends.listener, wire.filled());
    assert!(matches!(error, rustls::Error::InappropriateMessage { .. }), "{error:?}");
    let mut ends = established();
    let mut wire = Window::default();
    records(&mut ends.dialler).seal_as(23, &[7; RECORD + 1], &mut wire).unwrap();
    let error = error_of(&mut ends.listener, wire.filled());
    assert_eq!(error, rustls::Error::PeerSentOversizedRecord);
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
fn nothing_but_key_updates_comes_after_the_handshake() {
    for message in
        [&[4, 0, 0, 1, 0][..], &[24, 0, 0, 1, 2], &[24, 0, 0, 1], &[24, 0, 0, 1, 0, 0], &[]]
    {
        let mut ends = established();
        let mut wire = Window::default();
        records(&mut ends.dialler).seal_as(22, message, &mut wire).unwrap();
        let error = error_of(&mut ends.listener, wire.filled());
        let refused = matches!(error, rustls::Error::InappropriateHandshakeMessage { .. });
        assert!(refused, "{message:?}: {error:?}");
    }
    for (kind, alert) in [(20, &[1][..]), (24, b"beat"), (21, &[2]), (21, &[1, 0, 0])] {
        let mut ends = established();
        let mut wire = Window::default();
        records(&mut ends.dialler).seal_as(kind, alert, &mut wire).unwrap();
        error_of(&mut ends.listener, wire.filled());
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
    records(&mut ends.dialler).wears_out_after(3);
    for round in 0..20_u8 {
        let wire = sealed(&mut ends.dialler, &[round; 40_000]);
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
    for _ in 0..1000 {
        records(&mut ends.dialler).update_and_ask(&mut wire);
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
    fn new(we_dial: bool) -> Self {
        let (a, b) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let ours = Endpoint::new(&a, vec![b.public()]).unwrap();
        let theirs = Endpoint::new(&b, vec![a.public()]).unwrap();
        let name = ServerName::try_from("tunnel64d").unwrap();
        let (ours, theirs) = if we_dial {
            let server = ServerConnection::new(theirs.server).unwrap();
            (ours.client().unwrap(), Theirs::Server(server))
        } else {
            let client = ClientConnection::new(theirs.client, name).unwrap();
            (ours.server().unwrap(), Theirs::Client(client))
        };
        let mut mixed = Self { ours, theirs, sealed: Window::default() };
        for _ in 0..6 {
            assert_eq!(mixed.heard_by_us().unwrap(), b"");
            assert_eq!(mixed.heard_by_them(), b"");
        }
        mixed
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
    for we_dial in [true, false] {
        let mut mixed = Mixed::new(we_dial);
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

    #[test]
    fn no_bytes_of_a_stranger_are_taken_for_data(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut ends = established();
        let (seen, _, _) = opened(&mut ends.listener, &bytes);
        prop_assert_eq!(seen, Vec::<u8>::new());
    }
}
