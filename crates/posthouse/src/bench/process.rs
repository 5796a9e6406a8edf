//! What Linux tells about a process: CPU time, memory, bytes written, limits. On other systems all
//! of it is unknown, and the report says so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `sysconf(_SC_CLK_TCK)`: 100 on every Linux that we know of.
const TICKS_PER_SECOND: u64 = 100;

/// As on x86-64; where pages are larger, buffers are told too small.
const PAGE_BYTES: u64 = 4_096;

/// Figures of a process at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// CPU time of all its threads so far, user and system, in ms. Exact to 10 ms.
    pub cpu_ms: u64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// The most it was.
    pub resident_bytes_peak: u64,
    /// Bytes it caused to be written to disk so far; `None` if that may not be read.
    pub written_bytes: Option<u64>,
    /// Bytes it caused to be read from disk so far: what the page cache had is not among them.
    pub read_bytes: Option<u64>,
}

/// The figures of process `pid`; `None` if there is no such process, or no `/proc`.
#[must_use]
pub fn usage(pid: u32) -> Option<Usage> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let io = fs::read_to_string(folder.join("io")).ok();
    let disk = |name| io.as_deref().and_then(|io| field(io, name)?.parse().ok());
    Some(Usage {
        cpu_ms: cpu_ms(&fs::read_to_string(folder.join("stat")).ok()?)?,
        resident_bytes: status_kib(&status, "VmRSS")? * 1_024,
        resident_bytes_peak: status_kib(&status, "VmHWM")? * 1_024,
        written_bytes: disk("write_bytes"),
        read_bytes: disk("read_bytes"),
    })
}

/// The machine's cores, whichever of them this process may use; 0 if nobody says.
#[must_use]
pub fn cores() -> usize {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpus.lines().filter(|line| line.starts_with("processor")).count()
}

/// What the kernel uses for all sockets of the machine, in bytes: the buffers of TCP and the tables
/// (`Slab`). Both ends of a loopback connection are in it.
#[must_use]
pub fn kernel_bytes() -> Option<KernelBytes> {
    Some(KernelBytes {
        tcp_buffers: tcp_buffer_bytes()?,
        slab: status_kib(&fs::read_to_string("/proc/meminfo").ok()?, "Slab")? * 1_024,
    })
}

/// See [`kernel_bytes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelBytes {
    /// Pages in the buffers of TCP sockets.
    pub tcp_buffers: u64,
    /// The kernel's objects, sockets among them.
    pub slab: u64,
}

fn tcp_pages(sockstat: &str) -> Option<u64> {
    let mut words = field(sockstat, "TCP")?.split_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// Raises the soft limit of open files to the hard one, which needs no right; children inherit it.
#[cfg(target_os = "linux")]
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Nothing that we know how to do here.
#[cfg(not(target_os = "linux"))]
pub fn raise_open_files() {}

/// `program`, to be run on one CPU, or on any.
#[must_use]
pub fn on_cpu(program: &Path, cpu: Option<u32>) -> Command {
    let Some(cpu) = cpu else { return Command::new(program) };
    // It becomes the program, under the same process number.
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string()]).arg(program);
    command
}

/// Keeps all threads of a process, and those to come, on one CPU.
pub fn pin(pid: u32, cpu: u32) -> io::Result<()> {
    let output = Command::new("taskset")
        .args(["-a", "-c", "-p", &cpu.to_string(), &pid.to_string()])
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// What the kernel holds in TCP buffers, of all processes and on both ends of what is connected here.
/// Resident memory does not contain it.
#[must_use]
pub fn tcp_buffer_bytes() -> Option<u64> {
    tcp_pages(&fs::read_to_string("/proc/net/sockstat").ok()?).map(|pages| pages * PAGE_BYTES)
}

/// How many files and sockets this process may have open.
#[must_use]
pub fn open_files_max() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The file system that holds `path`, such as `ext4` or `tmpfs`.
#[must_use]
pub fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mount_of(&mounts, &path).map(|(_, kind)| kind)
}

/// The device that holds `path`, such as `/dev/sda1`.
#[must_use]
pub fn device(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let (device, _) = mount_of(&mounts, &path)?;
    // Some systems name it by a link.
    Path::new(&device).canonicalize().ok()
}

/// Device and kind of the file system that holds `path`.
fn mount_of(mounts: &str, path: &Path) -> Option<(String, String)> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(' ');
            Some((parts.next()?, Path::new(parts.next()?), parts.next()?))
        })
        .filter(|(_, mount, _)| path.starts_with(mount))
        // Of two mounts on one place the later one is seen.
        .max_by_key(|(_, mount, _)| mount.components().count())
        .map(|(device, _, kind)| (device.to_owned(), kind.to_owned()))
}

fn cpu_ms(stat: &str) -> Option<u64> {
    // The second field is the name in brackets and may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * (1_000 / TICKS_PER_SECOND))
}

fn status_kib(status: &str, name: &str) -> Option<u64> {
    field(status, name)?.strip_suffix(" kB")?.trim().parse().ok()
}

fn field<'a>(lines: &'a str, name: &str) -> Option<&'a str> {
    lines.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_whatever_the_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 4 0 1000 1 1";
        assert_eq!(cpu_ms(stat), Some(1_750));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(status_kib("VmRSSx:\t1 kB\nVmRSS:\t  2048 kB\n", "VmRSS"), Some(2_048));
        assert_eq!(field("rchar: 1\nwrite_bytes: 4096\n", "write_bytes"), Some("4096"));
    }

    #[test]
    fn tcp_buffers_are_found_among_the_sockets() {
        let sockstat = "sockets: used 9\nTCP: inuse 7 orphan 0 tw 2 alloc 8 mem 31\nUDP: inuse 1 mem 2\n";
        assert_eq!(tcp_pages(sockstat), Some(31));
        assert_eq!(tcp_pages("sockets: used 9\n"), None);
    }

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        let of = |path| mount_of(mounts, Path::new(path));
        assert_eq!(of("/tmp/x"), Some(("tmpfs".to_owned(), "tmpfs".to_owned())));
        assert_eq!(of("/tmpx"), Some(("/dev/a".to_owned(), "ext4".to_owned())));
    }
}
