//! The echo server as a process of its own, as the systems it calibrates.

use std::time::Instant;

use anyhow::Result;

use crate::grpc::Connection;
use crate::process::Process;

use super::{ASK, Kind, Place, START, Server, System, free_addresses, pause};

/// Starts it, and waits until it accepts connections.
pub async fn start(place: &Place) -> Result<System> {
    let address = free_addresses(1)?[0];
    let arguments = ["echo".into(), "--listen".into(), address.to_string().into()];
    let launcher = &place.launcher;
    let log = place.folder.join("echo.log");
    let process = Process::start(launcher, "echo", launcher, &arguments, log)?;
    let mut servers = vec![Server {
        process,
        client: address,
        admin: address,
        arguments: Vec::new(),
    }];
    let deadline = Instant::now() + START;
    while Connection::open(address, ASK).await.is_err() {
        pause(
            deadline,
            &mut servers,
            "the echo server accepts no connection",
        )
        .await?;
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(System {
        kind: Kind::Echo,
        version,
        flags: Vec::new(),
        servers,
    })
}
