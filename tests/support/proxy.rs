//! A TCP proxy that the test can cut, pause and delay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Task, within};

/// What the test wants now.
#[derive(Clone, Default)]
struct Orders {
    /// Every connection that was made in an earlier life is closed.
    life: u64,
    /// New connections are closed at once.
    refuse: bool,
    /// Nothing passes, in either direction.
    paused: bool,
    /// What the server says that is held back.
    held: Held,
    /// Of what is to be held, only that of the connection on which the needles were said.
    alone: bool,
    /// Each piece waits so long.
    delay: Duration,
    /// Once a client has said these, one after the other on one connection, what the server says is held back.
    needles: Vec<Vec<u8>>,
}

/// Whose replies are held back.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Nobodys,
    Everybodys,
    /// That connection's, by its number.
    Ones(usize),
}

/// A TCP proxy that the test commands. Dropped, it is gone with all its connections.
pub struct Proxy {
    address: SocketAddr,
    orders: Arc<watch::Sender<Orders>>,
    _task: Task<()>,
}

impl Proxy {
    /// Passes everything on to `server`.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Arc::new(watch::Sender::new(Orders::default()));
        let task = Task::start(accept(listener, server, orders.clone()));
        Self { address, orders, _task: task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection and takes no new one, until [`Proxy::heal`].
    pub fn cut(&self) {
        self.orders.send_modify(|orders| {
            orders.life += 1;
            orders.refuse = true;
        });
    }

    /// Closes every connection; new ones are welcome.
    pub fn drop_connections(&self) {
        self.orders.send_modify(|orders| orders.life += 1);
    }

    /// Passes everything on again.
    pub fn heal(&self) {
        self.orders.send_modify(|orders| *orders = Orders { life: orders.life, ..Orders::default() });
    }

    /// Nothing passes, but nothing is closed either: a network that has gone silent.
    pub fn pause(&self) {
        self.orders.send_modify(|orders| orders.paused = true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.orders.send_modify(|orders| orders.paused = false);
    }

    /// Each piece waits so long, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.orders.send_modify(|orders| orders.delay = delay);
    }

    /// Once a client has said the `needles` (such as an id and `COMMIT`), one after the other on one connection, they
    /// are passed on, and all that the server says from then on is held back until [`Proxy::release`].
    /// [`Proxy::held`] waits for that moment.
    pub fn hold_replies_after(&self, needles: &[&str]) {
        self.hold_after(needles, false);
    }

    /// The same, but what the server says on other connections passes.
    pub fn hold_one_after(&self, needles: &[&str]) {
        self.hold_after(needles, true);
    }

    fn hold_after(&self, needles: &[&str], alone: bool) {
        let needles: Vec<_> = needles.iter().map(|needle| needle.as_bytes().to_vec()).collect();
        self.orders.send_modify(|orders| (orders.needles, orders.alone) = (needles, alone));
    }

    /// Waits until a client has said the needles.
    pub async fn held(&self) {
        let mut orders = self.orders.subscribe();
        within("the needles to pass", orders.wait_for(|orders| orders.held != Held::Nobodys)).await.unwrap();
    }

    /// Lets held replies through.
    pub fn release(&self) {
        self.orders.send_modify(|orders| (orders.held, orders.needles) = (Held::Nobodys, Vec::new()));
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, orders: Arc<watch::Sender<Orders>>) {
    let mut connections = Vec::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if !orders.borrow().refuse {
            let number = connections.len();
            connections.push(Task::start(pass(client, server, orders.clone(), number)));
        }
    }
}

async fn pass(client: TcpStream, server: SocketAddr, orders: Arc<watch::Sender<Orders>>, number: usize) {
    let life = orders.borrow().life;
    let mut watched = orders.subscribe();
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let up = carry(client_read, server_write, orders.clone(), true, number);
    let down = carry(server_read, client_write, orders.clone(), false, number);
    tokio::select! {
        _ = watched.wait_for(|orders| orders.life != life) => {}
        ((), ()) = futures::future::join(up, down) => {}
    }
}

/// Passes on one direction of the connection of that number.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    orders: Arc<watch::Sender<Orders>>,
    up: bool,
    number: usize,
) {
    let mut watched = orders.subscribe();
    let mut buffer = vec![0; 1 << 16];
    // What has been said since the last needle that was found, and how many were.
    let (mut said, mut found) = (Vec::new(), 0);
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let piece = &buffer[..count];
        let delay = orders.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let needles = if up { orders.borrow().needles.clone() } else { Vec::new() };
        if needles.is_empty() {
            said.clear();
            found = 0;
        } else {
            said.extend_from_slice(piece);
            while let Some(needle) = needles.get(found)
                && let Some(at) = said.windows(needle.len()).position(|window| window == needle)
            {
                said.drain(..at + needle.len());
                found += 1;
            }
            if found == needles.len() {
                orders.send_modify(|orders| {
                    orders.held = if orders.alone { Held::Ones(number) } else { Held::Everybodys };
                    orders.needles = Vec::new();
                });
            }
        }
        let is_held = |orders: &Orders| match orders.held {
            Held::Nobodys => false,
            Held::Everybodys => true,
            Held::Ones(held) => held == number,
        };
        if watched.wait_for(|orders| !orders.paused && (up || !is_held(orders))).await.is_err() {
            return;
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}
