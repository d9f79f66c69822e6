//! Findings as text.

use std::fmt::Write;

use super::Findings;
use crate::exit::one_line;
use crate::progress::gigabytes;

/// One fact a line.
pub(super) fn render(findings: &Findings) -> String {
    let Findings { r1seg, system, cpu, memory, cuda, models, .. } = findings;
    let mut text = String::new();
    let mut add = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<10} {}", one_line(value));
    };
    let commit = r1seg.commit.unwrap_or("commit unknown");
    add("r1seg", &format!("{} ({commit})", r1seg.version));
    let features = list(&r1seg.features);
    let optimized = if r1seg.optimized { "release" } else { "debug" };
    add("build", &format!("{}, {optimized}, features: {features}", r1seg.target));
    let kernel = system.kernel.as_deref().unwrap_or_default();
    add("system", format!("{} {} {kernel}", system.os, system.architecture).trim_end());

    add("cpu", cpu.model.as_deref().unwrap_or("unknown"));
    add("kernels", &format!("{} (of this CPU: {})", cpu.kernels, list(&cpu.features)));
    let all = cpu.processors.map(|all| format!(" of {all} processors")).unwrap_or_default();
    add(
        "threads",
        &format!(
            "{} (usable: {}{all}); {} of the tensor library",
            cpu.threads, cpu.usable_processors, cpu.tensor_threads
        ),
    );
    let size = |bytes: Option<u64>| bytes.map_or("unknown".to_string(), gigabytes);
    let by = memory.limited_by.map(|by| format!(", limited by {by}")).unwrap_or_default();
    add(
        "memory",
        &format!(
            "{} available{by}; {} in all",
            size(memory.available_bytes),
            size(memory.total_bytes)
        ),
    );
    match (&cuda.device, &cuda.problem) {
        (Some(device), _) => add("cuda", &format!("{device} works")),
        (None, problem) => {
            add("cuda", problem.as_deref().unwrap_or("not usable"));
            cuda.fix.iter().for_each(|fix| add("", &format!("fix: {fix}")));
        }
    }
    if models.hub {
        let count = match models.models {
            Some(1) => "1 model".to_string(),
            Some(count) => format!("{count} models"),
            None => "models unknown".to_string(),
        };
        let cache = models.cache.as_deref().unwrap_or("no cache folder");
        let offline = if models.offline == Some(true) { ", offline" } else { "" };
        add("models", &format!("{cache}: {count}, {}{offline}", size(models.bytes)));
        models.problem.iter().for_each(|problem| add("", problem));
    } else {
        add("models", "this r1seg was built without the hub");
    }
    add("variables", &list(&findings.variables));
    add(
        "verdict",
        &findings.problem.as_ref().map_or("OK".to_string(), |p| format!("UNUSABLE: {p}")),
    );
    text
}

fn list(names: &[impl AsRef<str>]) -> String {
    match names {
        [] => "none".to_string(),
        names => names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" "),
    }
}
