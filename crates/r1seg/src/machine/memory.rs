//! How much memory the machine, and the container that the process runs in, have left.

use std::fs;
use std::path::Path;

/// Bytes that can still be had, swap included; `None` where that is not known.
#[must_use]
pub fn available_memory() -> Option<u64> {
    memory_limits().into_iter().map(|(_, bytes)| bytes).min()
}

/// What limits memory, and how many bytes each limit leaves, swap included.
#[must_use]
pub fn memory_limits() -> Vec<(&'static str, u64)> {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_host(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let container = of_groups(&groups, Path::new("/sys/fs/cgroup"));
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let own = of_process(&read("/proc/self/limits"), &read("/proc/self/smaps"));
    let known = [("the machine", host), ("a control group", container), ("ulimit -v", own)];
    known.into_iter().filter_map(|(by, bytes)| Some((by, bytes?))).collect()
}

/// The memory of the machine, in bytes, without swap.
#[must_use]
pub fn total_memory() -> Option<u64> {
    kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// From the text of `/proc/meminfo`.
fn of_host(meminfo: &str) -> Option<u64> {
    Some(kib(meminfo, "MemAvailable:")?.saturating_add(kib(meminfo, "SwapFree:").unwrap_or(0)))
}

/// What the limit of the address space (`ulimit -v`) leaves, in which mapped weights count too. From the
/// texts of `/proc/self/limits` and `/proc/self/smaps`.
fn of_process(limits: &str, smaps: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    // `unlimited`, which is not a number, means no limit.
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(used(smaps)))
}

/// The bytes of all mappings, without what the allocator has only reserved: up to a GiB at once.
fn used(smaps: &str) -> u64 {
    /// Less than the allocator reserves, and more than the stack of a thread.
    const ARENA: u64 = 16 << 20;
    let (mut used, mut size, mut anonymous) = (0_u64, 0, false);
    for line in smaps.lines() {
        // `7f1c5c000000-7f1c60000000 rw-p 00000000 00:00 0 [NAME]`, and then its numbers.
        if let Some((_, rest)) = line.split_once(" rw-p ") {
            anonymous = rest.split_whitespace().count() == 3;
        } else if let Some(bytes) = kib(line, "Size:") {
            (size, used) = (bytes, used.saturating_add(bytes));
        } else if let Some(resident) = kib(line, "Rss:") {
            if anonymous && ARENA <= size {
                used = used.saturating_sub(size.saturating_sub(resident));
            }
            anonymous = false;
        }
    }
    used
}

/// The bytes of a line such as `MemFree:  12 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok().map(|kib: u64| kib.saturating_mul(1024))
}

/// The least that a control group, version 1 or 2, or one of those around it leaves.
///
/// `groups` is the text of `/proc/self/cgroup`. In a container the groups that it names may be out
/// of sight, and the root is the container's own.
fn of_groups(groups: &str, root: &Path) -> Option<u64> {
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
            if controllers.is_empty() {
                let names = ["memory.max", "memory.current", "inactive_file"];
                return left_in(root, path, names);
            }
            let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
            let memory = controllers.split(',').any(|name| name == "memory");
            memory.then(|| left_in(&root.join("memory"), path, names))?
        })
        .min()
}

fn left_in(root: &Path, path: &str, [limit, usage, reclaimable]: [&str; 3]) -> Option<u64> {
    let left = |group: &Path| -> Option<u64> {
        let number = |file: &str| -> Option<u64> {
            fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()
        };
        // Files that are only cached are given up for the asking.
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let cached =
            stat.lines().find_map(|line| line.strip_prefix(reclaimable)?.trim().parse().ok());
        // `max`, which is not a number, means no limit.
        let used = number(usage)?.saturating_sub(cached.unwrap_or(0));
        Some(number(limit)?.saturating_sub(used))
    };
    let own = root.join(path);
    own.ancestors().take_while(|group| group.starts_with(root)).filter_map(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_the_host_has_what_is_available_and_its_swap() {
        let text = "MemTotal: 9 kB\nMemAvailable:   100 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\n";
        assert_eq!(of_host(text), Some(120 * 1024));
        assert_eq!(of_host("MemTotal: 9 kB"), None);
    }

    #[test]
    fn r11_the_address_space_has_what_its_limit_leaves() {
        let limits = |soft: &str| {
            format!(
                "Limit      Soft Limit   Hard Limit   Units\n\
                 Max cpu time  unlimited  unlimited  seconds\n\
                 Max address space  {soft}  unlimited  bytes\n"
            )
        };
        let smaps = "10-20 r-xp 00000000 00:2b 57 /usr/bin/r1seg\nSize:  100 kB\nRss:  1 kB\n\
                     20-30 rw-p 00000000 00:00 0 \nSize:  100 kB\nRss:  0 kB\n";
        let arena = "40-50 rw-p 00000000 00:00 0 \nSize:  131072 kB\nRss:  300 kB\n\
                     60-70 ---p 00000000 00:00 0 \nSize:  0 kB\nRss:  0 kB\n";
        assert_eq!(of_process(&limits("1024000"), smaps), Some(800 * 1024));
        let with_arena = format!("{smaps}{arena}{smaps}");
        assert_eq!(of_process(&limits("1024000"), &with_arena), Some(300 * 1024));
        assert_eq!(of_process(&limits("1024"), smaps), Some(0));
        assert_eq!(of_process(&limits("unlimited"), smaps), None);
        assert_eq!(of_process("", smaps), None);
    }

    fn group(path: &Path, limit: (&str, &str), usage: (&str, &str), stat: &str) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join(limit.0), limit.1).unwrap();
        fs::write(path.join(usage.0), usage.1).unwrap();
        fs::write(path.join("memory.stat"), stat).unwrap();
    }

    #[test]
    fn r1_the_tightest_control_group_counts() {
        let (max, current) = ("memory.max", "memory.current");
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        group(&root.join("a"), (max, "1000\n"), (current, "300\n"), "anon 1\ninactive_file 100\n");
        group(&root.join("a/b"), (max, "max\n"), (current, "200\n"), "");
        assert_eq!(of_groups("0::/a/b\n", root), Some(800));
        group(&root.join("a/b"), (max, "500\n"), (current, "200\n"), "");
        assert_eq!(of_groups("0::/a/b\n", root), Some(300));
        // Seen from inside a container.
        group(root, (max, "50"), (current, "60"), "");
        assert_eq!(of_groups("0::/out/of/sight\n", root), Some(0));
        assert_eq!(of_groups("", root), None);
    }

    #[test]
    fn r1_control_groups_of_the_first_version_count_too() {
        let root = tempfile::tempdir().unwrap();
        let (limit, usage) = ("memory.limit_in_bytes", "memory.usage_in_bytes");
        let stat = "inactive_file 7\ntotal_inactive_file 100\n";
        group(&root.path().join("memory/job"), (limit, "1000"), (usage, "400"), stat);
        let groups = "5:cpu,memory:/job\n3:cpuset:/job\n0::/\n";
        assert_eq!(of_groups(groups, root.path()), Some(700));
    }
}
