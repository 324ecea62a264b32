//! Which turns live in this process, and who is to hear of new ones.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

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

/// How much news is kept for the index, and for other replicas.
const NEWS: usize = 10_000;

type Room = watch::Sender<Word>;

/// The turns that live here. Bounded by `max_live_turns`; rooms by the feeds that hold them.
#[derive(Debug, Default)]
pub struct Registry {
    turns: Mutex<HashMap<TurnId, Arc<Live>>>,
    rooms: Mutex<Rooms>,
    news: Mutex<Vec<Item>>,
    /// What was done here to conversations, for other replicas; `None` where none hears of it.
    changes: Option<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    of: Mutex<Vec<ConversationId>>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Rooms {
    open: HashMap<ConversationId, Weak<Room>>,
    /// When there are so many, those that nobody holds are cleared away.
    clear_at: usize,
}

impl Registry {
    /// An empty one; `is_heard` says whether other replicas hear of what is done here.
    pub fn new(is_heard: bool) -> Self {
        Self { changes: is_heard.then(Changes::default), ..Self::default() }
    }

    /// Enters a turn, and tells the feeds of its conversation. False where it lives here already: then it stays as it is.
    #[must_use]
    pub fn enter(&self, live: Arc<Live>) -> bool {
        let conversation = live.lease.conversation_id.clone();
        match self.turns.lock().entry(live.lease.turn_id.clone()) {
            Entry::Vacant(place) => place.insert(live.clone()),
            Entry::Occupied(_) => return false,
        };
        if live.number == 1 {
            self.note(Item::Title(conversation.clone()));
        }
        self.note(Item::Message(live.user_message_id.clone()));
        self.tell(&conversation, |word| word.turns += 1);
        true
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
    pub fn noted(&self) -> Vec<Item> {
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

    /// The same, where it was another replica that did something to it.
    pub fn changed_elsewhere(&self, conversation: &ConversationId) {
        self.tell_room(conversation, |word| word.changes += 1);
    }

    /// Has all feeds look.
    pub fn may_have_changed(&self) {
        let rooms: Vec<Arc<Room>> = self.rooms.lock().open.values().filter_map(Weak::upgrade).collect();
        rooms.iter().for_each(|room| room.send_modify(|word| word.changes += 1));
    }

    /// Waits until there is something that other replicas are to hear.
    pub async fn has_changes(&self) {
        match &self.changes {
            Some(changes) => changes.wake.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Takes what other replicas are to hear.
    pub fn changes(&self) -> Vec<ConversationId> {
        self.changes.as_ref().map(|changes| std::mem::take(&mut *changes.of.lock())).unwrap_or_default()
    }

    fn tell(&self, conversation: &ConversationId, change: impl FnOnce(&mut Word)) {
        if let Some(changes) = &self.changes {
            let mut of = changes.of.lock();
            // Beyond, feeds look by themselves.
            if of.len() < NEWS {
                of.push(conversation.clone());
            }
            drop(of);
            changes.wake.notify_one();
        }
        self.tell_room(conversation, change);
    }

    fn tell_room(&self, conversation: &ConversationId, change: impl FnOnce(&mut Word)) {
        let room = self.rooms.lock().open.get(conversation).and_then(Weak::upgrade);
        if let Some(room) = room {
            room.send_modify(change);
        }
    }
}
