use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, header};

use crate::cancel::TICK;
use crate::error::Detail;
use crate::{Cancel, Digest, Error, HubConfig, Timeouts, url};

const MAX_REDIRECTS: usize = 8;
const CHUNK: usize = 256 << 10;
/// Chunks that may wait for the disk.
const CHUNKS_AHEAD: usize = 8;
/// A body that brings fewer bytes than this in `Timeouts::stall` has stalled.
const LEAST_BYTES: u64 = 4 << 10;
#[cfg(feature = "tls")]
const MAX_CERTIFICATES: u64 = 16 << 20;

/// The only place of this crate that opens connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    authorization: Option<String>,
    timeouts: Timeouts,
}

/// A request that is a `GET` of everything, unless it says otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) url: String,
    /// The first byte to send.
    pub(crate) from: u64,
    /// Ask for headers alone, and only those of the endpoint itself.
    pub(crate) head: bool,
}

/// Status and headers of the last answer, and what the hub itself said before it redirected.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: HeaderMap,
    /// The hash that the hub states for a file that it redirects to.
    pub(crate) linked_digest: Option<Digest>,
    /// The length that the hub states for the whole file.
    pub(crate) linked_size: Option<u64>,
}

impl Head {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Of this body, which is a part after a range request.
    pub(crate) fn length(&self) -> Option<u64> {
        self.text("content-length")?.trim().parse().ok()
    }

    /// First byte of a partial answer, and the length of the whole.
    pub(crate) fn range(&self) -> Option<(u64, Option<u64>)> {
        let (range, total) = self.text("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, _) = range.split_once('-')?;
        Some((first.trim().parse().ok()?, total.trim().parse().ok()))
    }

    /// The hash that the hub states for the file. Other servers' tags mean something else, and so
    /// do those of some mirrors: only good where nothing else is known.
    pub(crate) fn stated_digest(&self) -> Option<Digest> {
        self.linked_digest.clone().or_else(|| Digest::from_etag(self.text("etag")?))
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.text("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }
}

enum Message {
    Head(Box<Head>),
    Chunk(Vec<u8>),
    End,
    Failed(Failure),
}

enum Failure {
    Connect { host: String, reason: String },
    Tls { host: String, reason: String },
    NoAnswer { host: String },
    BrokenOff,
    BadReply(&'static str),
}

/// An answer that is on its way. Dropping it ends the transfer.
pub(crate) struct Exchange {
    messages: Receiver<Message>,
    host: String,
    timeouts: Timeouts,
    cancel: Cancel,
}

impl Client {
    pub(crate) fn new(config: &HubConfig) -> Result<Self, Error> {
        let wait = config.timeouts;
        let mut builder = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, where the token can be kept from other hosts.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("r1seg/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(wait.connect))
            .timeout_resolve(Some(wait.connect))
            .timeout_recv_response(Some(wait.response))
            // `Exchange` finds a stall first; this ends the thread of one that nobody waits for.
            .timeout_per_read(Some(wait.stall.saturating_mul(2)));
        if !config.proxy_from_env {
            builder = builder.proxy(None);
        }
        #[cfg(feature = "tls")]
        if let Some(path) = &config.certificates {
            builder = builder.tls_config(tls_config(path)?);
        }
        Ok(Self {
            agent: builder.build().into(),
            authorization: config.token.as_ref().map(|token| token.header()),
            timeouts: wait,
        })
    }

    pub(crate) fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// Starts `request`. It runs in a thread of its own, so that a caller who cancels need not
    /// wait for the network.
    pub(crate) fn start(&self, request: Request, cancel: &Cancel) -> Result<Exchange, Error> {
        cancel.check()?;
        let (sender, messages) = sync_channel(CHUNKS_AHEAD);
        let host = url::host(&request.url).to_owned();
        let client = self.clone();
        let spawned = std::thread::Builder::new()
            .name("r1seg-hub".to_owned())
            .spawn(move || client.exchange(request, &sender));
        spawned.map_err(|e| {
            Error::from(Detail::Connect { host: host.clone(), reason: e.to_string() })
        })?;
        Ok(Exchange { messages, host, timeouts: self.timeouts, cancel: cancel.clone() })
    }

    fn exchange(&self, request: Request, sender: &SyncSender<Message>) {
        let last = match self.follow(request, sender) {
            Ok(()) => Message::End,
            Err(failure) => Message::Failed(failure),
        };
        // Whoever cancelled does not listen any more.
        let _ = sender.send(last);
    }

    fn follow(&self, request: Request, sender: &SyncSender<Message>) -> Result<(), Failure> {
        let mut url = request.url;
        let mut authorization = self.authorization.as_deref();
        let (mut linked_digest, mut linked_size) = (None, None);
        for _ in 0..=MAX_REDIRECTS {
            let mut call = if request.head { self.agent.head(&url) } else { self.agent.get(&url) };
            // A compressed body has another length and another hash.
            call = call.header(header::ACCEPT_ENCODING, "identity");
            if let Some(authorization) = authorization {
                call = call.header(header::AUTHORIZATION, authorization);
            }
            if request.from > 0 {
                call = call.header(header::RANGE, format!("bytes={}-", request.from));
            }
            let (parts, body) = call.call().map_err(|e| failure(&url, &e))?.into_parts();
            let mut head = Head {
                status: parts.status.as_u16(),
                headers: parts.headers,
                linked_digest: None,
                linked_size: None,
            };
            linked_digest =
                linked_digest.or_else(|| Digest::from_etag(head.text("x-linked-etag")?));
            linked_size = linked_size.or_else(|| head.text("x-linked-size")?.parse().ok());
            let is_redirect = matches!(head.status, 301 | 302 | 303 | 307 | 308);
            if let (true, Some(location)) = (is_redirect, head.text("location")) {
                let next = url::join(&url, location)
                    .ok_or(Failure::BadReply("it redirects to something that is not an address"))?;
                if url.starts_with("https:") && !next.starts_with("https:") {
                    return Err(Failure::BadReply("it redirects from https to http"));
                }
                let is_same = url::origin(&next).eq_ignore_ascii_case(url::origin(&url));
                if !is_same {
                    authorization = None;
                }
                if is_same || !request.head {
                    url = next;
                    continue;
                }
            }
            (head.linked_digest, head.linked_size) = (linked_digest, linked_size);
            let is_compressed = head.text("content-encoding").is_some_and(|e| e != "identity");
            if is_compressed {
                return Err(Failure::BadReply("its body is compressed"));
            }
            if sender.send(Message::Head(Box::new(head))).is_err() || request.head {
                return Ok(());
            }
            return send_body(body.into_reader(), sender);
        }
        Err(Failure::BadReply("it redirects more than 8 times"))
    }
}

fn send_body(mut body: impl Read, sender: &SyncSender<Message>) -> Result<(), Failure> {
    loop {
        let mut chunk = vec![0; CHUNK];
        match body.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => chunk.truncate(read),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Failure::BrokenOff),
        }
        if sender.send(Message::Chunk(chunk)).is_err() {
            return Ok(());
        }
    }
}

fn failure(url: &str, error: &ureq::Error) -> Failure {
    use ureq::Error as E;
    let host = url::host(url).to_owned();
    let reason = match error {
        E::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => "no connection in time",
        E::Timeout(_) => return Failure::NoAnswer { host },
        E::HostNotFound => "the host is not known",
        E::ConnectionFailed => "connection failed",
        E::InvalidProxyUrl => "the proxy's address is not valid",
        E::ConnectProxyFailed(_) => "the proxy refuses",
        E::TlsRequired => "this program was built without https (feature `tls`)",
        E::BadUri(_) | E::Http(_) => return Failure::BadReply("its address is not valid"),
        E::LargeResponseHeader(..) => return Failure::BadReply("its headers are too long"),
        E::Protocol(_) => return Failure::BadReply("it is not HTTP"),
        // What rustls finds wrong comes as invalid data.
        E::Io(e) if e.kind() == io::ErrorKind::InvalidData => {
            return Failure::Tls { host, reason: plain(e) };
        }
        E::Io(e) => return Failure::Connect { host, reason: plain(e) },
        #[cfg(feature = "tls")]
        E::Rustls(e) => return Failure::Tls { host, reason: plain(e) },
        E::Tls(reason) => return Failure::Tls { host, reason: (*reason).to_owned() },
        _ => "the connection failed",
    };
    Failure::Connect { host, reason: reason.to_owned() }
}

/// The text of an error, without what a server could have made of it.
fn plain(error: &impl std::fmt::Display) -> String {
    let is_plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
    error.to_string().chars().filter(is_plain).take(160).collect()
}

#[cfg(feature = "tls")]
fn tls_config(path: &std::path::Path) -> Result<ureq::tls::TlsConfig, Error> {
    use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
    let broken = |reason| Error::from(Detail::Certificates { path: path.to_path_buf(), reason });
    let pem = r1seg_files::read(path, MAX_CERTIFICATES).map_err(|error| match error {
        r1seg_files::Error::TooLong { .. } => broken("the file is larger than 16 MiB"),
        r1seg_files::Error::Io(_) => broken("the file cannot be read"),
        _ => broken("it is not a regular file"),
    })?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(broken("the file holds no PEM certificate"));
    }
    let roots = RootCerts::Specific(std::sync::Arc::new(certificates));
    Ok(TlsConfig::builder().root_certs(roots).build())
}

impl Exchange {
    fn receive(&self, until: Instant) -> Result<Option<Message>, Error> {
        loop {
            self.cancel.check()?;
            match self.messages.recv_timeout(TICK) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(Message::End)),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn failed(&self, failure: Failure, file: &str, got: u64) -> Error {
        match failure {
            Failure::Connect { host, reason } => Error::from(Detail::Connect { host, reason }),
            Failure::Tls { host, reason } => Error::from(Detail::Tls { host, reason }),
            Failure::NoAnswer { host } => {
                Error::from(Detail::NoAnswer { host, after: self.timeouts.response })
            }
            Failure::BrokenOff => Error::from(Detail::Truncated { file: file.to_owned(), got }),
            Failure::BadReply(reason) => Error::from(Detail::BadReply { reason }),
        }
    }

    /// The head of the answer, whatever its status.
    pub(crate) fn head(&self) -> Result<Head, Error> {
        let after = self.timeouts.connect + self.timeouts.response;
        match self.receive(Instant::now() + after)? {
            Some(Message::Head(head)) => Ok(*head),
            Some(Message::Failed(failure)) => Err(self.failed(failure, "", 0)),
            Some(_) => Err(Detail::BadReply { reason: "it ends before it begins" }.into()),
            None => Err(Detail::NoAnswer { host: self.host.clone(), after }.into()),
        }
    }

    /// Hands the body to `take`, piece by piece. `file` is for messages.
    pub(crate) fn body(
        &self,
        file: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let stall = self.timeouts.stall;
        let (mut total, mut since, mut bytes) = (0_u64, Instant::now(), 0_u64);
        loop {
            let received = self.receive(since + stall)?;
            if let Some(Message::Chunk(chunk)) = &received {
                bytes = bytes.saturating_add(chunk.len() as u64);
            }
            if since.elapsed() >= stall {
                if bytes < LEAST_BYTES && !matches!(received, Some(Message::End)) {
                    return Err(
                        Detail::Stalled { file: file.to_owned(), bytes, after: stall }.into()
                    );
                }
                (since, bytes) = (Instant::now(), 0);
            }
            match received {
                Some(Message::Chunk(chunk)) => {
                    total = total.saturating_add(chunk.len() as u64);
                    take(&chunk)?;
                }
                Some(Message::End) => return Ok(()),
                Some(Message::Failed(failure)) => return Err(self.failed(failure, file, total)),
                Some(Message::Head(_)) | None => {}
            }
        }
    }
}
