//! What the machine itself costs: a websocket echo, a commit, a flush, a password.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{SinkExt, StreamExt};
use redb::{Database, Durability, TableDefinition};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::{Effort, line, median, micros};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");

pub(crate) struct Floors {
    pub(crate) echo: Duration,
    pub(crate) commit: Duration,
    pub(crate) scrypt: Duration,
}

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<Floors> {
    println!("floors");
    let echo = echo(effort.times(10_000)).await?;
    line("websocket echo, 100 B, two processes, p50", micros(echo), None);
    let folder = tempfile::tempdir()?;
    let commit = commit(folder.path(), effort.times(2_000))?;
    line("redb commit, 12 rows, two-phase, quick repair, p50", micros(commit), None);
    let append = append(folder.path(), effort.times(2_000))?;
    line("append of 4 KiB and fdatasync, p50", micros(append), None);
    let begun = Instant::now();
    let params = scrypt::Params::new(17, 8, 1).context("parameters")?;
    scrypt::scrypt(b"password", &[7; 32], &params, &mut [0; 32]).context("scrypt")?;
    let scrypt = begun.elapsed();
    line("scrypt 2^17", format!("{:.0} ms", scrypt.as_secs_f64() * 1e3), None);
    Ok(Floors { echo, commit, scrypt })
}

/// Prints its port, then answers every message with itself.
pub(crate) async fn serve_echo() -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn echo(times: usize) -> anyhow::Result<Duration> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--echo-server")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut port = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut port)?;
    let stream = TcpStream::connect(("127.0.0.1", port.trim().parse::<u16>()?)).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = tokio_tungstenite::client_async("ws://localhost/", stream).await?;
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        socket.send(Message::binary(vec![7; 100])).await?;
        socket.next().await.context("an echo")??;
        taken.push(begun.elapsed());
    }
    socket.close(None).await?;
    child.kill()?;
    child.wait()?;
    Ok(median(&mut taken))
}

fn commit(folder: &std::path::Path, times: usize) -> anyhow::Result<Duration> {
    let database = Database::create(folder.join("floor.redb"))?;
    let mut taken = Vec::with_capacity(times);
    for number in 0..times as u64 {
        let begun = Instant::now();
        let mut write = database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_two_phase_commit(true);
        write.set_quick_repair(true);
        {
            let mut table = write.open_table(TABLE)?;
            for row in 0..12_u64 {
                // Scattered keys, as hashes are.
                let key = (number * 12 + row).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                table.insert(&key[..], &[7_u8; 100][..])?;
            }
        }
        write.commit()?;
        taken.push(begun.elapsed());
    }
    Ok(median(&mut taken))
}

fn append(folder: &std::path::Path, times: usize) -> anyhow::Result<Duration> {
    let mut file = std::fs::File::create(folder.join("floor.log"))?;
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        file.write_all(&[7; 4_096])?;
        file.sync_data()?;
        taken.push(begun.elapsed());
    }
    Ok(median(&mut taken))
}
