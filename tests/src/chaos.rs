//! A TCP proxy that breaks on command.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// It works.
    Up,
    /// Connections are closed as soon as they open, and those that were open are cut.
    Cut,
    /// Connections open, and no byte comes through any of them.
    Frozen,
}

/// A proxy in front of one server.
#[derive(Debug)]
pub struct ChaosProxy {
    addr: SocketAddr,
    network: watch::Sender<Network>,
    accepted: Arc<AtomicUsize>,
    /// Connections that are open now.
    open: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl ChaosProxy {
    /// Listens on a port of the loopback address and forwards to `target`.
    ///
    /// # Errors
    /// When no port is left.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await?, target)
    }

    /// Takes what comes to `listener` and forwards it to `target`.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn on(listener: TcpListener, target: SocketAddr) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let (network, state) = watch::channel(Network::Up);
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let open = watch::channel(0).0;
        let opened = open.clone();
        let task = tokio::spawn(async move {
            // Ends with the task: every connection lives in this set.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accept = listener.accept() => {
                        let Ok((client, _)) = accept else { continue };
                        if *state.borrow() != Network::Cut {
                            counter.fetch_add(1, Ordering::Relaxed);
                            opened.send_modify(|open| *open += 1);
                            let (state, opened) = (state.clone(), opened.clone());
                            connections.spawn(async move {
                                let _ = forward(client, target, state).await;
                                opened.send_modify(|open| *open -= 1);
                            });
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self {
            addr,
            network,
            accepted,
            open,
            task,
        })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections were let through so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Waits until no connection is open any more, as after a cut.
    pub async fn wait_closed(&self) {
        // The sender is ours.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Changes what the network does, for open connections too.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    mut client: TcpStream,
    target: SocketAddr,
    mut state: watch::Receiver<Network>,
) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let is = |wanted: Network| move |network: &Network| *network == wanted;
    loop {
        let network = *state.borrow();
        match network {
            Network::Up => break,
            Network::Cut => return Ok(()),
            Network::Frozen => drop(state.wait_for(|network| *network != Network::Frozen).await),
        }
    }
    let mut server = TcpStream::connect(target).await?;
    let _ = server.set_nodelay(true);
    let mut frozen = state.clone();
    let mut cut = state;
    tokio::select! {
        result = copy_bidirectional(&mut client, &mut server) => { result?; }
        _ = cut.wait_for(is(Network::Cut)) => return Ok(()),
        _ = frozen.wait_for(is(Network::Frozen)) => {}
    }
    if *frozen.borrow() == Network::Frozen {
        // A connection that was frozen never recovers: only a cut, or its client, ends it.
        let _ = cut.wait_for(is(Network::Cut)).await;
    }
    Ok(())
}
