//! What gateways are made to do. Each work is a file; it drives one gateway and gives figures.
//!
//! To add one: 1. a file here with a `run`; 2. a variant of [`Work`] and its places below; 3. its rows in `rows.rs`;
//! 4. what it means in `benches/README.md`.

mod bare;
mod cluster;
mod first;
mod flood;
mod lag;
mod long;
mod memory;
mod mix;
mod paced;
mod readers;
mod saved;
mod short;
mod stage;

use clap::ValueEnum;

pub use stage::{Peers, Stage};

use crate::drive::Void;
use crate::figures::Figures;
use crate::options::Database;

/// What a gateway is made to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// 500 streams, a delta every 20 ms each
    Paced,
    /// 20 streams as fast as they come
    Flood,
    /// The first delta on a kept-alive connection
    First,
    /// 2,000 streams, a delta a second each
    Memory,
    /// 9,000 streams, a delta a second each
    Crowd,
    /// One flood among 500 paced streams
    Mix,
    /// 20 floods among 2,000 slow streams
    MixSlow,
    /// Short turns, one after the other
    Short,
    /// 1,000 readers on one turn
    Readers,
    /// From shown to saved
    Lag,
    /// One turn of 100,000 deltas
    Long,
    /// Replicas that share a Redis
    Cluster,
}

impl Work {
    /// Its name, as it is chosen by.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether nginx does it too, right before.
    pub fn is_beside_nginx(self) -> bool {
        match self {
            Self::Paced | Self::Flood | Self::First | Self::Memory | Self::Crowd | Self::Mix | Self::MixSlow => true,
            Self::Short | Self::Readers | Self::Lag | Self::Long | Self::Cluster => false,
        }
    }

    /// Whether it means something there; `None` = another gateway than Tidegate.
    pub fn is_for(self, database: Option<Database>) -> bool {
        let alone = database != Some(Database::Cluster);
        match self {
            Self::Cluster => !alone,
            // Nothing is shown before it is saved in `strict`; the file is what can be read from outside.
            Self::Lag => database == Some(Database::Relaxed),
            Self::Readers => alone && database.is_some(),
            Self::Paced | Self::Flood | Self::First | Self::Memory | Self::Crowd => alone,
            Self::Mix | Self::MixSlow | Self::Short | Self::Long => alone,
        }
    }

    /// Does it.
    pub fn run(self, stage: &mut Stage) -> Result<Figures, Void> {
        match self {
            Self::Paced => paced::run(stage),
            Self::Flood => flood::run(stage),
            Self::First => first::run(stage),
            Self::Memory => memory::run(stage, memory::SOME),
            Self::Crowd => memory::run(stage, memory::MANY),
            Self::Mix => mix::run(stage, mix::PACED),
            Self::MixSlow => mix::run(stage, mix::SLOW),
            Self::Short => short::run(stage),
            Self::Readers => readers::run(stage),
            Self::Lag => lag::run(stage),
            Self::Long => long::run(stage),
            Self::Cluster => cluster::run(stage),
        }
    }
}
