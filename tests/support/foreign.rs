//! Servers of somebody else's, which stories stand beside the gateway.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::eventually;

/// A program. Dropped, it is killed and waited for.
pub struct Foreign {
    /// The process.
    pub child: Child,
}

impl Foreign {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self {
            child: child.unwrap_or_else(|error| panic!("{command:?}: {error}: run scripts/test, which installs it")),
        }
    }

    /// Starts what `command` gives for an address to listen on, and waits until it listens.
    pub async fn serve(command: impl FnOnce(SocketAddr) -> Command) -> (Self, SocketAddr) {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = Self::start(command(address).stdin(Stdio::null()).stdout(Stdio::null()));
        eventually("a server to listen", async || TcpStream::connect(address).ok()).await;
        (server, address)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
