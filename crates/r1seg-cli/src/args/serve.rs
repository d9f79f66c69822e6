//! `r1seg serve`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use r1seg_server::Protocol;

use super::viewers::ViewerArgs;
use super::volume::bytes;
use super::{DraftArgs, SeveralModelsArgs};

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  r1seg serve --model demo
  r1seg serve --model ./my-r1seg --model ./my-sam --port 9000
  r1seg serve --model ./my-r1seg --host 0.0.0.0 --api-key-file keys.txt --allow-host ct.example.org
  r1seg serve --model ./my-segvol --compat voxtell,nninteractive

Standard output gets one line, the address, once the server is ready. docs/server.md describes the API,
and docs/viewers.md how 3D Slicer and napari connect.")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) model: SeveralModelsArgs,
    #[command(flatten)]
    pub(crate) drafts: DraftArgs,
    /// The address to listen at. Any but those of this machine alone needs --api-key-file.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) host: IpAddr,
    /// The port to listen at; 0 takes a free one [default: 8080, or 1527 with --compat].
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Also serve plug-ins of 3D Slicer and napari that were made for the servers of VoxTell or
    /// nnInteractive. The first model that takes what a plug-in sends answers it.
    #[arg(long, value_name = "PROTOCOL", value_delimiter = ',', value_parser = protocol())]
    pub(crate) compat: Vec<Protocol>,
    /// A file of keys, one per line. Requests must name one of them: `Authorization: Bearer KEY`.
    #[arg(long, env = "R1SEG_API_KEY_FILE", value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// A name that clients may call the server by, such as that of a proxy in front of it; once for
    /// each. This machine's own names are known.
    #[arg(long = "allow-host", value_name = "NAME")]
    pub(crate) allowed_hosts: Vec<String>,
    /// The longest request.
    #[arg(long, default_value = "512MiB", value_name = "BYTES", value_parser = bytes)]
    pub(crate) max_body: u64,
    /// How many requests may wait for a model; others are asked to come back later.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) queue: u16,
    /// How long a request may wait and run [default: 120s, or 1h with --compat].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// How long volumes and results are kept after they were last used [default: 10m, or 1h with --compat].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// Where volumes and results are kept meanwhile [default: the system's folder for temporary files].
    #[arg(long, value_name = "DIR")]
    pub(crate) upload_dir: Option<PathBuf>,
    /// Do not start a server: ask the one at --host and --port whether it is ready. Exits with 0 if it is, 75
    /// if not.
    #[arg(long)]
    pub(crate) healthcheck: bool,
    /// Say nothing but errors on stderr: no line for each request.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) viewers: ViewerArgs,
}

fn protocol() -> impl TypedValueParser<Value = Protocol> {
    PossibleValuesParser::new(Protocol::ALL.map(Protocol::name)).try_map(|name| name.parse())
}

/// A time such as `90s`, `10m` or `2h`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err("a time such as 90s, 10m or 2h is needed".to_string()),
    };
    let number: Option<u64> = digits.trim().parse().ok().filter(|number| *number > 0);
    // Longer ones overflow clocks.
    let seconds = number.and_then(|n| n.checked_mul(unit)).filter(|s| *s <= 366 * 24 * 60 * 60);
    let seconds = seconds.ok_or("a time from 1s to 366d is needed")?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), (" 1d ", 86400)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5m", "0", "10 weeks", "99999999999999999999s", "400d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
