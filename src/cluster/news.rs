//! News for all replicas at once: which conversations are not what they were. They say nothing more; what is so is in the record.

use redis::streams::{StreamId, StreamRangeReply};
use redis::{Pipeline, Value};

use super::{Cluster, Result};
use crate::domain::ids::ConversationId;

/// The key of the stream they come in.
pub(super) const KEY: &str = "tidegate:news";
/// About so many are kept: a replica that is further behind has its feeds look anyway.
const ENTRIES: usize = 10_000;
/// They go so long after the last of them, in seconds.
const KEPT_S: u64 = 600;

/// What a replica hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something was done to this conversation through another replica.
    Changed(ConversationId),
    /// Some may have been missed.
    Missed,
}

/// Adds these to what is asked of Redis.
pub(super) fn tell(requests: &mut Pipeline, from: &str, changed: &[ConversationId]) {
    for conversation in changed {
        requests.cmd("XADD").arg(KEY).arg("MAXLEN").arg("~").arg(ENTRIES).arg("*");
        requests.arg("from").arg(from).arg("conversation").arg(conversation.as_str()).ignore();
    }
    if !changed.is_empty() {
        requests.cmd("EXPIRE").arg(KEY).arg(KEPT_S).ignore();
    }
}

/// What an entry says to `me`; nothing, if it is my own.
pub(super) fn read(entry: &StreamId, me: &str) -> Option<News> {
    let text = |name: &str| {
        let Value::BulkString(bytes) = entry.map.get(name)? else { return None };
        String::from_utf8(bytes.clone()).ok()
    };
    let is_own = text("from").is_some_and(|from| from == me);
    text("conversation").filter(|_| !is_own).map(|conversation| News::Changed(conversation.into()))
}

impl Cluster {
    /// The id of the newest there is.
    pub(super) async fn newest(&self) -> Result<String> {
        let mut newest = redis::pipe();
        newest.cmd("XREVRANGE").arg(KEY).arg("+").arg("-").arg("COUNT").arg(1);
        let (found,): (StreamRangeReply,) = self.ask(&newest).await?;
        Ok(found.ids.into_iter().next().map_or_else(|| "0-0".to_owned(), |entry| entry.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What other versions of the program read and write: a change here takes two releases.
    #[test]
    fn an_entry_is_this_and_says_nothing_to_whoever_wrote_it() {
        let mut requests = redis::pipe();
        tell(&mut requests, "me", &["conv_1".to_owned().into()]);
        let text = String::from_utf8(requests.get_packed_pipeline()).unwrap();
        let words: Vec<&str> =
            text.split("\r\n").filter(|word| !word.starts_with(['$', '*']) || *word == "*").collect();
        assert_eq!(
            words.join(" "),
            "XADD tidegate:news MAXLEN ~ 10000 * from me conversation conv_1 EXPIRE tidegate:news 600 "
        );
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let map = [("from", "me"), ("conversation", "conv_1"), ("later", "x")];
        let map = map.iter().map(|(name, value)| ((*name).to_owned(), bulk(value))).collect();
        let entry = StreamId { id: "7-0".to_owned(), map, ..StreamId::default() };
        assert_eq!(read(&entry, "me"), None);
        assert_eq!(read(&entry, "you"), Some(News::Changed("conv_1".to_owned().into())));
    }
}
