//! The two signals that ask a program to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{CliError, SIGNAL_BASE};

/// Waits for SIGINT and SIGTERM; from its making on, neither ends the program by itself.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Which of the two came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signals {
    /// Starts to listen.
    pub fn listen() -> Result<Self, CliError> {
        let listen =
            |kind| signal(kind).map_err(|error| CliError::Other(format!("Signals cannot be listened for ({error}).")));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The next one.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
        }
    }
}

impl Asked {
    /// The exit code of a program that it ended.
    #[must_use]
    pub fn code(self) -> u8 {
        SIGNAL_BASE
            + match self {
                Self::Interrupt => 2,
                Self::Terminate => 15,
            }
    }
}
