//! Which turns live in this process, and who is to hear of new ones.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::live::Live;
use crate::domain::ids::{ConversationId, TurnId};
use crate::domain::owner::Owner;
use crate::store::indexing::Item;

/// What a conversation's feeds are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// Rises with every turn that is admitted.
    pub turns: u64,
    /// Rises with every change of it, and with those whose commit gave no answer.
    pub changes: u64,
    /// The conversation is gone.
    pub deleted: bool,
}

/// How much news is kept for the index.
const NEWS: usize = 10_000;

type Room = watch::Sender<Word>;

/// The turns that live here. Bounded by `max_live_turns`; rooms by the feeds that hold them.
#[derive(Debug, Default)]
pub struct Registry {
    turns: Mutex<HashMap<TurnId, Arc<Live>>>,
    rooms: Mutex<Rooms>,
    news: Mutex<Vec<Item>>,
}

#[derive(Debug, Default)]
struct Rooms {
    open: HashMap<ConversationId, Weak<Room>>,
    /// When there are so many, those that nobody holds are cleared away.
    clear_at: usize,
}

impl Registry {
    /// Enters a turn, and tells the feeds of its conversation.
    pub fn enter(&self, live: Arc<Live>) {
        let conversation = live.lease.conversation_id.clone();
        if live.number == 1 {
            self.note(Item::Title(conversation.clone()));
        }
        self.note(Item::Message(live.user_message_id.clone()));
        self.turns.lock().insert(live.lease.turn_id.clone(), live);
        self.tell(&conversation, |word| word.turns += 1);
    }

    /// Removes a turn whose end is saved, or that is another replica's now.
    pub fn leave(&self, turn: &TurnId) {
        let left = self.turns.lock().remove(turn);
        if let Some(live) = left {
            self.note(Item::Message(live.stub.id.clone()));
        }
    }

    /// Notes something that may be found by its words from now on. Where too much is noted it is forgotten: the index
    /// looks for what it does not have as well.
    pub fn note(&self, item: Item) {
        let mut news = self.news.lock();
        if news.len() < NEWS {
            news.push(item);
        }
    }

    /// Takes what has been noted.
    pub fn news(&self) -> Vec<Item> {
        std::mem::take(&mut self.news.lock())
    }

    /// The turn, whoever it belongs to.
    pub fn any(&self, turn: &TurnId) -> Option<Arc<Live>> {
        self.turns.lock().get(turn).cloned()
    }

    /// The turn, if it is the owner's.
    pub fn get(&self, owner: &Owner, turn: &TurnId) -> Option<Arc<Live>> {
        self.any(turn).filter(|live| live.lease.owner == *owner)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Live>> {
        self.turns.lock().values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.turns.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a feed of the conversation listens to; it lives as long as somebody holds it.
    pub fn room(&self, conversation: &ConversationId) -> Arc<Room> {
        let mut rooms = self.rooms.lock();
        if let Some(room) = rooms.open.get(conversation).and_then(Weak::upgrade) {
            return room;
        }
        if rooms.open.len() >= rooms.clear_at {
            rooms.open.retain(|_, room| room.strong_count() > 0);
            rooms.clear_at = 64 + 2 * rooms.open.len();
        }
        let room = Arc::new(watch::channel(Word::default()).0);
        rooms.open.insert(conversation.clone(), Arc::downgrade(&room));
        room
    }

    /// Has the feeds of a conversation look whether it is another than it was, or is gone.
    pub fn changed(&self, conversation: &ConversationId) {
        self.tell(conversation, |word| word.changes += 1);
    }

    /// Tells the feeds of a conversation that it is gone.
    pub fn deleted(&self, conversation: &ConversationId) {
        self.tell(conversation, |word| word.deleted = true);
    }

    fn tell(&self, conversation: &ConversationId, change: impl FnOnce(&mut Word)) {
        let room = self.rooms.lock().open.get(conversation).and_then(Weak::upgrade);
        if let Some(room) = room {
            room.send_modify(change);
        }
    }
}
