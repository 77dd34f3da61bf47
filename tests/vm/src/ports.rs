//! Ports on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

/// A TCP port that nobody listens on now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Two UDP ports that nobody uses now.
pub fn free_udp_pair() -> anyhow::Result<(u16, u16)> {
    let one = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let two = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((one.local_addr()?.port(), two.local_addr()?.port()))
}

/// Waits until a guest's service behind a forwarded port accepts and keeps a connection. QEMU
/// itself accepts at once and hangs up when nobody listens in the guest, so that is told apart.
pub fn await_listener(port: u16, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if keeps_connection(port) {
            return Ok(());
        }
        // Nothing on this side of the forward tells when the guest begins to listen.
        thread::sleep(Duration::from_millis(100));
    }
    bail!("nobody listened behind port {port} within {limit:?}")
}

fn keeps_connection(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(stream) = TcpStream::connect(address) else {
        return false;
    };
    let patience = Some(Duration::from_millis(500));
    if stream.set_read_timeout(patience).is_err() {
        return false;
    }
    // A TLS server waits for the client's first word; an end or a reset is QEMU hanging up.
    match stream.peek(&mut [0]) {
        Ok(0) => false,
        Ok(_) => true,
        Err(e) => matches!(
            e.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
    }
}
