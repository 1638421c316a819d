//! Small datagrams, as fast as one core sends them, and a socket for them to arrive at.
//!
//! iperf3 asks for the time and the kernel once per datagram; this hands the kernel 64 at a time, so
//! that what is measured is the path and not its source. They are single datagrams all the same, not
//! a UDP_SEGMENT train that the path could carry whole. Nobody reads at the far end: its UDP layer
//! counts what arrives, and a reader would take processor time from the tunnel.

#![allow(missing_docs)] // A program: nobody imports from it.

use std::error::Error;
use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn6, sendmmsg};
use socket2::SockRef;

const BATCH: usize = 64;

#[derive(Parser)]
enum Command {
    /// Sends datagrams and prints how many the kernel took.
    Send { to: SocketAddr, length: usize, seconds: f64 },
    /// Opens a port until it is killed.
    Sink { port: u16 },
}

fn main() -> Result<(), Box<dyn Error>> {
    match Command::parse() {
        Command::Send { to, length, seconds } => {
            println!("{}", send(to, length, Duration::try_from_secs_f64(seconds)?)?);
            Ok(())
        }
        Command::Sink { port } => sink(port),
    }
}

fn send(to: SocketAddr, length: usize, time: Duration) -> Result<usize, Box<dyn Error>> {
    let socket = UdpSocket::bind("[::]:0")?;
    socket.connect(to)?;
    let payload = vec![0; length];
    let datagrams = [[IoSlice::new(&payload)]; BATCH];
    let connected = [None::<SockaddrIn6>; BATCH];
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < time {
        let flags = MsgFlags::empty();
        match sendmmsg(socket.as_raw_fd(), &mut headers, &datagrams, connected, [], flags) {
            Ok(results) => sent += results.count(),
            // The path is full, or closed for a moment: that is the path's business.
            Err(
                Errno::ENOBUFS | Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH,
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
}

fn sink(port: u16) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind(("::", port))?;
    SockRef::from(&socket).set_recv_buffer_size(0)?;
    println!("ready");
    loop {
        std::thread::park();
    }
}
