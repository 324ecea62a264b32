//! What the thread of a connection to SQLite is to the kernel (Linux sched(7)).
//!
//! It computes for milliseconds at a time: where there are fewer cores than work, it is the one to wait.

use sqlx::sqlite::SqliteConnection;

/// What a thread leaves to the others of its process.
#[derive(Clone, Copy, Debug)]
pub(super) enum Share {
    /// It has a whole share, and when it wakes nobody who runs is stopped for it: to the kernel it is one that computes.
    Batch,
    /// It has less of one the nicer it is: a tenth at 10, while the others want theirs.
    Nice(i32),
}

/// Gives the connection's thread this share. Where the kernel will not, and on other systems than Linux, it is as the others are.
#[cfg(target_os = "linux")]
pub(super) async fn set_share(connection: &mut SqliteConnection, share: Share) -> sqlx::Result<()> {
    run(connection, move || {
        if let Err(cause) = linux::set(share) {
            tracing::debug!(cause, ?share, "a thread of SQLite's has the share of the others");
        }
    })
    .await
}

#[cfg(not(target_os = "linux"))]
pub(super) async fn set_share(_: &mut SqliteConnection, _: Share) -> sqlx::Result<()> {
    Ok(())
}

/// Runs `work` on the connection's own thread: a statement there asks it whether to go on.
#[cfg(target_os = "linux")]
async fn run(connection: &mut SqliteConnection, work: impl FnOnce() + Send + 'static) -> sqlx::Result<()> {
    use sqlx::Executor;

    let mut work = Some(work);
    let go_on = move || {
        if let Some(work) = work.take() {
            work();
        }
        true
    };
    connection.lock_handle().await?.set_progress_handler(1, go_on);
    let done = connection.execute("select 1").await;
    connection.lock_handle().await?.remove_progress_handler();
    done.map(drop)
}

/// A thread's own share. rustix has no `sched_setscheduler`, hence the crate.
#[cfg(target_os = "linux")]
mod linux {
    use rustix::process::{getpriority_process, setpriority_process};
    use thread_priority::unix::{set_thread_priority_and_policy, thread_schedule_policy};
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy, thread_native_id,
    };

    use super::Share;

    /// What `thread_priority`, which sets the niceness along with the policy, makes niceness 0 of.
    const PLAIN: u8 = 48;

    pub(super) fn set(share: Share) -> Result<(), String> {
        match share {
            Share::Batch => batch(),
            Share::Nice(nice) => setpriority_process(None, nice).map_err(|error| error.to_string()),
        }
    }

    fn batch() -> Result<(), String> {
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
        let plain = ThreadPriorityValue::try_from(PLAIN)?;
        let nice = getpriority_process(None).map_err(|error| error.to_string())?;
        let _may_fail_after_the_policy =
            set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(plain), policy);
        if getpriority_process(None) != Ok(nice) {
            setpriority_process(None, nice).map_err(|error| error.to_string())?;
        }
        match thread_schedule_policy() {
            Ok(now) if now == policy => Ok(()),
            now => Err(format!("its policy is {now:?}")),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::mpsc::sync_channel;

    use sqlx::ConnectOptions;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;

    #[tokio::test]
    async fn a_connections_thread_yields_to_others() {
        let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        set_share(&mut connection, Share::Nice(3)).await.unwrap();
        set_share(&mut connection, Share::Batch).await.unwrap();
        let (tell, told) = sync_channel(1);
        let look = move || drop(tell.try_send(std::fs::read_to_string("/proc/thread-self/stat").unwrap()));
        run(&mut connection, look).await.unwrap();
        let told = told.recv().unwrap();
        // Its name, which comes before, may hold blanks; the next is field 3 (proc_pid_stat(5)).
        let fields: Vec<&str> = told.rsplit_once(") ").unwrap().1.split(' ').collect();
        let (niceness, policy) = (fields[19 - 3], fields[41 - 3]);
        assert_eq!((niceness, policy), ("3", "3"), "{told}");
    }
}
