//! Real processes: the programs of this workspace, run by re-executing one that contains them.
//!
//! A child stops when its standard input closes, as it does for a signal: so nothing is left
//! behind when its parent dies, however it dies.

use std::{ffi::OsStr, io, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::oneshot,
    time::timeout,
};

/// How long a program may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running child.
#[derive(Debug)]
pub struct Program {
    child: Child,
    /// Kept apart from the child: waiting for a child closes its standard input.
    stdin: Option<ChildStdin>,
    addr: SocketAddr,
    /// What else it says. While this is here, its pipe does not break.
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Runs `executable` with `args` and waits until it says where it listens.
    ///
    /// # Errors
    /// When it cannot be started, ends early, or says nothing in time.
    pub async fn start<A: AsRef<OsStr>>(
        executable: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(executable)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Not in the terminal's group: Ctrl-C is for the parent, which stops us in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", executable.display()))?;
        let stdin = child.stdin.take();
        let stdout = child
            .stdout
            .take()
            .context("the child has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(addr) = line.strip_prefix("listening on ") {
                    return addr
                        .parse()
                        .with_context(|| format!("`{addr}` is no address"));
                }
            }
            bail!("it ended before it listened")
        };
        let addr = timeout(START_TIMEOUT, listening)
            .await
            .context("it does not listen")??;
        Ok(Self {
            child,
            stdin,
            addr,
            lines,
        })
    }

    /// Where the admin listener of a BFF is, which it says after the other.
    ///
    /// # Errors
    /// When it says nothing of it in time.
    pub async fn admin(&mut self) -> anyhow::Result<SocketAddr> {
        let next = timeout(START_TIMEOUT, self.lines.next_line());
        let line = next.await.context("there is no admin listener")??;
        let addr = line
            .as_deref()
            .and_then(|line| line.strip_prefix("admin on "));
        let addr = addr.context("there is no admin listener")?;
        addr.parse()
            .with_context(|| format!("`{addr}` is no address"))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process id; `None` once it has been waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid().context("the process has ended")?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).context("the process has ended")
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn wait(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Asks it to stop by closing its standard input, and waits.
    ///
    /// # Errors
    /// When it has not ended within `limit`; it is killed then.
    pub async fn stop(mut self, limit: Duration) -> anyhow::Result<std::process::ExitStatus> {
        drop(self.stdin.take());
        match timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                self.child.kill().await?;
                bail!(
                    "it did not stop within {}",
                    humantime::format_duration(limit)
                )
            }
        }
    }
}

/// Resolves when standard input is closed: what a child adds to its stop signals.
pub async fn stdin_closed() {
    let (closed, is_closed) = oneshot::channel();
    // A thread of its own: the runtime's would have to be waited for at the end, and a read from
    // standard input cannot be interrupted.
    let reader = std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            let _ = closed.send(());
        });
    if reader.is_err() || is_closed.await.is_err() {
        std::future::pending::<()>().await;
    }
}
