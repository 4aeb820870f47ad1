//! The TCP connection below AMQP: that nobody is at its other end any more is noticed, whether or not there are AMQP heartbeats
//! (`heartbeat_timeout_threshold = 0`, Kilo's default).
//!
//! py-amqp asks the kernel for the same (amqp/transport.py: `SO_KEEPALIVE`, `TCP_KEEPIDLE` 60, `TCP_KEEPINTVL` 10, `TCP_USER_TIMEOUT`), but
//! gives up a connection after one second without an answer to what it sent; a guest that is being migrated is silent for longer.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// Of silence, until the peer is asked whether it is there.
const IDLE: Duration = Duration::from_secs(10);
/// Between questions.
const INTERVAL: Duration = Duration::from_secs(5);
/// For so long the peer may answer neither questions nor data. Shorter than the pause between heartbeats (half a minute with RabbitMQ's
/// 60 s), each of which is new data to be answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// Lets the kernel end the connection (`ETIMEDOUT`) when its peer is silent. See tcp(7).
///
/// # Errors
/// It is no TCP socket.
pub(super) fn expect_answers(socket: &impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, IDLE)?;
    sockopt::set_tcp_keepintvl(socket, INTERVAL)?;
    let patience = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
    // Decides for both: with it, the number of questions (TCP_KEEPCNT) does not matter.
    Ok(sockopt::set_tcp_user_timeout(socket, patience)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_to_notice() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        expect_answers(&socket).unwrap();
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!((sockopt::tcp_keepidle(&socket).unwrap(), sockopt::tcp_keepintvl(&socket).unwrap()), (IDLE, INTERVAL));
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 20_000);
        expect_answers(&std::os::unix::net::UnixStream::pair().unwrap().0).unwrap_err();
    }
}
