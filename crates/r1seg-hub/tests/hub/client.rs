//! Clients of the hub of these tests.

use std::time::Duration;

use r1seg_hub::{Aliases, Hub, HubConfig, ModelId, Timeouts};

use crate::server::Server;

const ALIASES: Aliases = Aliases(&[("R1Seg-3D-SAM", "lihao0011/R1Seg-3D-SAM")]);

/// A folder that is deleted at the end, and a hub that keeps its cache there.
pub(crate) fn hub(server: &Server) -> (tempfile::TempDir, Hub) {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub_in(server, folder.path());
    (folder, hub)
}

pub(crate) fn config(server: &Server, cache: &std::path::Path) -> HubConfig {
    let mut config = HubConfig::new(cache);
    config.endpoint = format!("http://127.0.0.1:{}", server.port());
    config.timeouts = Timeouts {
        connect: Duration::from_secs(5),
        response: Duration::from_secs(10),
        stall: Duration::from_millis(600),
        backoff: Duration::from_millis(10),
        longest_backoff: Duration::from_millis(1500),
    };
    config.aliases = ALIASES;
    config
}

pub(crate) fn hub_in(server: &Server, cache: &std::path::Path) -> Hub {
    Hub::new(config(server, cache))
}

pub(crate) fn id(text: &str) -> ModelId {
    ALIASES.parse(text).unwrap()
}
