//! `r1seg serve`: models over HTTP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use r1seg::{CancelToken, LoadOptions, load};
use r1seg_server::{Config, Keys, Limits, Protocol, Served, Server};

use crate::args::{ModelArgs, ServeArgs};
use crate::codes::Code;
use crate::exit::{CliError, Exit, say};
use crate::interrupt;
use crate::model;
use crate::progress::Progress;

/// How long a job of a viewer may take, and how long its volumes are kept.
const FOR_VIEWERS: Duration = Duration::from_secs(3600);
/// How long a server that works takes to say that it is ready, at the most.
const FOR_HEALTH: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &ServeArgs, stop: &CancelToken) -> Result<Exit> {
    let config = config(args)?;
    if args.healthcheck {
        return healthcheck(config.address);
    }
    config.check()?;
    let mut served = Vec::new();
    for model in args.model.each() {
        served.push(one(args, &model, stop)?);
    }
    let server = Server::new(config, served)?;
    server.run(stop, |address| announce(args, address))?;
    // Only a signal ends it.
    Ok(Exit::Stopped(interrupt::exit_code()))
}

/// Whether the server at an address is ready.
fn healthcheck(mut address: SocketAddr) -> Result<Exit> {
    // A server that listens everywhere is here, too.
    match address {
        SocketAddr::V4(any) if any.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        SocketAddr::V6(any) if any.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into());
        }
        _ => (),
    }
    let status = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, FOR_HEALTH)?;
        stream.set_read_timeout(Some(FOR_HEALTH))?;
        let port = address.port();
        write!(
            stream,
            "GET /v1/health/ready HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
        )?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(String::from_utf8_lossy(&start).into_owned())
    };
    let why = match status() {
        Ok(status) if status.ends_with(" 200") => return Ok(Exit::Answered),
        Ok(status) => format!("it answers {status}"),
        Err(error) => error.to_string(),
    };
    let what = format!("the server at {address} is not ready: {why}");
    Err(CliError::new(Code::NotReady, what)
        .fix("wait until its models are loaded, or see its log")
        .into())
}

fn config(args: &ServeArgs) -> Result<Config> {
    let mut config = Config::default();
    let mut limits = Limits::default();
    let mut port = config.address.port();
    if !args.compat.is_empty() {
        // People in front of viewers wait for a result longer than scripts do, and go on with a volume later.
        (limits.timeout, limits.ttl) = (FOR_VIEWERS, FOR_VIEWERS);
        port = Protocol::PORT;
    }
    limits.max_body_bytes = args.max_body;
    limits.queue = args.queue.into();
    limits.timeout = args.timeout.unwrap_or(limits.timeout);
    limits.ttl = args.ttl.unwrap_or(limits.ttl);
    config.address = SocketAddr::new(args.host, args.port.unwrap_or(port));
    config.viewers = args.compat.clone();
    config.allowed_hosts = args.allowed_hosts.clone();
    config.keys = match &args.api_key_file {
        Some(path) => Keys::from_file(path)?,
        None => Keys::default(),
    };
    config.upload_dir = args.upload_dir.clone();
    config.sessions = args.viewers.sessions();
    config.limits = limits;
    Ok(config)
}

fn one(args: &ServeArgs, named: &ModelArgs, stop: &CancelToken) -> Result<Served> {
    let (source, name) = model::source(named)?;
    model::verify(named, stop)?;
    let progress = Progress::new(args.quiet);
    progress.stage(format!("loading {}", name.id));
    let options: LoadOptions = model::drafting(model::load_options(&named.load, 0), args.drafts);
    let options = options.with_questions(r1seg::QUESTIONS_AT_ONCE).with_cancel(stop.clone());
    let loaded = load(&source, &options)?;
    progress.clear();
    if !args.quiet {
        model::announce(&loaded, &name.id);
    }
    Ok(Served { model: loaded, source })
}

/// One line on standard output, for people and scripts.
fn announce(args: &ServeArgs, address: SocketAddr) {
    let mut out = std::io::stdout().lock();
    // A reader that closed standard output does not want to know.
    let _ = writeln!(out, "http://{address}/").and_then(|()| out.flush());
    if !args.quiet && args.api_key_file.is_none() {
        say!("r1seg: everybody on this machine can use the server; --api-key-file asks for a key");
    }
}
