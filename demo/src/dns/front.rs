//! The sockets of a DNS server: UDP and TCP on one port, both read by hickory's server.
//!
//! Owns binding and the end. Who answers is a `RequestHandler`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::server::RequestHandler;
use tokio::net::{TcpListener, UdpSocket};

use crate::process::EndSignals;

/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Answers of one TCP connection that may wait to be written.
const WAITING_ANSWERS: usize = 16;
/// How long answers that are under way may take once the program is asked to end.
const DRAIN: Duration = Duration::from_secs(2);
/// How often a port is looked for that is free for both, when the system may choose.
const TRIES: u32 = 50;

/// Both sockets, bound to the same address.
pub struct Front {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
}

impl Front {
    /// Binds both. With port 0 the system chooses one that is free for both.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(wanted: SocketAddr) -> io::Result<Front> {
        let mut tries = 1;
        loop {
            match Front::bind_once(wanted).await {
                // What TCP was given, another program may have for UDP.
                Err(error)
                    if wanted.port() == 0
                        && error.kind() == io::ErrorKind::AddrInUse
                        && tries < TRIES =>
                {
                    tries += 1;
                }
                bound => return bound,
            }
        }
    }

    async fn bind_once(wanted: SocketAddr) -> io::Result<Front> {
        let tcp = TcpListener::bind(wanted).await?;
        let address = tcp.local_addr()?;
        let udp = UdpSocket::bind(address).await?;
        Ok(Front { udp, tcp, address })
    }

    /// The address of both.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers by `handler` until a signal asks to end.
    ///
    /// # Errors
    /// When a socket fails.
    pub async fn serve(
        self,
        handler: impl RequestHandler,
        mut end_signals: EndSignals,
    ) -> Result<(), String> {
        let mut server = Server::new(handler);
        server.register_socket(self.udp);
        server.register_listener(self.tcp, IDLE, WAITING_ANSWERS);
        tokio::select! {
            ended = server.block_until_done() => return ended.map_err(|error| error.to_string()),
            () = end_signals.asked() => {}
        }
        // What takes longer is cut: a client asks again.
        let _ = tokio::time::timeout(DRAIN, server.shutdown_gracefully()).await;
        Ok(())
    }
}
