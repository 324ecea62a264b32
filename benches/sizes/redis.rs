//! How much goes through a Redis, by its own count.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::Failed;

/// A Redis.
pub struct Redis(String);

impl Redis {
    /// The one at `redis://HOST:PORT`.
    pub fn at(url: &str) -> Result<Self, Failed> {
        let address = url.strip_prefix("redis://").ok_or("TIDEGATE_TEST_REDIS_URL is no redis:// URL")?;
        Ok(Self(address.split('/').next().unwrap_or(address).to_owned()))
    }

    /// The bytes that have come in and gone out since it started.
    pub async fn traffic(&self) -> Result<(u64, u64), Failed> {
        let mut stream = BufReader::new(TcpStream::connect(&self.0).await?);
        stream.write_all(b"INFO stats\r\n").await?;
        let (mut came, mut went) = (None, None);
        while came.is_none() || went.is_none() {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Err("Redis says nothing of its traffic".into());
            }
            let figure = |name: &str| line.trim_end().strip_prefix(name).and_then(|figure| figure.parse().ok());
            came = came.or(figure("total_net_input_bytes:"));
            went = went.or(figure("total_net_output_bytes:"));
        }
        Ok((came.unwrap_or_default(), went.unwrap_or_default()))
    }
}
