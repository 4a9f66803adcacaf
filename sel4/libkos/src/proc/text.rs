//! What the files of `/proc` and `/sys` say, each in the form that Linux gives it
//! (`Documentation/filesystems/proc.rst`).

use crate::fd::{FD_MAX, Table};
use crate::memory::{Memory, Protection};
use crate::tree::Tree;
use crate::user;
use alloc::string::String;
use core::fmt::{Result, Write as _};
use koskit_spec::contract::Process;
use koskit_spec::info::Info;
use koskit_spec::layout::{KOS_BASE, KOS_END, LARGE_PAGE, PAGE, STACK_TOP};

/// What there is to be told.
pub struct Facts<'k> {
    /// The root server's word.
    pub info: &'k Info,
    /// Arguments and environment.
    pub process: Option<Process<'k>>,
    /// What is mapped.
    pub memory: &'k Memory,
    /// All files.
    pub tree: &'k Tree<'k>,
    /// The descriptors.
    pub files: &'k Table,
    /// PR_SET_NAME's, without zeroes behind it.
    pub name: &'k [u8],
    /// Nanoseconds since the machine started.
    pub now: u64,
    /// And until this container started.
    pub started: u64,
    /// Pages that can still be had.
    pub free: u64,
    /// A number that stays the same.
    pub boot_id: u128,
    /// A number that nobody else has.
    pub uuid: u128,
    /// What was written to `oom_score_adj`.
    pub oom_score_adj: i32,
}

/// What a Linux of this kind calls itself.
pub const RELEASE: &str = "6.1.0-koskit";
/// The machine's name, as `uname` has it.
pub const HOSTNAME: &str = "kos";

/// A part of the address space.
struct Part<'k> {
    start: u64,
    end: u64,
    protection: Protection,
    offset: u64,
    name: Option<&'k str>,
    file: &'k [u8],
}

impl Facts<'_> {
    fn name(&self) -> &str {
        core::str::from_utf8(self.name).unwrap_or("?")
    }

    /// All pages that the contract gives.
    fn pages(&self) -> u64 {
        let Info { heap_pages, stack_pages, ut_large_page, ut_4k_pages, .. } = *self.info;
        let large = u64::from(ut_large_page) * (LARGE_PAGE / PAGE);
        heap_pages + stack_pages + large + u64::from(ut_4k_pages)
    }

    /// Every part of the address space, from its beginning to its end.
    fn parts(&self, each: &mut dyn FnMut(&Part<'_>) -> Result) -> Result {
        let exe = self.tree.exe.as_slice();
        let info = self.info;
        let headers = user::bytes(info.phdr, u64::from(info.phent) * u64::from(info.phnum));
        let size = (info.phent as usize).max(1);
        for header in headers.unwrap_or_default().chunks_exact(size).filter(|h| h.len() >= 56) {
            let word = |at: usize| {
                header[at..at + 8]
                    .iter()
                    .rev()
                    .fold(0u64, |word, &byte| word << 8 | u64::from(byte))
            };
            let (kind, flags) = (word(0) as u32, word(0) >> 32);
            if kind != 1 {
                continue;
            }
            let start = info.load_bias.wrapping_add(word(16));
            let end = start.wrapping_add(word(40)).next_multiple_of(PAGE);
            // Segments have the bits of protections the other way round.
            let bits = flags >> 2 & 1 | flags & 2 | (flags & 1) << 2;
            let protection = Protection::new(bits).unwrap_or(Protection::NONE);
            let (start, offset) = (start & !(PAGE - 1), word(8) & !(PAGE - 1));
            each(&Part { start, end, protection, offset, name: None, file: exe })?;
        }
        let anonymous = |start, end, protection, name| Part {
            start,
            end,
            protection,
            offset: 0,
            name,
            file: &[],
        };
        let heap_end = info.heap_base + info.heap_pages * PAGE;
        if info.heap_pages > 0 {
            each(&anonymous(info.heap_base, heap_end, Protection::READ_WRITE, Some("[heap]")))?;
        }
        for (start, end, protection) in self.memory.ranges() {
            each(&anonymous(start, end, protection, None))?;
        }
        let text = Protection::new(5).unwrap_or(Protection::NONE);
        each(&anonymous(KOS_BASE, KOS_END, text, Some("[libkos]")))?;
        let stack = STACK_TOP - info.stack_pages * PAGE;
        each(&anonymous(stack, STACK_TOP, Protection::READ_WRITE, Some("[stack]")))
    }

    /// Bytes of the address space, and those with memory behind them.
    fn sizes(&self) -> (u64, u64) {
        let (mut all, mut used) = (0, 0);
        let _ = self.parts(&mut |part| {
            all += part.end - part.start;
            if part.protection != Protection::NONE {
                used += part.end - part.start;
            }
            Ok(())
        });
        (all, used)
    }
}

pub fn auxv(_: &Facts<'_>, _: &mut String) -> Result {
    // The stack has it; nobody was seen to read it here.
    Ok(())
}

pub fn cmdline(facts: &Facts<'_>, out: &mut String) -> Result {
    words(facts.process.iter().flat_map(Process::args), out)
}

pub fn environ(facts: &Facts<'_>, out: &mut String) -> Result {
    words(facts.process.iter().flat_map(Process::env), out)
}

fn words<'a>(words: impl Iterator<Item = &'a [u8]>, out: &mut String) -> Result {
    for word in words {
        write!(out, "{}\0", String::from_utf8_lossy(word))?;
    }
    Ok(())
}

pub fn comm(facts: &Facts<'_>, out: &mut String) -> Result {
    writeln!(out, "{}", facts.name())
}

pub fn oom_score_adj(facts: &Facts<'_>, out: &mut String) -> Result {
    writeln!(out, "{}", facts.oom_score_adj)
}

pub fn maps(facts: &Facts<'_>, out: &mut String) -> Result {
    facts.parts(&mut |part| map(part, out))
}

fn map(part: &Part<'_>, out: &mut String) -> Result {
    let bits = part.protection.bits();
    let bit = |bit: u8, letter: char| if bits & bit != 0 { letter } else { '-' };
    let start = out.len();
    let device = if part.file.is_empty() { "00:00 0" } else { "00:01 1" };
    write!(out, "{:08x}-{:08x} ", part.start, part.end)?;
    write!(out, "{}{}{}p ", bit(1, 'r'), bit(2, 'w'), bit(4, 'x'))?;
    write!(out, "{:08x} {device} ", part.offset)?;
    let file = String::from_utf8_lossy(part.file);
    match part.name.or(if part.file.is_empty() { None } else { Some(&file) }) {
        Some(name) => writeln!(out, "{:1$}{name}", "", 73usize.saturating_sub(out.len() - start)),
        None => writeln!(out),
    }
}

pub fn smaps(facts: &Facts<'_>, out: &mut String) -> Result {
    facts.parts(&mut |part| {
        map(part, out)?;
        let size = (part.end - part.start) / 1024;
        let used = if part.protection == Protection::NONE { 0 } else { size };
        writeln!(out, "Size:           {size:8} kB")?;
        smap(out, used)
    })
}

pub fn smaps_rollup(facts: &Facts<'_>, out: &mut String) -> Result {
    writeln!(out, "00010000-{STACK_TOP:x} ---p 00000000 00:00 0 [rollup]")?;
    smap(out, facts.sizes().1 / 1024)
}

fn smap(out: &mut String, used: u64) -> Result {
    for (name, size) in [
        ("Rss", used),
        ("Pss", used),
        ("Shared_Clean", 0),
        ("Shared_Dirty", 0),
        ("Private_Clean", 0),
        ("Private_Dirty", used),
        ("Referenced", used),
        ("Anonymous", used),
        ("AnonHugePages", 0),
        ("Swap", 0),
    ] {
        writeln!(out, "{:16}{size:8} kB", Label(name))?;
    }
    Ok(())
}

/// A name with a colon, padded as one word.
struct Label<'a>(&'a str);

impl core::fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> Result {
        let width = f.width().unwrap_or(0).saturating_sub(self.0.len() + 1);
        write!(f, "{}:{:width$}", self.0, "")
    }
}

/// Clock ticks, of which a second has 100.
fn ticks(ns: u64) -> u64 {
    ns / 10_000_000
}

pub fn stat(facts: &Facts<'_>, out: &mut String) -> Result {
    let (size, used) = facts.sizes();
    let (time, start) = (ticks(facts.now - facts.started), ticks(facts.started));
    // pid, comm, state, ppid, pgrp, session, tty, tpgid, flags, 4 kinds of page faults, times
    // of its own and of children, priority, nice, threads, 0, starttime, vsize, rss, rsslim.
    write!(out, "1 ({}) R 0 1 1 0 -1 4194304 0 0 0 0 {time} 0 0 0 20 0 1 0 ", facts.name())?;
    write!(out, "{start} {size} {} {} ", used / PAGE, u64::MAX)?;
    // startcode, endcode, startstack, esp, eip, 4 of signals, wchan, nswap, cnswap, exit
    // signal, processor, rt_priority, policy, 3 of delays, and 8 addresses and the exit code.
    let (code, stack) = (facts.info.entry, STACK_TOP);
    writeln!(out, "{code} {code} {stack} 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0")
}

pub fn statm(facts: &Facts<'_>, out: &mut String) -> Result {
    let (size, used) = facts.sizes();
    let (size, used) = (size / PAGE, used / PAGE);
    writeln!(out, "{size} {used} 0 0 0 {used} 0")
}

pub fn status(facts: &Facts<'_>, out: &mut String) -> Result {
    let (size, used) = facts.sizes();
    let (size, used) = (size / 1024, used / 1024);
    write!(
        out,
        "Name:\t{}\nUmask:\t{:04o}\nState:\tR (running)\nTgid:\t1\nNgid:\t0\nPid:\t1\nPPid:\t0\n\
         TracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t{FD_MAX}\nGroups:\t \n\
         VmPeak:\t{size:8} kB\nVmSize:\t{size:8} kB\nVmLck:\t       0 kB\nVmPin:\t       0 kB\n\
         VmHWM:\t{used:8} kB\nVmRSS:\t{used:8} kB\nRssAnon:\t{used:8} kB\n\
         RssFile:\t       0 kB\nRssShmem:\t       0 kB\nVmData:\t{used:8} kB\n\
         VmStk:\t{:8} kB\nVmExe:\t       0 kB\nVmLib:\t       0 kB\nVmPTE:\t       0 kB\n\
         VmSwap:\t       0 kB\nThreads:\t1\n",
        facts.name(),
        facts.tree.umask,
        facts.info.stack_pages * PAGE / 1024,
    )?;
    for name in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh"] {
        writeln!(out, "{name}:\t0000000000000000")?;
    }
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        writeln!(out, "{name}:\t00000000a80425fb")?;
    }
    write!(
        out,
        "CapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n\
         Cpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t1\nMems_allowed_list:\t0\n\
         voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n"
    )
}

pub fn limits(facts: &Facts<'_>, out: &mut String) -> Result {
    writeln!(out, "{:26}{:21}{:21}{:10}", "Limit", "Soft Limit", "Hard Limit", "Units")?;
    let stack = facts.info.stack_pages * PAGE;
    for (name, limit, unit) in [
        ("Max cpu time", None, "seconds"),
        ("Max file size", None, "bytes"),
        ("Max data size", None, "bytes"),
        ("Max stack size", Some(stack), "bytes"),
        ("Max core file size", Some(0), "bytes"),
        ("Max resident set", None, "bytes"),
        ("Max processes", Some(1), "processes"),
        ("Max open files", Some(FD_MAX as u64), "files"),
        ("Max locked memory", None, "bytes"),
        ("Max address space", None, "bytes"),
        ("Max file locks", None, "locks"),
    ] {
        let mut text = String::new();
        match limit {
            Some(limit) => write!(text, "{limit}")?,
            None => text.push_str("unlimited"),
        }
        writeln!(out, "{name:26}{text:21}{text:21}{unit:10}")?;
    }
    Ok(())
}

pub fn mounts(_: &Facts<'_>, out: &mut String) -> Result {
    out.write_str(
        "overlay / overlay rw,noatime 0 0\n\
         proc /proc proc rw,nosuid,nodev,noexec,noatime 0 0\n\
         tmpfs /dev tmpfs rw,nosuid,noatime,mode=755 0 0\n\
         sysfs /sys sysfs ro,nosuid,nodev,noexec,noatime 0 0\n",
    )
}

pub fn mountinfo(_: &Facts<'_>, out: &mut String) -> Result {
    out.write_str(
        "1 0 0:1 / / rw,noatime - overlay overlay rw\n\
         2 1 0:4 / /proc rw,nosuid,nodev,noexec,noatime - proc proc rw\n\
         3 1 0:2 / /dev rw,nosuid,noatime - tmpfs tmpfs rw,mode=755\n\
         4 1 0:5 / /sys ro,nosuid,nodev,noexec,noatime - sysfs sysfs ro\n",
    )
}

pub fn cpuinfo(facts: &Facts<'_>, out: &mut String) -> Result {
    let hz = facts.info.timer_hz;
    let mips = hz / 500_000;
    writeln!(out, "processor\t: 0\nBogoMIPS\t: {mips}.{:02}", hz / 5000 % 100)?;
    writeln!(out, "Features\t: fp asimd\nCPU architecture: 8\n")
}

pub fn loadavg(_: &Facts<'_>, out: &mut String) -> Result {
    writeln!(out, "0.00 0.00 0.00 1/1 1")
}

pub fn meminfo(facts: &Facts<'_>, out: &mut String) -> Result {
    let (total, free) = (facts.pages() * PAGE / 1024, facts.free * PAGE / 1024);
    let files = facts.tree.pool.used() * PAGE / 1024;
    for (name, size) in [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", files),
        ("SwapCached", 0),
        ("Active", total.saturating_sub(free)),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", total.saturating_sub(free + files)),
        ("Mapped", 0),
        ("Shmem", files),
        ("Slab", 0),
        ("CommitLimit", total),
        ("Committed_AS", total.saturating_sub(free)),
        ("HugePages_Total", 0),
    ] {
        if name == "HugePages_Total" {
            writeln!(out, "HugePages_Total:       0\nHugePages_Free:        0")?;
            writeln!(out, "Hugepagesize:       2048 kB")?;
        } else {
            writeln!(out, "{:16}{size:8} kB", Label(name))?;
        }
    }
    Ok(())
}

pub fn node_meminfo(facts: &Facts<'_>, out: &mut String) -> Result {
    let (total, free) = (facts.pages() * PAGE / 1024, facts.free * PAGE / 1024);
    writeln!(out, "Node 0 MemTotal:       {total:8} kB")?;
    writeln!(out, "Node 0 MemFree:        {free:8} kB")?;
    writeln!(out, "Node 0 MemUsed:        {:8} kB", total.saturating_sub(free))
}

pub fn machine_stat(facts: &Facts<'_>, out: &mut String) -> Result {
    let used = ticks(facts.now - facts.started);
    let boot = facts.info.epoch_ns / 1_000_000_000;
    write!(out, "cpu  {used} 0 0 0 0 0 0 0 0 0\ncpu0 {used} 0 0 0 0 0 0 0 0 0\nintr 0\nctxt 0\n")?;
    write!(out, "btime {boot}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n")
}

pub fn nr_open(_: &Facts<'_>, out: &mut String) -> Result {
    writeln!(out, "{FD_MAX}")
}

pub fn hostname(_: &Facts<'_>, out: &mut String) -> Result {
    writeln!(out, "{HOSTNAME}")
}

pub fn osrelease(_: &Facts<'_>, out: &mut String) -> Result {
    writeln!(out, "{RELEASE}")
}

pub fn boot_id(facts: &Facts<'_>, out: &mut String) -> Result {
    write_uuid(facts.boot_id, out)
}

pub fn uuid(facts: &Facts<'_>, out: &mut String) -> Result {
    write_uuid(facts.uuid, out)
}

/// A random UUID (version 4).
fn write_uuid(random: u128, out: &mut String) -> Result {
    let number = random & !(0xf << 76 | 0x3 << 62) | 4 << 76 | 2 << 62;
    let (a, b) = (number >> 96, number >> 80 & 0xffff);
    let (c, d, e) = (number >> 64 & 0xffff, number >> 48 & 0xffff, number & 0xffff_ffff_ffff);
    writeln!(out, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
}

pub fn uptime(facts: &Facts<'_>, out: &mut String) -> Result {
    let hundredths = ticks(facts.now);
    writeln!(out, "{}.{:02} 0.00", hundredths / 100, hundredths % 100)
}

pub fn version(_: &Facts<'_>, out: &mut String) -> Result {
    writeln!(out, "Linux version {RELEASE} (koskit@localhost) (rustc) #1 seL4")
}
