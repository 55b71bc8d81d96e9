//! A TCP connection that can stall: what comes from the far side is held back while the test wants
//! it, and goes on, whole and in order, when it no longer does.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes connections on to one address. Dropping it cuts them all.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    held: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port of loopback and passes on to `target`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("no port for a proxy")?;
        let address = listener.local_addr()?;
        let (held, hold) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, hold));
        Ok(Self {
            address,
            held,
            _tasks: tasks,
        })
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing comes back from the target.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// What was held back comes now.
    pub fn release(&self) {
        self.held.send_replace(false);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, hold: watch::Receiver<bool>) {
    let mut pumps = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let hold = hold.clone();
        pumps.spawn(async move {
            // A target that is away looks like a connection that breaks at once.
            let Ok(far) = TcpStream::connect(target).await else {
                return;
            };
            for stream in [&near, &far] {
                if stream.set_nodelay(true).is_err() {
                    return;
                }
            }
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            // Either end closing cuts both: half-open is another fault than this one.
            tokio::select! {
                () = pump(near_read, far_write, None) => {}
                () = pump(far_read, near_write, Some(hold)) => {}
            }
        });
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut hold: Option<watch::Receiver<bool>>,
) {
    let mut buffer = vec![0_u8; 16 << 10];
    loop {
        let Ok(count) = from.read(&mut buffer).await else {
            return;
        };
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        if let Some(hold) = &mut hold
            && hold.wait_for(|held| !held).await.is_err()
        {
            return;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
