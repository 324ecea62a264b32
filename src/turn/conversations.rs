//! What is asked of conversations as a whole, and done with them: whoever follows one hears of it.

use serde_json::Value;

use super::Turns;
use crate::domain::audit::Deed;
use crate::domain::conversation::{Conversation, Life, Silence};
use crate::domain::ids::ConversationId;
use crate::domain::owner::Owner;
use crate::store::Result;
use crate::store::lives::Lived;

impl Turns {
    /// How long a conversation may be silent, seen from now.
    pub fn silence(&self) -> Silence {
        Silence::new(self.now(), self.settings.expire_after_s)
    }

    /// The owner's conversation as it stands now; `None` when the owner has none of that id.
    ///
    /// # Errors
    /// The store's.
    pub async fn conversation(&self, owner: &Owner, id: &ConversationId) -> Result<Option<Conversation>> {
        self.store.conversation(owner, id, self.silence()).await
    }

    /// Does something with the owner's conversation. Its turns go on to their ends, those that wait too.
    ///
    /// # Errors
    /// The store's.
    pub async fn live(&self, owner: &Owner, id: &ConversationId, life: Life, deed: Deed) -> Result<Lived> {
        let (turns, owner, conversation) = (self.clone(), owner.clone(), id.clone());
        let work = async move { turns.store.live(&owner, &conversation, &life, turns.silence(), &deed).await };
        self.changing(id, work).await
    }

    /// Gives the owner's conversation another title, if one is given, and has `change` change its configuration and its
    /// metadata. `None` when there is none; what `change` refuses leaves all of it as it was.
    ///
    /// # Errors
    /// The store's.
    pub async fn patch<R: Send + 'static>(
        &self,
        owner: &Owner,
        id: &ConversationId,
        title: Option<String>,
        deed: Deed,
        change: impl Fn(&mut Value, &mut Value) -> std::result::Result<(), R> + Send + Sync + 'static,
    ) -> Result<Option<std::result::Result<(), R>>> {
        let (turns, owner, conversation) = (self.clone(), owner.clone(), id.clone());
        let work =
            async move { turns.store.patch_conversation(&owner, &conversation, title.as_deref(), &deed, change).await };
        self.changing(id, work).await
    }

    /// Does `work`, which may change a conversation, and has its feeds look: between two turns, and on other replicas
    /// when they do. It is seen through even if the client leaves.
    async fn changing<T: Send + 'static>(
        &self,
        id: &ConversationId,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (turns, id) = (self.clone(), id.clone());
        let whole = async move {
            let done = work.await;
            // Whatever came of it: an answer that was lost may have been a yes.
            turns.registry.changed(&id);
            done
        };
        self.lifecycle.whole(whole).await
    }
}
