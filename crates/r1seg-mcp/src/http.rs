//! The protocol over HTTP, for a server that has routes of its own.

use std::sync::Arc;

use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::{Desk, Server};

/// A tower service, to be nested at a path such as `/mcp`. It takes POST, keeps no sessions, and
/// answers by server-sent events.
pub type HttpService<D> = StreamableHttpService<Server<D>, LocalSessionManager>;

/// What the service checks by itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Names that `Host` may have, with or without a port; absent where the server around it has checked
    /// that already.
    pub hosts: Option<Vec<String>>,
    /// The longest request, in bytes: arguments are short, and volumes come another way.
    pub max_body_bytes: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        let loopback = ["localhost", "127.0.0.1", "::1"];
        Self { hosts: Some(loopback.map(str::to_string).to_vec()), max_body_bytes: 1 << 20 }
    }
}

impl HttpOptions {
    /// Sets the names that `Host` may have.
    #[must_use]
    pub fn with_hosts(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.hosts = Some(hosts.into_iter().collect());
        self
    }

    /// Leaves the check of `Host` to the server around it.
    #[must_use]
    pub fn with_hosts_checked(mut self) -> Self {
        self.hosts = None;
        self
    }
}

/// The tools of a desk, as a service to nest in a router: `router.nest_service("/mcp", service)`. A request
/// with an `Origin` is refused, since no page of another site has business here. Who calls is for layers
/// around it to check; what they put into the extensions of a request, [`Call::extension`](crate::Call)
/// gives the desk.
pub fn http_service<D: Desk>(server: Server<D>, options: HttpOptions) -> HttpService<D> {
    // Without sessions nothing is kept for a client, and the end of its connection is the end of its call.
    let mut config = StreamableHttpServerConfig::default()
        .enforce_origin_validation()
        .with_legacy_session_mode(false);
    config.max_request_body_bytes = options.max_body_bytes;
    let config = match options.hosts {
        Some(hosts) => config.with_allowed_hosts(hosts),
        None => config.disable_allowed_hosts(),
    };
    StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(LocalSessionManager::default()),
        config,
    )
}
