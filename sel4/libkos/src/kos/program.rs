//! The process itself: limits, identity.

use super::Kos;
use super::time::NS;
use crate::errno::{Errno, Result};
use crate::fd::FD_MAX;
use crate::proc::{HOSTNAME, RELEASE};
use crate::system::System;
use crate::user;
use koskit_spec::info::Info;
use koskit_spec::layout::{LARGE_PAGE, PAGE};

impl<S: System> Kos<'_, S> {
    pub(super) fn prlimit(&mut self, resource: u64, old: u64) -> Result {
        const INFINITY: u64 = u64::MAX;
        const STACK: u64 = 3;
        const CORE: u64 = 4;
        const NPROC: u64 = 6;
        const NOFILE: u64 = 7;
        if resource > 15 {
            return Err(Errno::INVAL);
        }
        if old != 0 {
            let limit = match resource {
                STACK => self.info.stack_pages * PAGE,
                CORE => 0,
                NPROC => 1,
                NOFILE => FD_MAX as u64,
                _ => INFINITY,
            };
            user::set_words(old, &[limit; 2])?;
        }
        Ok(0)
    }

    pub(super) fn prctl(&mut self, what: u64, argument: u64) -> Result {
        const GET_DUMPABLE: u64 = 3;
        const SET_NAME: u64 = 15;
        const GET_NAME: u64 = 16;
        const CAPBSET_READ: u64 = 23;
        const GET_TIMERSLACK: u64 = 30;
        const GET_NO_NEW_PRIVS: u64 = 39;
        // PDEATHSIG, DUMPABLE, KEEPCAPS, TIMERSLACK, NO_NEW_PRIVS, THP_DISABLE: of what nobody
        // is here for, any setting will do.
        const SETTINGS: [u64; 6] = [1, 4, 8, 29, 38, 41];
        match what {
            SET_NAME => {
                let name = user::path(argument)?;
                self.thread().set_name(name);
                Ok(0)
            }
            GET_NAME => {
                user::bytes_mut(argument, 16)?.copy_from_slice(&self.thread().name);
                Ok(0)
            }
            GET_DUMPABLE | GET_NO_NEW_PRIVS => Ok(1),
            // A bounding set that is empty.
            CAPBSET_READ if argument < 41 => Ok(0),
            GET_TIMERSLACK => Ok(50_000),
            what if SETTINGS.contains(&what) => Ok(0),
            _ => Err(Errno::INVAL),
        }
    }

    /// `capget`: no capability of Linux's, which are not those that count here.
    pub(super) fn capget(header: u64, data: u64) -> Result {
        const VERSION_3: u32 = 0x2008_0522;
        let version = user::bytes_mut(header, 4)?;
        if *version != VERSION_3.to_le_bytes() {
            version.copy_from_slice(&VERSION_3.to_le_bytes());
            return if data == 0 { Ok(0) } else { Err(Errno::INVAL) };
        }
        if data != 0 {
            user::bytes_mut(data, 24)?.fill(0);
        }
        Ok(0)
    }

    /// On one processor every other thread has seen all that was written before this call.
    pub(super) fn membarrier(command: u64) -> Result {
        const QUERY: u64 = 0;
        const GLOBAL: u64 = 1;
        const PRIVATE_EXPEDITED: u64 = 8;
        const REGISTER_PRIVATE_EXPEDITED: u64 = 16;
        match command {
            QUERY => Ok(GLOBAL | PRIVATE_EXPEDITED | REGISTER_PRIVATE_EXPEDITED),
            GLOBAL | PRIVATE_EXPEDITED | REGISTER_PRIVATE_EXPEDITED => Ok(0),
            _ => Err(Errno::INVAL),
        }
    }

    /// `setresuid` and the like: nobody else can be become.
    pub(super) fn become_all(ids: &[u64]) -> Result {
        let same = |&id: &u64| id as u32 == 0 || id as u32 == u32::MAX;
        if ids.iter().all(same) { Ok(0) } else { Err(Errno::PERM) }
    }

    pub(super) fn getresuid(real: u64, effective: u64, saved: u64) -> Result {
        for into in [real, effective, saved] {
            user::bytes_mut(into, 4)?.fill(0);
        }
        Ok(0)
    }

    /// The C libraries want a Linux that is new enough; programs are told what it is.
    pub(super) fn uname(into: u64) -> Result {
        const FIELD: usize = 65;
        let fields: [&[u8]; 6] =
            [b"Linux", HOSTNAME.as_bytes(), RELEASE.as_bytes(), b"#1 seL4", b"aarch64", b"(none)"];
        let out = user::bytes_mut(into, (FIELD * fields.len()) as u64)?;
        out.fill(0);
        for (place, field) in out.chunks_exact_mut(FIELD).zip(fields) {
            place[..field.len()].copy_from_slice(field);
        }
        Ok(0)
    }

    /// `struct sysinfo`: the memory is what the contract gives.
    pub(super) fn sysinfo(&mut self, into: u64) -> Result {
        let Info { heap_pages, stack_pages, ut_large_page, ut_4k_pages, .. } = self.info;
        let large = u64::from(ut_large_page) * (LARGE_PAGE / PAGE);
        let pages = heap_pages + stack_pages + large + u64::from(ut_4k_pages);
        user::bytes_mut(into, 112)?.fill(0);
        let free = (pages * PAGE).saturating_sub(self.memory.used());
        user::set_words(into, &[self.monotonic() / NS, 0, 0, 0, pages * PAGE, free])?;
        // Number of processes, and the unit of what is said of memory.
        user::bytes_mut(into + 80, 2)?[0] = 1;
        user::bytes_mut(into + 104, 4)?[0] = 1;
        Ok(0)
    }
}
