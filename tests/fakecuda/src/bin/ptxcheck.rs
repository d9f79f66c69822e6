//! Reads PTX files and says which of their kernels can be emulated.
//!
//!     ptxcheck FILE.ptx...

use std::collections::HashMap;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut bad = 0;
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let module = match fakecuda::ptx::parse(&text) {
            Ok(module) => module,
            Err(e) => {
                println!("{path}: {e}");
                bad += 1;
                continue;
            }
        };
        let spaces = [".global", ".const"];
        let globals: HashMap<String, u64> = module
            .variables
            .iter()
            .filter(|v| spaces.contains(&v.space.as_str()))
            .map(|v| (v.name.clone(), 1 << 44))
            .collect();
        let (mut good, mut names) = (0, Vec::new());
        for function in module.functions.values().filter(|f| f.entry) {
            match fakecuda::lower::kernel(&module, &globals, function) {
                Ok(_) => good += 1,
                Err(e) => names.push(format!("{}: {e}", function.name)),
            }
        }
        println!("{path}: {good} kernels of {}", good + names.len());
        for name in &names {
            println!("  {name}");
        }
        bad += names.len();
    }
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
