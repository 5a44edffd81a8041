//! Starts a process on a thread that lives as long as this one does, without the files that this one inherited.

use std::io;
use std::process::Stdio;
use std::sync::{OnceLock, mpsc};

use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Spawns with all three streams piped. A child that asked to die with its parent dies with the *thread* that spawned
/// it, and a runtime's threads come and go; hence a thread of its own.
pub(crate) async fn spawn(mut command: std::process::Command) -> io::Result<Child> {
    type Job = Box<dyn FnOnce() + Send>;
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for job in jobs {
                // A runtime that is shutting down may panic in a spawn; the next one must still find this thread.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            }
        });
        sender
    });
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let runtime = Handle::current();
    let (answer, result) = oneshot::channel();
    let job = Box::new(move || {
        // What this process inherited without the mark would reach the command, a shell's open files among it.
        close_fds::set_fds_cloexec_threadsafe(3, &[]);
        let _entered = runtime.enter();
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn();
        // Nobody waits any more: the child is dropped, and killed.
        let _ = answer.send(child);
    });
    spawner.send(job).map_err(|_| io::Error::other("the spawning thread is gone"))?;
    result.await.map_err(|_| io::Error::other("the runtime is shutting down"))?
}
