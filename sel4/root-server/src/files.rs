//! The boot archive. It lies in memory that the kernel does not touch; its pages become frames,
//! which are mapped here when we must read them, and into containers, read-only, without a
//! copy.

use crate::memory::Memory;
use crate::serve::Stop;
use crate::space::{self, Space};
use crate::window::Window;
use koskit_abi::{CNode, Frame, Ipc, Object, Untyped};
use koskit_spec::archive::{Archive, Entry};
use koskit_spec::layout::{LARGE_PAGE, PAGE};

/// The archive, opened.
pub struct Files {
    archive: Archive<'static>,
    /// By entry: whether it is mapped in our window.
    mapped: [bool; koskit_spec::archive::ENTRIES_MAX],
}

impl Files {
    /// Opens the archive that begins at the beginning of `device`.
    pub fn open(
        ipc: &mut Ipc,
        space: &mut Space,
        window: &mut Window,
        memory: &mut Memory,
        device: Untyped,
    ) -> Result<Self, Stop> {
        let failed = |error| Stop::Kernel("open the boot archive", error);
        let first = space.make(ipc, device, Object::SmallFrame).map_err(failed)?;
        window.map_archive(ipc, space, Frame::at(first), 0).map_err(failed)?;
        // SAFETY: the first page has just been mapped.
        let header = unsafe { Window::archive_bytes(0..PAGE) };
        let archive = Archive::from_page(header).map_err(Stop::Archive)?;

        let pages = archive.size / PAGE;
        let bits = pages.next_power_of_two().trailing_zeros().max(1);
        let slots = Object::CNode { bits };
        let tables = (archive.size.div_ceil(LARGE_PAGE) + 1) * PAGE;
        let needed = (1 << slots.size_bits()) + tables;
        let ours = memory
            .take(ipc, space, needed.next_power_of_two().trailing_zeros())
            .map_err(|_| Stop::Memory { asked: needed, free: memory.free() })?;
        let cnode = CNode::at(space.make(ipc, ours.untyped, slots).map_err(failed)?);
        space.set_node(ipc, space::ARCHIVE, cnode, bits).map_err(failed)?;
        // The first page is ours already; the frames of the others follow it in memory.
        let mut page = 1;
        while page < pages {
            let count = (pages - page).min(Untyped::RETYPE_MAX);
            device.retype(ipc, Object::SmallFrame, cnode, page, count).map_err(failed)?;
            page += count;
        }
        window.set_memory(ours.untyped);
        Ok(Self { archive, mapped: [false; koskit_spec::archive::ENTRIES_MAX] })
    }

    /// What it says.
    pub fn archive(&self) -> &Archive<'static> {
        &self.archive
    }

    /// Address, in our CSpace, of the frame of a page of an entry.
    pub fn frame(entry: &Entry, page: u64) -> u64 {
        space::address(space::ARCHIVE, entry.offset / PAGE + page)
    }

    /// An entry and its bytes.
    pub fn read(
        &mut self,
        ipc: &mut Ipc,
        space: &mut Space,
        window: &mut Window,
        index: usize,
    ) -> Result<Option<(Entry, &'static [u8])>, koskit_abi::Error> {
        let Some(entry) = self.archive.get(index) else { return Ok(None) };
        if !self.mapped[index] {
            for page in 0..entry.size.div_ceil(PAGE) {
                let frame = Frame::at(Self::frame(&entry, page));
                window.map_archive(ipc, space, frame, entry.offset + page * PAGE)?;
            }
            self.mapped[index] = true;
        }
        // SAFETY: all its pages are mapped; no mapping is ever undone.
        let bytes = unsafe { Window::archive_bytes(entry.offset..entry.offset + entry.size) };
        Ok(Some((entry, bytes)))
    }
}
