//! A future in the background of a test.

use std::future::Future;

use tokio::task::JoinHandle;

/// A future in the background. Dropped, it is aborted; its panic becomes the test's when it is joined.
pub struct Task<T>(Option<JoinHandle<T>>);

impl<T: Send + 'static> Task<T> {
    /// Starts it.
    #[expect(clippy::disallowed_methods, reason = "tests have no lifecycle; the guard aborts what is left")]
    pub fn start(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(tokio::spawn(future)))
    }

    /// Waits for its end.
    pub async fn join(mut self) -> T {
        let handle = self.0.take().unwrap();
        match super::within("a background task", handle).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => panic!("a background task: {error}"),
            },
        }
    }

    /// Lets it run on by itself until the test's runtime ends.
    pub fn detach(mut self) {
        self.0 = None;
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}
