//! What the host asks for, and the blobs that it has put into memory.
//!
//! The host is trusted with what it asks for, as who starts the machine, but nothing that it
//! sends can stop the root server: every number is checked, and what is refused changes nothing.

use crate::container::Refusal;
use crate::files::{Pages, close, open};
use crate::nodes::{Blob, Node};
use crate::serve::{Server, Source};
use crate::start;
use crate::virtio::Virtio;
use crate::window::Area;
use core::fmt::{self, Display, Write};
use koskit_abi::{CNode, Endpoint, Error, MessageInfo, Object, Result as Invoked, Untyped};
use koskit_root_server::buddy::TakeError;
use koskit_spec::info::request::READ_MAX;
use koskit_spec::layout::{INITRD_PAGES_MAX, PAGE};
use koskit_wire::{Digest, Event, Frame, Kind, Piece, Request, STATUS_KILLED, VERSION};

/// Buffers of the console that are looked at before anybody else is served again.
const AT_ONCE: usize = 8;

/// Why something was not done, as a sentence.
pub enum Failure {
    /// There is no such container.
    NoContainer,
    NoBlob,
    InUse,
    Known,
    Full,
    Size,
    Page,
    Memory,
    Kernel(Error),
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoContainer => "there is no such container",
            Self::NoBlob => "there is no such blob",
            Self::InUse => "a container uses it",
            Self::Known => "the machine has it already",
            Self::Full => "the machine has as many containers and blobs as it can have",
            Self::Size => "a blob must have between 0 and 536870912 bytes",
            Self::Page => "it is not the next page of the blob that is being put",
            Self::Memory => "there is not enough memory",
            Self::Kernel(error) => return write!(f, "{error}"),
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Kernel(error)
    }
}

/// What came of a request.
pub type Result<T> = core::result::Result<T, Failure>;

impl Server {
    /// Hears what has come from the host.
    pub fn hear(&mut self) {
        let Some(decoder) = self.decoder.take() else { return };
        let mut damaged = false;
        for _ in 0..AT_ONCE {
            let received = self.console.virtio().and_then(Virtio::received);
            let Some((buffer, bytes)) = received else { break };
            decoder.push(bytes, |piece| match piece {
                Piece::Frame(Frame { kind: Kind::Request, number, payload }) => {
                    match Request::parse(payload) {
                        Some(request) => self.answer(number, request),
                        None => damaged = true,
                    }
                }
                _ => damaged = true,
            });
            if let Some(virtio) = self.console.virtio() {
                virtio.done(buffer);
            }
        }
        self.decoder = Some(decoder);
        if damaged {
            self.console.tell(Event::Failed { tag: 0, reason: "what came was no request" });
        }
    }

    fn answer(&mut self, tag: u32, request: Request<'_>) {
        let done = match request {
            Request::Hello { .. } => {
                return self.console.tell(Event::Hello { tag, version: VERSION });
            }
            Request::Have { digest } => {
                let held = self.complete(&digest).is_some().into();
                return self.console.tell(Event::Blob { tag, held });
            }
            Request::Memory => {
                let (total, free) = (self.free_at_start, self.memory.free());
                let largest = self.memory.largest();
                return self.console.tell(Event::Memory { tag, total, free, largest });
            }
            Request::Create { container, bundle, program, initrd } => {
                return self.serve_create(container, bundle, program, initrd);
            }
            Request::Put { digest, size } => self.put(digest, size),
            Request::Page { index, bytes } => match self.page(index, bytes) {
                Ok(false) => return,
                other => other.map(drop),
            },
            Request::Drop { digest } => self.drop_blob(&digest),
            Request::Kill { container } => self.kill(container),
            Request::Input { container, bytes } => return self.input(container, bytes),
            Request::Stats { container } => {
                let index = self.nodes.numbered(container);
                match index.and_then(|index| self.nodes.container(index)) {
                    Some(container) => {
                        let memory = container.memory.bytes;
                        let (requests, written) = (container.requests, container.written);
                        let read = container.read;
                        let stats = Event::Stats { tag, memory, requests, written, read };
                        return self.console.tell(stats);
                    }
                    None => Err(Failure::NoContainer),
                }
            }
            Request::Caps { container, first } => match self.caps(tag, container, first) {
                Ok(()) => return,
                failed => failed,
            },
            Request::List => {
                for (_, container) in self.nodes.containers() {
                    self.console.tell(Event::Running { tag, container: container.number });
                }
                Ok(())
            }
        };
        match done {
            Ok(()) => self.console.tell(Event::Done { tag }),
            Err(failure) => {
                let reason = &mut crate::console::Text::default();
                let _ = write!(reason, "{failure}");
                self.console.tell(Event::Failed { tag, reason: reason.as_str() });
            }
        }
    }

    fn kill(&mut self, number: u32) -> Result<()> {
        let index = self.nodes.numbered(number).ok_or(Failure::NoContainer)?;
        let (container, ticks) = (number, start::ticks());
        self.console.tell(Event::Exited { container, status: STATUS_KILLED, ticks });
        self.remove(index);
        Ok(())
    }

    /// Answers a container that waits for its standard input.
    fn input(&mut self, number: u32, bytes: &[u8]) {
        let Some(index) = self.nodes.numbered(number) else { return };
        let Some(container) = self.nodes.container(index).filter(|c| c.asks > 0) else { return };
        let most = (container.asks as usize).min(READ_MAX);
        let bytes = &bytes[..bytes.len().min(most)];
        container.asks = 0;
        container.read += bytes.len() as u64;
        self.ipc.set_word(0, bytes.len() as u64);
        let mut length = 1;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.ipc.set_word(length, u64::from_le_bytes(word));
            length += 1;
        }
        let reply = crate::create::reply(self.slots(index));
        // Whoever waited may have been stopped by the container itself, and the right to answer has
        // gone with that: to send without waiting is then nothing, where to send were a fault of
        // ours.
        self.ipc.nb_send(Endpoint::at(reply), MessageInfo::new(0, length));
    }

    /// The index of a blob that is all there.
    pub fn complete(&mut self, digest: &Digest) -> Option<u16> {
        let index = self.nodes.named(digest)?;
        let blob = self.nodes.blob(index)?;
        (blob.pages == blob.size.div_ceil(PAGE)).then_some(index)
    }

    fn put(&mut self, digest: Digest, size: u64) -> Result<()> {
        if let Some(index) = self.putting.take() {
            self.forget(index)?;
        }
        if self.nodes.named(&digest).is_some() {
            return Err(Failure::Known);
        }
        let pages = size.div_ceil(PAGE);
        if pages > INITRD_PAGES_MAX {
            return Err(Failure::Size);
        }
        let index = self.nodes.free().ok_or(Failure::Full)?;
        let bits = pages.next_power_of_two().trailing_zeros().max(1);
        let slots = Object::CNode { bits };
        let needed = (1u64 << slots.size_bits()).max(PAGE) + pages * PAGE;
        let needed = needed.next_power_of_two().trailing_zeros();
        let memory = self.memory.take(&mut self.ipc, &self.space, needed);
        let memory = memory.map_err(|error| match error {
            TakeError::Kernel(error) => Failure::Kernel(error),
            TakeError::TooLarge | TakeError::TooMany => Failure::Memory,
        })?;
        self.nodes.set(index, Node::Blob(Blob { digest, size, pages: 0, users: 0, memory }));
        if let Err(error) = self.make_pages(index, memory.untyped, slots, pages) {
            let _ = self.forget(index);
            return Err(error.into());
        }
        if pages > 0 {
            self.putting = Some(index);
        }
        Ok(())
    }

    fn make_pages(&mut self, index: u16, of: Untyped, slots: Object, pages: u64) -> Invoked<()> {
        let cnode = CNode::at(self.slots(index));
        of.retype(&mut self.ipc, slots, self.space.kernels(), cnode.0.0, 1)?;
        let Object::CNode { bits } = slots else { return Ok(()) };
        self.space.set_node(&mut self.ipc, index, cnode, bits)?;
        let mut page = 0;
        while page < pages {
            let count = (pages - page).min(Untyped::RETYPE_MAX);
            of.retype(&mut self.ipc, Object::SmallFrame, cnode, page, count)?;
            page += count;
        }
        Ok(())
    }

    /// Takes a page; whether it is the last.
    fn page(&mut self, number: u32, bytes: &[u8]) -> Result<bool> {
        let index = self.putting.ok_or(Failure::Page)?;
        let blob = self.nodes.blob(index).ok_or(Failure::NoBlob)?;
        let (page, left) = (blob.pages, blob.size - blob.pages * PAGE);
        if u64::from(number) != page || bytes.len() as u64 != left.min(PAGE) {
            return Err(Failure::Page);
        }
        let pages = Pages { node: index, first: 0, size: blob.size };
        let Self { ipc, space, window, .. } = self;
        window
            .fill(ipc, space, pages.frame(page), |to| to[..bytes.len()].copy_from_slice(bytes))?;
        let last = page + 1 == pages.count();
        if let Some(blob) = self.nodes.blob(index) {
            blob.pages += 1;
        }
        if last {
            self.putting = None;
        }
        Ok(last)
    }

    fn drop_blob(&mut self, digest: &Digest) -> Result<()> {
        let index = self.nodes.named(digest).ok_or(Failure::NoBlob)?;
        if self.putting == Some(index) {
            self.putting = None;
        }
        self.forget(index)
    }

    fn forget(&mut self, index: u16) -> Result<()> {
        let blob = self.nodes.blob(index).ok_or(Failure::NoBlob)?;
        if blob.users > 0 {
            return Err(Failure::InUse);
        }
        let memory = blob.memory;
        self.nodes.set(index, Node::Free);
        self.give_back(memory, 0);
        Ok(())
    }

    fn serve_create(&mut self, number: u32, bundle: Digest, program: Digest, initrd: Digest) {
        let asked = start::ticks();
        let created = self.create_of_blobs(number, [bundle, program, initrd]);
        self.tell_created(number, asked, created);
    }

    fn create_of_blobs(
        &mut self,
        number: u32,
        digests: [Digest; 3],
    ) -> core::result::Result<(), Refusal> {
        if number == 0 || self.nodes.numbered(number).is_some() {
            return Err(Refusal::Other("its number is that of another container"));
        }
        let mut blob = |digest: &Digest, what| {
            let index = self.complete(digest).ok_or(Refusal::Reference(what))?;
            let size = self.nodes.blob(index).map_or(0, |blob| blob.size);
            Ok(Pages { node: index, first: 0, size })
        };
        let [bundle, program, initrd] = digests;
        let bundle = blob(&bundle, "bundle")?;
        let program = blob(&program, "program")?;
        let initrd = blob(&initrd, "initrd")?;
        let created = self.create_of_pages(number, bundle, program, initrd);
        close(&mut self.ipc, bundle);
        close(&mut self.ipc, program);
        created
    }

    fn create_of_pages(
        &mut self,
        number: u32,
        bundle: Pages,
        program: Pages,
        initrd: Pages,
    ) -> core::result::Result<(), Refusal> {
        let Self { ipc, space, window, .. } = self;
        let mut open = |area, pages| {
            open(ipc, space, window, area, pages)
                .map_err(|error| Refusal::Kernel("read its blobs", error))?
                .ok_or(Refusal::Other("its program or its bundle is too large"))
        };
        let (bundle, program) = (open(Area::Bundle, bundle)?, open(Area::Program, program)?);
        let blobs = [program.pages.node, initrd.node];
        self.create(number, Source { bundle, program, initrd, blobs })
    }
}
