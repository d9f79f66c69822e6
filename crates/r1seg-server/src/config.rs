//! How a server is set up, and the limits that it holds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, Keys, Protocol, ViewerSessions};

const MIB: u64 = 1 << 20;

/// How a server is set up. The default listens on this machine alone and asks for no key.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where it listens.
    pub address: SocketAddr,
    /// Names, besides those of this machine, that clients may call it by: those of a proxy in front of
    /// it, without a port.
    pub allowed_hosts: Vec<String>,
    /// Who may use it.
    pub keys: Keys,
    /// Where uploads and results are kept, in a folder that is made for this process and removed with
    /// it; the system's folder for temporary files if absent.
    pub upload_dir: Option<PathBuf>,
    /// What plug-ins of viewers it speaks with, beside its own API.
    pub viewers: Vec<Protocol>,
    /// What it holds at most.
    pub limits: Limits,
    /// How sessions of nnInteractive's plug-ins are held, where they are served.
    pub sessions: ViewerSessions,
}

/// What a server holds at most, and how long it waits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of an upload, or of a chat request with a volume in it.
    pub max_body_bytes: u64,
    /// Bytes of any other request.
    pub max_json_bytes: u64,
    /// Files of one upload.
    pub max_files: usize,
    /// Prompts of one request.
    pub max_prompts: usize,
    /// Bytes of the voxels of one volume, after inflation.
    pub max_volume_bytes: u64,
    /// Bytes of all uploads and results on the disk.
    pub max_stored_bytes: u64,
    /// Bytes of the voxels of all volumes in memory.
    pub max_memory_bytes: u64,
    /// Bytes of what models have made of volumes, as an estimate.
    pub max_cache_bytes: u64,
    /// Requests that wait for a model.
    pub queue: usize,
    /// Requests in flight, whatever they are about.
    pub max_requests: usize,
    /// Open connections.
    pub max_connections: usize,
    /// How long a request may wait for its model and run, from when it was read.
    pub timeout: Duration,
    /// How long volumes and results are kept after they were last used.
    pub ttl: Duration,
    /// How long the head of a request may take.
    pub header_timeout: Duration,
    /// How long a client may send nothing of a body, or take nothing of a response.
    pub idle_timeout: Duration,
    /// How long a body may take as a whole.
    pub body_timeout: Duration,
    /// How long requests may go on once the server was asked to stop.
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            allowed_hosts: Vec::new(),
            keys: Keys::default(),
            upload_dir: None,
            viewers: Vec::new(),
            limits: Limits::default(),
            sessions: ViewerSessions::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 512 * MIB,
            max_json_bytes: MIB,
            max_files: 5000,
            max_prompts: 64,
            max_volume_bytes: 4096 * MIB,
            max_stored_bytes: 16 * 1024 * MIB,
            max_memory_bytes: 8 * 1024 * MIB,
            max_cache_bytes: 4096 * MIB,
            queue: 32,
            max_requests: 256,
            max_connections: 2048,
            timeout: Duration::from_secs(120),
            ttl: Duration::from_secs(600),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Whether the server may start like this.
    ///
    /// # Errors
    /// [`Error::OpenWithoutKey`] for an address that other machines reach, where no key is asked for.
    pub fn check(&self) -> Result<(), Error> {
        if !self.address.ip().is_loopback() && !self.keys.are_required() {
            return Err(Error::OpenWithoutKey { address: self.address });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_reach_needs_a_key() {
        let at = |address: &str, keys: Keys| {
            let address = address.parse().unwrap();
            Config { address, keys, ..Config::default() }.check()
        };
        let keys = || Keys::of_lines("0123456789abcdef0123").unwrap();
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            at(loopback, Keys::default()).unwrap();
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.168.0.7:1"] {
            assert_eq!(at(open, Keys::default()).unwrap_err().code(), "R-SRV-18", "{open}");
            at(open, keys()).unwrap();
        }
    }
}
