//! Bytes that become pages of containers: entries of the boot archive, and blobs from the host.
//! Their pages are frames, which are mapped here while we must read them, and into containers,
//! read-only, without a copy.
//!
//! The boot archive lies in memory that the kernel does not touch, and stays mapped where it was
//! read once.

use crate::memory::Memory;
use crate::serve::Stop;
use crate::space::{self, Space};
use crate::window::{Area, Window};
use koskit_abi::{CNode, Frame, Ipc, Object, Untyped};
use koskit_spec::archive::{Archive, ENTRIES_MAX, Entry};
use koskit_spec::layout::{LARGE_PAGE, PAGE};

/// Bytes that lie in frames, whose capabilities are in slots of a node one after the other.
#[derive(Clone, Copy)]
pub struct Pages {
    /// The node.
    pub node: u16,
    /// The slot of the first frame.
    pub first: u64,
    /// How many bytes.
    pub size: u64,
}

impl Pages {
    /// Of an entry of the boot archive.
    pub fn of_entry(entry: &Entry) -> Self {
        Self { node: space::ARCHIVE, first: entry.offset / PAGE, size: entry.size }
    }

    /// How many pages.
    pub fn count(&self) -> u64 {
        self.size.div_ceil(PAGE)
    }

    /// The frame of a page.
    pub fn frame(&self, page: u64) -> Frame {
        Frame::at(space::address(self.node, self.first + page))
    }
}

/// Such bytes, mapped here.
#[derive(Clone, Copy)]
pub struct File {
    /// Where they lie.
    pub pages: Pages,
    /// The bytes. Those of a blob are gone when its area is closed.
    pub bytes: &'static [u8],
}

/// The boot archive, opened.
pub struct Files {
    archive: Archive<'static>,
    /// By entry: whether it is mapped in our window.
    mapped: [bool; ENTRIES_MAX],
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
        window.map(ipc, space, Frame::at(first), Area::Archive.at(0)).map_err(failed)?;
        // SAFETY: the first page has just been mapped.
        let header = unsafe { Window::bytes(Area::Archive.at(0), PAGE) };
        let archive = Archive::from_page(header).map_err(Stop::Archive)?;

        let pages = archive.size / PAGE;
        let bits = pages.next_power_of_two().trailing_zeros().max(1);
        let slots = Object::CNode { bits };
        // Of this the page tables for all areas are made, too.
        let tables = archive.size.div_ceil(LARGE_PAGE) + Area::TABLES;
        let needed = (1 << slots.size_bits()) + tables * PAGE;
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
        Ok(Self { archive, mapped: [false; ENTRIES_MAX] })
    }

    /// What it says.
    pub fn archive(&self) -> &Archive<'static> {
        &self.archive
    }

    /// An entry and its bytes.
    pub fn read(
        &mut self,
        ipc: &mut Ipc,
        space: &mut Space,
        window: &mut Window,
        index: usize,
    ) -> Result<Option<(Entry, File)>, koskit_abi::Error> {
        let Some(entry) = self.archive.get(index) else { return Ok(None) };
        let pages = Pages::of_entry(&entry);
        if !self.mapped[index] {
            for page in 0..pages.count() {
                let at = Area::Archive.at(entry.offset + page * PAGE);
                window.map(ipc, space, pages.frame(page), at)?;
            }
            self.mapped[index] = true;
        }
        // SAFETY: all its pages are mapped; no mapping of the archive is ever undone.
        let bytes = unsafe { Window::bytes(Area::Archive.at(entry.offset), entry.size) };
        Ok(Some((entry, File { pages, bytes })))
    }
}

/// Maps a blob into an area of which nothing is mapped; `None` where it is larger than that.
pub fn open(
    ipc: &mut Ipc,
    space: &mut Space,
    window: &mut Window,
    area: Area,
    pages: Pages,
) -> Result<Option<File>, koskit_abi::Error> {
    if pages.size > area.size() {
        return Ok(None);
    }
    for page in 0..pages.count() {
        window.map(ipc, space, pages.frame(page), area.at(page * PAGE))?;
    }
    // SAFETY: all its pages are mapped. They are until `close`, after which nobody has the bytes:
    // whoever creates a container forgets them with what it was created from.
    let bytes = unsafe { Window::bytes(area.at(0), pages.size) };
    Ok(Some(File { pages, bytes }))
}

/// Unmaps what `open` has mapped, also where it failed.
pub fn close(ipc: &mut Ipc, pages: Pages) {
    for page in 0..pages.count() {
        // A frame that was never mapped is none that could stay so.
        let _ = pages.frame(page).unmap(ipc);
    }
}
