//! A balancer as small as they come: a connection goes to the next replica that takes it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};

use crate::support::{Client, Task};

/// A balancer. Dropped, it is gone with all its connections.
pub struct Balancer {
    address: SocketAddr,
    behind: Arc<Mutex<HashMap<u16, usize>>>,
    _task: Task<()>,
}

impl Balancer {
    /// Before these replicas.
    pub async fn before(replicas: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behind = Arc::new(Mutex::new(HashMap::new()));
        let task = Task::start(accept(listener, replicas, behind.clone()));
        Self { address, behind, _task: task }
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Which replica a connection from that port went to.
    pub fn behind(&self, port: u16) -> Option<usize> {
        self.behind.lock().unwrap().get(&port).copied()
    }
}

async fn accept(listener: TcpListener, replicas: Vec<SocketAddr>, behind: Arc<Mutex<HashMap<u16, usize>>>) {
    let mut connections: Vec<Task<()>> = Vec::new();
    for next in 0.. {
        let (client, from) = listener.accept().await.unwrap();
        let (replicas, behind) = (replicas.clone(), behind.clone());
        connections.push(Task::start(async move {
            for at in 0..replicas.len() {
                let at = (next + at) % replicas.len();
                if let Ok(replica) = TcpStream::connect(replicas[at]).await {
                    behind.lock().unwrap().insert(from.port(), at);
                    pass(client, replica).await;
                    return;
                }
            }
        }));
    }
}

/// Passes everything on until either side is gone.
async fn pass(mut client: TcpStream, mut replica: TcpStream) {
    let _ = (client.set_nodelay(true), replica.set_nodelay(true));
    let _ = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
}
