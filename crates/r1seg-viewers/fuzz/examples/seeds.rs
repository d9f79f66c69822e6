//! Writes the inputs that fuzzing starts from: `cargo run --example seeds -- FOLDER` makes `FOLDER/nnia`
//! and `FOLDER/vxa2`, of the arrays that the tests use, each in both framings.

use std::path::Path;
use std::{env, fs, io};

/// Longer ones are more than a target is given.
const LONGEST: usize = 4096;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or(io::Error::other("FOLDER is needed"))?;
    let folder = Path::new(&folder);
    for framing in ["nnia", "vxa2"] {
        fs::create_dir_all(folder.join(framing))?;
    }
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    for entry in fs::read_dir(data)? {
        let path = entry?.path();
        let (name, ending) = (path.file_stem(), path.extension().and_then(|e| e.to_str()));
        let (Some(name), Some(ending @ ("nnia" | "vxa2"))) = (name, ending) else { continue };
        let bytes = fs::read(&path)?;
        if LONGEST < bytes.len() {
            continue;
        }
        fs::write(folder.join(ending).join(name), &bytes)?;
        if ending == "nnia" {
            fs::write(folder.join("vxa2").join(name), as_vxa2(&bytes)?)?;
        }
    }
    Ok(())
}

/// The chunk of nnInteractive's framing in VoxTell's, which says the same in another order.
fn as_vxa2(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let broken = || io::Error::other("no array of one chunk");
    let &[_, _, _, _, _, _, axes, length, ..] = bytes else { return Err(broken()) };
    let (axes, length) = (usize::from(axes), usize::from(length));
    let name = bytes.get(8..8 + length).ok_or_else(broken)?;
    let name = std::str::from_utf8(name).map_err(io::Error::other)?;
    let element = r1seg_viewers::ElementType::from_name(name).ok_or_else(broken)?;
    let shape = bytes.get(8 + length..8 + length + 8 * axes).ok_or_else(broken)?;
    let chunk = bytes.get(8 + length + 8 * axes + 4..).ok_or_else(broken)?;
    // The one chunk is as long as the array.
    let total = chunk.get(..8).ok_or_else(broken)?;
    let descr = element.descr().as_bytes();
    Ok([b"VXA2", &[descr.len() as u8][..], descr, &[axes as u8], shape, total, chunk].concat())
}
