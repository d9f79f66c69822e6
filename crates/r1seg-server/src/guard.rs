//! Who may send requests: hosts, origins and keys.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;

use crate::Error;
use crate::queue::Client;
use crate::state::App;

/// The ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request calls the server by a name of its own, and comes from no page of another origin.
/// Otherwise a page that a browser shows could reach a server on the same machine, by a name that its
/// author lets point there.
///
/// # Errors
/// [`Error::Misdirected`] and [`Error::ForeignOrigin`].
pub(crate) fn check(app: &App, request: &Request) -> Result<(), Error> {
    let headers = request.headers();
    let host = only(headers, &HOST).ok_or(Error::Misdirected)?;
    let host: Authority = host.parse().map_err(|_| Error::Misdirected)?;
    let local = request.extensions().get::<Peer>().map(|peer| peer.local.ip());
    let names = Names { app, local };
    let in_target = request.uri().authority();
    if !names.know(&host) || in_target.is_some_and(|authority| !names.know(authority)) {
        return Err(Error::Misdirected);
    }
    if headers.contains_key(ORIGIN) {
        let origin = only(headers, &ORIGIN).ok_or(Error::ForeignOrigin)?;
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if !authority.is_some_and(|authority| host.as_str().eq_ignore_ascii_case(authority)) {
            return Err(Error::ForeignOrigin);
        }
    }
    // Browsers send no origin with pictures and links. A link to the page itself is welcome.
    let path = request.uri().path();
    let is_page = !is_api(path) && !app.compat.owns(path);
    let site = headers.get(FETCH_SITE).and_then(|site| site.to_str().ok());
    match site {
        Some("cross-site" | "same-site") if !is_page => Err(Error::ForeignOrigin),
        _ => Ok(()),
    }
}

fn is_api(path: &str) -> bool {
    ["/v1/", "/mcp", "/metrics"].iter().any(|start| path.starts_with(start))
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

/// What the server is called.
struct Names<'a> {
    app: &'a App,
    /// The address that this connection was made to.
    local: Option<IpAddr>,
}

impl Names<'_> {
    fn know(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let host = host.strip_suffix('.').unwrap_or(host);
        if authority.as_str().contains('@') {
            return false;
        }
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = plain.parse::<IpAddr>() {
            return address.is_loopback()
                || Some(address) == self.local
                || address == self.app.bound().ip() && !address.is_unspecified()
                || self.is_allowed(plain);
        }
        host.eq_ignore_ascii_case("localhost") || self.is_allowed(host)
    }

    fn is_allowed(&self, host: &str) -> bool {
        self.app.config.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    }
}

/// Lets a request in that names a key, and remembers whose it is.
pub(crate) async fn authorize(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    let mut given = request.headers().get_all(AUTHORIZATION).iter();
    let (first, second) = (given.next(), given.next());
    if second.is_some() {
        return Err(Error::Unauthorized);
    }
    let owner = app.config.keys.owner(first.map(|value| value.as_bytes()));
    let Some(owner) = owner else {
        app.metrics.reject("key");
        return Err(Error::Unauthorized);
    };
    let address = match app.config.keys.are_required() {
        true => None,
        false => request.extensions().get::<Peer>().map(|peer| peer.remote.ip()),
    };
    request.extensions_mut().insert(Client { owner, address });
    Ok(next.run(request).await)
}
