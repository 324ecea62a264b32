//! A value that is replaced while it is in use.

use std::sync::Arc;

use parking_lot::RwLock;

/// The latest of a value. A clone is the same place; whoever has got a value keeps that one.
#[derive(Debug)]
pub struct Latest<T>(Arc<RwLock<Arc<T>>>);

impl<T> Latest<T> {
    /// A place with its first value.
    pub fn new(value: impl Into<Arc<T>>) -> Self {
        Self(Arc::new(RwLock::new(value.into())))
    }

    /// The value there is now.
    pub fn get(&self) -> Arc<T> {
        self.0.read().clone()
    }

    /// From now on there is this one.
    pub fn replace(&self, value: impl Into<Arc<T>>) {
        let old = std::mem::replace(&mut *self.0.write(), value.into());
        // The last of its kind may take long to go: not under the lock.
        drop(old);
    }
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_sees_the_latest_and_whoever_has_one_keeps_it() {
        let one = Latest::new(1);
        let other = one.clone();
        let kept = other.get();
        one.replace(2);
        assert_eq!((*kept, *other.get()), (1, 2));
    }
}
