//! Ports on loopback.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

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
