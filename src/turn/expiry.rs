//! Conversations that have been silent for too long: they are written down as ended, a few at a time. Whoever asks for one
//! before that is told so all the same.

use super::Turns;
use crate::domain::ids::ConversationId;
use crate::store::Result;

/// How many conversations are looked at in one query…
const STRIDE: u32 = 1000;
/// …and how often, at most, before others have their turn.
const STRIDES: u32 = 10;

/// A look through all conversations, which goes on where it was and begins again at the end.
#[derive(Debug, Default)]
pub struct Look {
    after: Option<ConversationId>,
}

impl Look {
    /// Looks through some more. Other replicas may do the same at the same time.
    ///
    /// # Errors
    /// The store's; what was found is found again in the next round.
    pub async fn go_on(&mut self, turns: &Turns) -> Result<()> {
        if turns.settings.expire_after_s == 0 {
            return Ok(());
        }
        for _ in 0..STRIDES {
            let silence = turns.silence();
            let silent = turns.store.silent(self.after.as_ref(), STRIDE, silence).await?;
            if !silent.ids.is_empty() {
                turns.store.expire(&silent.ids, silence).await?;
                silent.ids.iter().for_each(|id| turns.registry.changed(id));
            }
            self.after = silent.next;
            if self.after.is_none() {
                break;
            }
        }
        Ok(())
    }
}
