//! Where metrics are served: an address of this host, kept as soon as it can be had.
//!
//! All of it runs beside the main loop, which is asked for a snapshot when somebody wants the page.
//! At most [`CLIENTS`] are answered at a time; when there are more, those that say nothing go.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::config::MetricsListen;
use crate::control::bound::{Bound, File};
use crate::control::places::{Places, Standing};
use crate::control::requests::{Asker, Request, STATUS_LIMIT};
use crate::metrics::Counters;
use crate::metrics::exposition::Scrape;
use crate::report;
use crate::service::http::{self, Form};
use crate::service::messages;
use crate::service::trouble::Trouble;

/// Clients that are answered at a time.
const CLIENTS: usize = 32;

/// What question and answer may take together: long enough to say that there is no page.
const PATIENCE: Duration = STATUS_LIMIT.saturating_add(Duration::from_secs(5));

/// The pause before an address that is taken is tried again, and before clients are accepted again
/// when the system is out of what they need.
const AGAIN: Duration = Duration::from_secs(2);

/// The least time between two clients: with a crowd at the door each has its place long enough to
/// ask.
const PACE: Duration = Duration::from_millis(2);

/// Serves metrics for as long as it lives.
#[derive(Debug)]
pub struct Exporter(JoinHandle<Infallible>);

impl Exporter {
    /// Begins to serve, or to try to: the address is had afterwards, if it can be had now.
    pub async fn start(
        listen: MetricsListen,
        counters: Arc<Counters>,
        ask: mpsc::Sender<Request>,
    ) -> Self {
        let bound = Listener::bind(&listen).await;
        let page = Page { counters, asker: Arc::new(Asker::new(ask, STATUS_LIMIT)) };
        Self(tokio::spawn(serve(listen, bound, page, PATIENCE)))
    }

    /// Gives the address up: afterwards another one can have it.
    pub async fn stop(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(
    listen: MetricsListen,
    mut bound: io::Result<Listener>,
    page: Page,
    patience: Duration,
) -> Infallible {
    let mut places = Places::new(CLIENTS);
    let mut trouble = Trouble::default();
    let listener = loop {
        match bound {
            Ok(listener) => break listener,
            Err(error) => complain(&mut trouble, &listen, &error).await,
        }
        bound = Listener::bind(&listen).await;
    };
    report!(messages::METRICS_SERVED, address = listen);
    loop {
        match listener.accept().await {
            Ok(stream) => {
                trouble.is_over();
                let page = page.clone();
                places.admit(|standing| attend(stream, page, patience, standing)).await;
                sleep(PACE).await;
            }
            Err(error) => complain(&mut trouble, &listen, &error).await,
        }
    }
}

/// Answers one client.
async fn attend(stream: impl Connection, page: Page, patience: Duration, standing: Arc<Standing>) {
    http::answer(stream, patience, |form| page.text(form, &standing)).await;
}

async fn complain(trouble: &mut Trouble, listen: &MetricsListen, error: &io::Error) {
    if trouble.failed(&error.to_string()) {
        report!(messages::METRICS_UNSERVED, address = listen, error = error);
    }
    sleep(AGAIN).await;
}

/// What is served.
#[derive(Debug, Clone)]
struct Page {
    counters: Arc<Counters>,
    asker: Arc<Asker>,
}

impl Page {
    async fn text(&self, form: Form, standing: &Standing) -> Option<String> {
        standing.asked();
        let now = self.asker.status().await;
        standing.answered();
        let scrape = Scrape { counters: self.counters.clone(), now: now? };
        match form {
            Form::OpenMetrics => scrape.open_metrics().ok(),
            Form::Text => scrape.text().ok(),
        }
    }
}

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: File },
}

impl Listener {
    async fn bind(listen: &MetricsListen) -> io::Result<Self> {
        Ok(match listen {
            MetricsListen::Address(address) => Self::Tcp(TcpListener::bind(address).await?),
            MetricsListen::Unix(path) => {
                let (listener, _file) = Bound::new(path, None)?.into_parts();
                let listener = UnixListener::from_std(listener)?;
                Self::Unix { listener, _file }
            }
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix { listener, .. } => Box::new(listener.accept().await?.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net;

    use super::*;
    use crate::control::requests::requests;
    use crate::metrics::snapshot::Snapshot;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::time::timeout;

    const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

    /// An exporter whose main loop answers at once.
    async fn exporter(listen: &MetricsListen) -> Exporter {
        let (ask, mut asked) = requests();
        tokio::spawn(async move { while asked.recv().await.map(answer).is_some() {} });
        Exporter::start(listen.clone(), Arc::default(), ask).await
    }

    fn answer(request: Request) {
        let Request::Status(reply) = request else { panic!("{request:?}") };
        let _ = reply.send(Snapshot { name: "tun0".to_owned(), ..Snapshot::default() });
    }

    /// One that has all the time in the world, and its end in the main loop.
    async fn patient(listen: &MetricsListen) -> (Exporter, mpsc::Receiver<Request>) {
        let (ask, asked) = requests();
        let page =
            Page { counters: Arc::default(), asker: Arc::new(Asker::new(ask, Duration::MAX)) };
        let bound = Listener::bind(listen).await;
        (Exporter(tokio::spawn(serve(listen.clone(), bound, page, Duration::MAX))), asked)
    }

    async fn free_address() -> MetricsListen {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        MetricsListen::Address(listener.local_addr().unwrap())
    }

    async fn connected(listen: &MetricsListen) -> Box<dyn Connection> {
        loop {
            let connected: io::Result<Box<dyn Connection>> = match listen {
                MetricsListen::Address(address) => {
                    TcpStream::connect(address).await.map(|stream| Box::new(stream) as _)
                }
                MetricsListen::Unix(path) => {
                    UnixStream::connect(path).await.map(|stream| Box::new(stream) as _)
                }
            };
            match connected {
                Ok(connection) => return connection,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn page(listen: &MetricsListen) -> String {
        let mut connection = connected(listen).await;
        connection.write_all(REQUEST).await.unwrap();
        rest(&mut connection).await
    }

    async fn rest(connection: &mut Box<dyn Connection>) -> String {
        let mut page = String::new();
        let read = connection.read_to_string(&mut page);
        timeout(Duration::from_secs(20), read).await.expect("a page").unwrap();
        page
    }

    /// Returns when it has lost its place.
    async fn await_end(connection: &mut Box<dyn Connection>) {
        let mut room = [0];
        let read = timeout(Duration::from_secs(20), connection.read(&mut room));
        assert!(!matches!(read.await.expect("an end"), Ok(1..)));
    }

    #[tokio::test]
    async fn a_page_is_served_over_tcp() {
        let listen = free_address().await;
        let _exporter = exporter(&listen).await;
        let page = page(&listen).await;
        assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
        assert!(page.contains("\ntunnel64d_session_up{tunnel=\"tun0\"} 0\n"), "{page}");
    }

    #[tokio::test]
    async fn a_socket_takes_the_place_of_what_a_dead_process_left_and_goes_with_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics");
        drop(net::UnixListener::bind(&path).unwrap());
        let listen = MetricsListen::Unix(path.clone());
        let exporter = exporter(&listen).await;
        assert!(page(&listen).await.contains("tunnel64d_build_info"));
        drop(exporter);
        timeout(Duration::from_secs(5), async {
            while path.exists() {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the socket is removed");
    }

    #[tokio::test]
    async fn what_is_no_dead_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics");
        fs::write(&path, "precious").unwrap();
        let listen = MetricsListen::Unix(path.clone());
        assert_eq!(Listener::bind(&listen).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        let living = Listener::bind(&listen).await.unwrap();
        assert_eq!(Listener::bind(&listen).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(living);
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_had_once_it_is_free() {
        let listen = free_address().await;
        let taken = Listener::bind(&listen).await.unwrap();
        let _exporter = exporter(&listen).await;
        drop(taken);
        assert!(page(&listen).await.starts_with("HTTP/1.1 200 OK"));
    }

    #[tokio::test]
    async fn those_who_say_nothing_make_room_for_those_who_ask() {
        let directory = tempfile::tempdir().unwrap();
        for listen in [free_address().await, MetricsListen::Unix(directory.path().join("m"))] {
            let (_exporter, mut asked) = patient(&listen).await;
            tokio::spawn(async move { while asked.recv().await.map(answer).is_some() {} });
            let mut silent = Vec::new();
            for number in 0..CLIENTS + 8 {
                let mut connection = connected(&listen).await;
                let words = &REQUEST[..number % 8];
                // The first ones may be gone by now.
                let _ = connection.write_all(words).await;
                silent.push(connection);
            }
            assert!(page(&listen).await.starts_with("HTTP/1.1 200 OK"));
            await_end(&mut silent[0]).await;
            // The last to come has kept its place.
            let last = silent.last_mut().unwrap();
            last.write_all(&REQUEST[(CLIENTS + 7) % 8..]).await.unwrap();
            assert!(rest(last).await.starts_with("HTTP/1.1 200 OK"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_while_the_main_loop_hangs_is_told_so() {
        let (ask, _hangs) = requests();
        let page =
            Page { counters: Arc::default(), asker: Arc::new(Asker::new(ask, STATUS_LIMIT)) };
        let (client, stream) = duplex(1 << 16);
        let mut client: Box<dyn Connection> = Box::new(client);
        let mut places = Places::new(1);
        places.admit(|standing| attend(stream, page, PATIENCE, standing)).await;
        // Its time has begun by then.
        sleep(Duration::from_secs(1)).await;
        client.write_all(REQUEST).await.unwrap();
        assert!(rest(&mut client).await.starts_with("HTTP/1.1 503"));
    }

    #[tokio::test]
    async fn whoever_is_owed_a_page_keeps_its_place() {
        let listen = free_address().await;
        let (_exporter, mut asked) = patient(&listen).await;
        let mut first = connected(&listen).await;
        first.write_all(REQUEST).await.unwrap();
        let request = asked.recv().await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..2 * CLIENTS {
            silent.push(connected(&listen).await);
        }
        await_end(&mut silent[0]).await;
        answer(request);
        assert!(rest(&mut first).await.starts_with("HTTP/1.1 200 OK"));
    }
}
