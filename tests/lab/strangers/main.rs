//! Strangers for the lab: connections to a gateway's port that are not its peer's, as fast as they
//! go. Each waits until it is closed.
//!
//! ```text
//! strangers GATEWAY:PORT PUBLIC-KEY garbage|silence|keys|all COUNT [SOURCE...]
//! ```
//!
//! `keys` are keys that the gateway, whose own is PUBLIC-KEY, does not know; `all` is a third of
//! each. Connections come from the sources in turn. At the end one line says what became of them.

#![allow(missing_docs)] // A program: nobody imports from it.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tunnel64d::transport::keys::{PrivateKey, PublicKey};
use tunnel64d::transport::{Protection, Stream, tls};

/// Connections at a time; a process may have 1024 descriptors.
const AT_A_TIME: usize = 800;

/// A connection that is not closed within this counts as left open. Some are, though the gateway has
/// none of them: its kernel forgets without a word those that it has no room for.
const PATIENCE: Duration = Duration::from_secs(10);

const USAGE: &str = "GATEWAY:PORT PUBLIC-KEY garbage|silence|keys|all COUNT [SOURCE...]";

fn main() -> ExitCode {
    match flood() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("strangers: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Garbage,
    Silence,
    OtherKey,
}

fn flood() -> Result<String, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or(USAGE);
    let (target, theirs) = (next()?.parse()?, next()?.parse::<PublicKey>()?);
    let kinds: &[Kind] = match next()?.as_str() {
        "garbage" => &[Kind::Garbage],
        "silence" => &[Kind::Silence],
        "keys" => &[Kind::OtherKey],
        "all" => &[Kind::Garbage, Kind::Silence, Kind::OtherKey],
        _ => return Err(USAGE.into()),
    };
    let count = next()?.parse::<usize>()?;
    let sources = arguments.map(|source| source.parse()).collect::<Result<Vec<IpAddr>, _>>()?;
    let other_key = tls::Endpoint::new(&PrivateKey::generate()?, vec![theirs])?;
    let other_key = Protection::Tls(other_key);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    let (mut closed, mut open, mut failed) = (0, 0, 0);
    runtime.block_on(async {
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        let mut strangers = JoinSet::new();
        for n in 0..count {
            let place = places.clone().acquire_owned().await?;
            let kind = kinds[n % kinds.len()];
            let source = sources.get(n % sources.len().max(1)).copied();
            let other_key = other_key.clone();
            strangers.spawn(async move {
                let end = timeout(PATIENCE, visit(target, source, kind, &other_key)).await;
                drop(place);
                end
            });
        }
        while let Some(end) = strangers.join_next().await {
            match end? {
                Ok(Ok(())) => closed += 1,
                Ok(Err(_)) => failed += 1,
                Err(_) => open += 1,
            }
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    let took = start.elapsed().as_secs_f64();
    Ok(format!("strangers={count} closed={closed} open={open} failed={failed} seconds={took:.1}"))
}

/// Connects and stays until it is closed; an error is a connection that did not come about.
async fn visit(
    target: SocketAddr,
    source: Option<IpAddr>,
    kind: Kind,
    other_key: &Protection,
) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let mut tcp: TcpStream = socket.connect(target).await?;
    match kind {
        Kind::Garbage => drop(tcp.write_all(&[0x55; 512]).await),
        Kind::Silence => {}
        Kind::OtherKey => {
            if let Ok(mut stream) = Stream::dialled(tcp, target, other_key) {
                let _ = stream.handshake().await;
                while stream.readable().await.is_ok() && stream.read().is_ok() {}
            }
            return Ok(());
        }
    }
    let mut rest = [0; 512];
    while matches!(tcp.read(&mut rest).await, Ok(length) if length > 0) {}
    Ok(())
}
