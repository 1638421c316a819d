//! The daemon's end of the control socket: a thread that takes calls from a few clients at a time
//! and hands requests to the main loop.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::bound::{Bound, File};
use super::places::{Places, Standing};
use super::protocol::{self, Call, INTERFACE, MAX_CALL, Method, Reply, SERVICE};
use super::requests::{Asker, RELOADERS, Request, STATUS_LIMIT};

/// Clients at a time.
const PLACES: usize = 16;

// Those who wait for reloads keep nobody away who asks how things are.
const _: () = assert!(RELOADERS <= PLACES / 2);

/// How long a client may be silent, and how long it may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The least time between two clients, and between two calls of one.
const PACE: Duration = Duration::from_millis(1);

/// The pause after a client could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// A thread that serves clients until it is dropped.
#[derive(Debug)]
pub struct Server {
    _file: File,
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// Serves the clients of this socket.
    ///
    /// # Errors
    /// The kernel gives no thread, or no event queue.
    pub fn start(bound: Bound, requests: mpsc::Sender<Request>) -> io::Result<Self> {
        let (listener, file) = bound.into_parts();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = UnixListener::from_std(listener) else { return };
                tokio::select! {
                    () = serve(&listener, requests) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { _file: file, _stop: stop })
    }
}

async fn serve(listener: &UnixListener, requests: mpsc::Sender<Request>) {
    let asker = Arc::new(Asker::new(requests, STATUS_LIMIT));
    let mut places = Places::new(PLACES);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                places.admit(|standing| attend(stream, asker.clone(), standing)).await;
                sleep(PACE).await;
            }
            Err(_) => sleep(ACCEPT_AGAIN).await,
        }
    }
}

/// Answers one client's calls until it goes, or takes too long.
async fn attend(mut stream: UnixStream, asker: Arc<Asker>, standing: Arc<Standing>) {
    let mut heard = Vec::new();
    while let Ok(Ok(true)) = timeout(PATIENCE, hear(&mut stream, &mut heard)).await {
        standing.asked();
        let (answer, goes_on) = answer(&take_call(&mut heard), &asker).await;
        standing.answered();
        let said = timeout(PATIENCE, stream.write_all(&answer)).await;
        if !goes_on || !matches!(said, Ok(Ok(()))) {
            return;
        }
        sleep(PACE).await;
    }
}

/// Reads until there is a whole call, or more than one may be long. Says whether there is.
async fn hear(stream: &mut UnixStream, heard: &mut Vec<u8>) -> io::Result<bool> {
    let mut room = [0; MAX_CALL];
    while !heard.contains(&0) && heard.len() <= MAX_CALL {
        match stream.read(&mut room).await? {
            0 => return Ok(false),
            length => heard.extend_from_slice(&room[..length]),
        }
    }
    Ok(true)
}

/// Takes the first call out; all there is, when that is none.
fn take_call(heard: &mut Vec<u8>) -> Vec<u8> {
    let length = heard.iter().position(|byte| *byte == 0).unwrap_or(heard.len());
    let call = heard[..length].to_vec();
    heard.drain(..(length + 1).min(heard.len()));
    call
}

/// What to say to a call, and whether the client may say more.
async fn answer(call: &[u8], asker: &Asker) -> (Vec<u8>, bool) {
    let parsed = if call.len() > MAX_CALL { None } else { serde_json::from_slice(call).ok() };
    let Some(call) = parsed else {
        return (protocol::encode(&Reply::invalid_parameter("")), false);
    };
    let call: Call = call;
    let reply = match call.method() {
        Ok(method) => reply(method, asker).await,
        Err(reply) => reply,
    };
    (if call.oneway { Vec::new() } else { protocol::encode(&reply) }, true)
}

async fn reply(method: Method, asker: &Asker) -> Reply {
    match method {
        Method::Status => match asker.status().await {
            Some(status) => Reply::new(json!({ "status": status })),
            None => Reply::busy(),
        },
        Method::Reload => match asker.reload().await {
            Some(Ok(applied)) => Reply::new(json!(applied)),
            Some(Err(rejected)) => Reply::error("org.tunnel64d.ReloadRejected", json!(rejected)),
            None => Reply::busy(),
        },
        Method::Info => Reply::new(json!({
            "vendor": "tunnel64d",
            "product": "tunnel64d",
            "version": env!("CARGO_PKG_VERSION"),
            "url": "",
            "interfaces": [SERVICE, INTERFACE],
        })),
        Method::Description(text) => Reply::new(json!({ "description": text })),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use tempfile::TempDir;

    use super::*;
    use crate::control::client::{Client, Failure, STATUS_PATIENCE};
    use crate::control::protocol::Rejected;
    use crate::control::requests::requests;
    use crate::control::socket;
    use crate::metrics::snapshot::Snapshot;

    /// A server whose main loop answers at once.
    struct Daemon {
        directory: TempDir,
        _server: Server,
    }

    impl Daemon {
        fn start() -> Self {
            let (sender, mut receiver) = requests();
            let directory = tempfile::tempdir().unwrap();
            let bound = socket::bind(directory.path(), "tun0").unwrap();
            let server = Server::start(bound, sender).unwrap();
            thread::spawn(move || {
                while let Some(request) = receiver.blocking_recv() {
                    match request {
                        Request::Status(reply) => {
                            let snapshot = Snapshot { name: "tun0".to_owned(), ..default() };
                            drop(reply.send(snapshot));
                        }
                        Request::Reload(reply) => drop(reply.send(Err(no()))),
                    }
                }
            });
            Self { directory, _server: server }
        }

        fn connect(&self) -> UnixStream {
            UnixStream::connect(socket::path(self.directory.path(), "tun0")).unwrap()
        }

        fn client(&self) -> Client {
            Client::connect(self.directory.path(), "tun0", STATUS_PATIENCE).unwrap()
        }

        fn exchange(&self, call: &[u8]) -> String {
            let mut stream = self.connect();
            stream.write_all(call).unwrap();
            let mut reply = Vec::new();
            let mut byte = [0];
            while stream.read(&mut byte).unwrap() == 1 && byte != [0] {
                reply.push(byte[0]);
            }
            String::from_utf8(reply).unwrap()
        }
    }

    fn default() -> Snapshot {
        Snapshot::default()
    }

    fn no() -> Rejected {
        Rejected { errors: vec!["no".to_owned()], remedy: "Ask again.".to_owned() }
    }

    #[test]
    fn a_client_asks_as_often_as_it_likes() {
        let daemon = Daemon::start();
        let mut client = daemon.client();
        for _ in 0..3 {
            assert_eq!(client.status().unwrap()["name"], "tun0");
        }
        assert_eq!(client.reload().unwrap(), Err(no()));
    }

    #[test]
    fn a_main_loop_that_hangs_is_told_of() {
        let (sender, _hangs) = requests();
        let directory = tempfile::tempdir().unwrap();
        let bound = socket::bind(directory.path(), "tun0").unwrap();
        let _server = Server::start(bound, sender).unwrap();
        let client = Client::connect(directory.path(), "tun0", STATUS_PATIENCE);
        let failure = client.unwrap().status().unwrap_err();
        assert!(failure.to_string().contains("no answer within 5 s"), "{failure}");
    }

    #[test]
    fn those_who_ask_for_reloads_keep_nobody_away_who_asks_how_things_are() {
        let (sender, mut receiver) = requests();
        let directory = tempfile::tempdir().unwrap();
        let bound = socket::bind(directory.path(), "tun0").unwrap();
        let _server = Server::start(bound, sender).unwrap();
        thread::spawn(move || {
            let mut reloads = Vec::new();
            while let Some(request) = receiver.blocking_recv() {
                match request {
                    Request::Status(reply) => drop(reply.send(Snapshot::default())),
                    Request::Reload(reply) => reloads.push(reply),
                }
            }
        });
        let client = || Client::connect(directory.path(), "tun0", STATUS_PATIENCE).unwrap();
        let path = socket::path(directory.path(), "tun0");
        let ask = |_| {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(&protocol::encode(&Call::ours("Reload"))).unwrap();
            stream
        };
        let mut asking: Vec<_> = (0..PLACES).map(ask).collect();
        assert!(client().status().is_ok());
        // They have been heard when there is an answer for one who came after them.
        asking.extend((0..PLACES).map(ask));
        assert!(client().status().is_ok());
        assert!(matches!(client().reload(), Err(Failure::Busy(_))));
    }

    #[test]
    fn the_interface_describes_itself() {
        let daemon = Daemon::start();
        let info = daemon.exchange(b"{\"method\":\"org.varlink.service.GetInfo\"}\0");
        assert!(info.contains(r#""interfaces":["org.varlink.service","org.tunnel64d"]"#), "{info}");
        let call = br#"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"org.tunnel64d"}}"#;
        let description = daemon.exchange(&[call.as_slice(), &[0]].concat());
        assert!(description.contains("method Status() -> (status: Tunnel)"), "{description}");
    }

    #[test]
    fn calls_that_are_none_or_too_long_end_the_connection_and_nothing_else() {
        let daemon = Daemon::start();
        for call in [&b"\0"[..], b"{}\0", b"[1]\0", b"\xff\xfe\0", &[b' '; MAX_CALL + 1]] {
            let mut stream = daemon.connect();
            stream.write_all(call).unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            assert!(reply.contains("InvalidParameter"), "{reply}");
        }
        assert!(daemon.client().status().is_ok());
    }

    #[test]
    fn whoever_says_nothing_makes_room_for_whoever_asks() {
        let daemon = Daemon::start();
        let mut regular = daemon.client();
        regular.status().unwrap();
        let mut silent: Vec<_> = (0..PLACES - 1).map(|_| daemon.connect()).collect();
        regular.status().unwrap();
        silent.extend((0..100).map(|_| daemon.connect()));
        assert_eq!(daemon.client().status().unwrap()["name"], "tun0");
        // The first to say nothing is the first to go.
        silent[0].set_read_timeout(Some(PATIENCE / 2)).unwrap();
        assert_eq!(silent[0].read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn whoever_asks_and_never_reads_is_dropped() {
        let daemon = Daemon::start();
        let mut flood = daemon.connect();
        flood.set_write_timeout(Some(2 * PATIENCE)).unwrap();
        let call = b"{\"method\":\"org.tunnel64d.Status\"}\0".repeat(64);
        let refused = (0..10_000).find_map(|_| flood.write_all(&call).err()).expect("an end");
        let closed = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        assert!(closed.contains(&refused.kind()), "{refused}");
        assert!(daemon.client().status().is_ok());
    }
}
