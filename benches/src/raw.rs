//! What QUIC does without us: a stream of libp2p between two swarms.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, swarm::SwarmEvent};
use libp2p_stream::{Behaviour, Control};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/raw/1");

/// How long each of some transfers takes: a request of one byte, then that many bytes.
pub(crate) async fn transfers(len: usize, times: usize) -> anyhow::Result<Vec<Duration>> {
    let (mut near, mut far) = (swarm()?, swarm()?);
    far.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;
    let address: Multiaddr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = far.select_next_some().await {
            break address;
        }
    };
    let (mut here, mut there): (Control, Control) =
        (near.behaviour().new_control(), far.behaviour().new_control());
    let mut incoming = there.accept(PROTOCOL)?;
    let peer = *far.local_peer_id();
    near.dial(address)?;
    let mut tasks = vec![tokio::spawn(run(near)), tokio::spawn(run(far))];
    tasks.push(tokio::spawn(async move {
        let bytes = vec![7; len];
        while let Some((_, mut stream)) = incoming.next().await {
            let served = async {
                stream.read_exact(&mut [0]).await?;
                stream.write_all(&bytes).await?;
                stream.close().await
            };
            if served.await.is_err() {
                break;
            }
        }
    }));
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let mut opened = here.open_stream(peer, PROTOCOL).await;
        for _ in 0..100 {
            if opened.is_ok() {
                break;
            }
            // The connection is still being made.
            tokio::time::sleep(Duration::from_millis(10)).await;
            opened = here.open_stream(peer, PROTOCOL).await;
        }
        let mut stream = opened.context("a stream")?;
        let begun = Instant::now();
        stream.write_all(&[1]).await?;
        stream.flush().await?;
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes).await?;
        taken.push(begun.elapsed());
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(taken)
}

fn swarm() -> anyhow::Result<Swarm<Behaviour>> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_behaviour(|_| Behaviour::new())?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    Ok(swarm)
}

async fn run(mut swarm: Swarm<Behaviour>) {
    loop {
        swarm.next().await;
    }
}
