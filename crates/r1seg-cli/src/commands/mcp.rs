//! `r1seg mcp`: models for agents, on standard input and output.

use std::any::Any;

use anyhow::Result;
use r1seg::volume::ReadOptions;
use r1seg::{CancelToken, FoundModel};
use r1seg_mcp::{LocalDesk, LocalOptions, Server, serve_stdio};

use crate::args::McpArgs;
use crate::exit::{Exit, say};
use crate::hints;
use crate::interrupt::Writing;
use crate::model;

pub(crate) fn run(args: &McpArgs, cancel: CancelToken) -> Result<Exit> {
    let models = models(args, &cancel)?;
    let names: Vec<String> = models.iter().map(|model| model.name.id.clone()).collect();
    let desk = LocalDesk::new(options(args, models))?;
    if !args.quiet {
        say!("r1seg: research use only, not a medical device. Serving {}", names.join(", "));
    }
    serve_stdio(Server::new(desk), &cancel)?;
    Ok(Exit::Answered)
}

/// The models that are named, hashed if that is wanted.
fn models(args: &McpArgs, cancel: &CancelToken) -> Result<Vec<FoundModel>> {
    let mut models = Vec::new();
    for named in args.model.each() {
        let (source, _) = model::source(&named)?;
        model::verify(&named, cancel)?;
        models.push(source.into());
    }
    Ok(models)
}

fn options(args: &McpArgs, models: Vec<FoundModel>) -> LocalOptions {
    let read = ReadOptions::default()
        .with_max_bytes(args.max_input_bytes)
        .with_max_voxels(args.max_voxels);
    let (load, drafts) = (args.model.load.clone(), args.drafts);
    let options = LocalOptions::new(models, &args.out)
        .with_read(read)
        .with_load(move |reserved| model::drafting(model::load_options(&load, reserved), drafts))
        .with_words(hints::words)
        .with_writing(|| Box::new(Writing::begin()) as Box<dyn Any>)
        .with_git(option_env!("R1SEG_GIT"));
    let here = [".".into()];
    let roots = if args.roots.is_empty() { &here[..] } else { &args.roots };
    roots.iter().fold(options, |options, root| options.with_root(root))
}
