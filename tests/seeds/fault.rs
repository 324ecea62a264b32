//! What is done to replicas, and to what they share.

use std::time::Duration;

/// How long a replica may be silent before its turns are taken: `cluster.lease_s` of every seed.
pub const LEASE: Duration = Duration::from_secs(1);

/// What happens to one replica. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and a start on the same port.
    Kill {
        /// Until the start.
        down: u64,
    },
    /// SIGTERM, and a start once it has gone.
    Drain {
        /// Until the start.
        down: u64,
    },
    /// SIGSTOP, and SIGCONT.
    Freeze {
        /// Between the two.
        lasts: u64,
    },
    /// Its way to a server.
    Way(Server, Trouble),
}

/// What replicas share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The database.
    Postgres,
    /// Where replicas show each other what is not saved yet.
    Redis,
}

/// What happens to a way over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Every connection is closed, and none is taken.
    Cut {
        /// Until connections are taken again.
        lasts: u64,
    },
    /// Nothing passes, and nothing is closed.
    Mute {
        /// Until all of it passes.
        lasts: u64,
    },
    /// Each piece is late.
    Slow {
        /// By so much.
        by: u64,
        /// Until none is.
        lasts: u64,
    },
    /// Every connection is closed once.
    Drop,
}

/// What happens to a server that all replicas use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Common {
    /// PostgreSQL dies without a word to anybody and is started: `pg_ctl restart -m immediate`.
    RestartPostgres,
    /// Redis is killed, and started empty.
    RestartRedis {
        /// Until the start.
        down: u64,
    },
    /// Redis forgets everything.
    FlushRedis,
}

impl Trouble {
    /// How long it lasts.
    pub fn lasts(self) -> u64 {
        match self {
            Self::Cut { lasts } | Self::Mute { lasts } | Self::Slow { lasts, .. } => lasts,
            Self::Drop => 0,
        }
    }
}

impl Fault {
    /// How long it lasts; a drain takes what it takes besides.
    pub fn lasts(self) -> u64 {
        match self {
            Self::Kill { down } | Self::Drain { down } => down,
            Self::Freeze { lasts } => lasts,
            Self::Way(_, trouble) => trouble.lasts(),
        }
    }

    /// Whether it may keep a replica from saving what it shows, or end its turns.
    pub fn may_cost(self) -> bool {
        match self {
            Self::Kill { .. } | Self::Drain { .. } | Self::Freeze { .. } | Self::Way(Server::Postgres, _) => true,
            Self::Way(Server::Redis, _) => false,
        }
    }

    /// One at random.
    pub fn at_random(rng: &mut fastrand::Rng, redis: bool) -> Self {
        match rng.u32(..if redis { 18 } else { 13 }) {
            0..=3 => Self::Kill { down: rng.u64(20..1500) },
            4..=6 => Self::Freeze { lasts: rng.u64(1200..2300) },
            7 => Self::Freeze { lasts: rng.u64(50..900) },
            8 => Self::Drain { down: rng.u64(20..800) },
            9..=12 => Self::Way(Server::Postgres, Trouble::at_random(rng)),
            _ => Self::Way(Server::Redis, Trouble::at_random(rng)),
        }
    }
}

impl Trouble {
    fn at_random(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(..6) {
            0 | 1 => Self::Cut { lasts: rng.u64(50..2200) },
            2 => Self::Mute { lasts: rng.u64(50..2200) },
            3 | 4 => Self::Slow { by: rng.u64(2..60), lasts: rng.u64(300..2000) },
            _ => Self::Drop,
        }
    }
}

impl Common {
    /// One at random.
    pub fn at_random(rng: &mut fastrand::Rng, redis: bool) -> Self {
        match rng.u32(..if redis { 6 } else { 2 }) {
            0 | 1 => Self::RestartPostgres,
            2 | 3 => Self::RestartRedis { down: rng.u64(10..1200) },
            _ => Self::FlushRedis,
        }
    }

    /// Whether it may keep replicas from saving what they show.
    pub fn may_cost(self) -> bool {
        match self {
            Self::RestartPostgres => true,
            Self::RestartRedis { .. } | Self::FlushRedis => false,
        }
    }
}
