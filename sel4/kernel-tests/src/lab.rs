//! What a test works with: memory, slots, pages, a clock that ends all waiting.

use crate::console;
use crate::failure::{Result, fail};
use core::arch::asm;
use koskit_abi::bootinfo::slot;
use koskit_abi::{
    AsidPool, Attributes, BootInfo, CNode, Cap, Endpoint, Error, Fault, Frame, Ipc, IrqControl,
    IrqHandler, MessageInfo, Notification, Object, Rights, Slot, Table, Tcb, Untyped, VSpace,
};

/// Our own TCB, CNode and address space.
pub const TCB: Tcb = Tcb::at(slot::TCB);
pub const CNODE: CNode = CNode::at(slot::CNODE);
pub const VSPACE: VSpace = VSpace::at(slot::VSPACE);
pub const ASID_POOL: AsidPool = AsidPool::at(slot::ASID_POOL);

/// log2 of the bytes of a test's memory.
pub const MEMORY_BITS: u32 = 24;
/// Ticks of the counters in a millisecond.
pub const MILLISECOND: u64 = 62_500;
/// Interrupt of the EL1 physical timer.
pub const TIMER_IRQ: u64 = 30;

/// Badge of the timer's notification; threads have small numbers.
const TIMER_BADGE: u64 = 1 << 27;
/// How long anything may take. Long, for on a loaded host the machine gets little time.
const PATIENCE: u64 = 15_000 * MILLISECOND;
/// Where tests' pages are mapped.
const PAGES: u64 = 0x1000_0000;

/// A page of memory in our own address space.
#[derive(Clone, Copy)]
pub struct Page {
    pub frame: Frame,
    pub address: u64,
}

impl Page {
    /// A word of it, by its offset in bytes.
    pub fn word(self, offset: u64) -> u64 {
        assert!(offset % 8 == 0 && offset < 4096, "inside of the page");
        // SAFETY: the page is mapped until the test ends; volatile, for threads write it.
        unsafe { ((self.address + offset) as *const u64).read_volatile() }
    }

    /// Sets a word.
    pub fn set_word(self, offset: u64, word: u64) {
        assert!(offset % 8 == 0 && offset < 4096, "inside of the page");
        // SAFETY: as above; nothing of Rust's own lies in it.
        unsafe { ((self.address + offset) as *mut u64).write_volatile(word) }
    }

    /// Copies bytes to an offset.
    pub fn write(self, offset: u64, bytes: &[u8]) {
        assert!(offset + bytes.len() as u64 <= 4096, "inside of the page");
        for (at, byte) in (self.address + offset..).zip(bytes) {
            // SAFETY: as above.
            unsafe { (at as *mut u8).write_volatile(*byte) }
        }
    }
}

/// Everything that a test can use.
pub struct Lab {
    pub ipc: Ipc,
    info: BootInfo<'static>,
    memory: Untyped,
    /// First slot of the tests, and the next that is free.
    slots: (u64, u64),
    next_page: u64,
    /// The next thread's number.
    pub(crate) next_thread: u64,
    /// Where threads' faults arrive; made when the first thread is.
    pub(crate) faults: Option<Endpoint>,
    /// Our own notification, by which the timer wakes us.
    pub timer: Notification,
    timer_handler: IrqHandler,
}

impl Lab {
    /// Sets the lab up, and the console.
    ///
    /// # Safety
    /// `info` is what the kernel passed to us; this is called once.
    pub unsafe fn open(info: u64) -> Self {
        // SAFETY: as the caller promises; nobody writes to it.
        let info = unsafe { BootInfo::at(info) };
        // SAFETY: the kernel has mapped it there, for ever; and this is the only one.
        let ipc = unsafe { Ipc::new(info.ipc_buffer()) };
        let mut untypeds = info.untypeds();
        let all = untypeds.find(|untyped| !untyped.device && untyped.bits > MEMORY_BITS);
        let all = Untyped::at(all.expect("the kernel gives us memory").slot);
        let first = info.empty().start;
        let mut lab = Self {
            ipc,
            info,
            memory: all,
            slots: (first, first),
            next_page: PAGES,
            next_thread: 1,
            faults: None,
            timer: Notification::at(first),
            timer_handler: IrqHandler::at(first),
        };
        lab.set_up().expect("what every test needs can be made");
        lab
    }

    fn set_up(&mut self) -> core::result::Result<(), Error> {
        let uart = self.device(console::DEVICE)?;
        self.map(VSPACE, uart, console::ADDRESS, Rights::READ_WRITE, Attributes::DEVICE)?;

        let plain = self.make(Object::Notification)?;
        let badged = self.slot();
        slot_of(badged).mint_badged(&mut self.ipc, slot_of(plain), Rights::ALL, TIMER_BADGE)?;
        let handler = self.slot();
        IrqControl::at(slot::IRQ_CONTROL).get(&mut self.ipc, TIMER_IRQ, slot_of(handler))?;
        self.timer = Notification::at(plain);
        self.timer_handler = IrqHandler::at(handler);
        self.timer_handler.set_notification(&mut self.ipc, Notification::at(badged))?;
        TCB.bind_notification(&mut self.ipc, self.timer)?;
        // The right to use the timer comes with the next switch to this thread.
        koskit_abi::ipc::yield_now();

        // The tests' part of it can be revoked without what was made above.
        self.memory = Untyped::at(self.make(Object::Untyped { bits: MEMORY_BITS })?);
        self.slots.0 = self.slots.1;
        Ok(())
    }

    /// Forgets all that a test has made.
    pub fn clean(&mut self) -> Result {
        slot_of(self.memory.0.0).revoke(&mut self.ipc)?;
        for untyped in self.info.untypeds() {
            if untyped.device && untyped.address != console::DEVICE {
                slot_of(untyped.slot).revoke(&mut self.ipc)?;
            }
        }
        // Nothing should be left; but what is not made of memory (interrupts) may be.
        for index in self.slots.0..self.slots.1 {
            slot_of(index).delete(&mut self.ipc)?;
        }
        self.slots.1 = self.slots.0;
        self.next_page = PAGES;
        self.next_thread = 1;
        self.faults = None;
        Ok(())
    }

    /// The tests' memory: 2^[`MEMORY_BITS`] bytes, of which [`Lab::make`] makes everything.
    pub fn memory(&self) -> Untyped {
        self.memory
    }

    /// log2 of the slots of our CNode.
    pub fn cnode_bits(&self) -> u32 {
        self.info.cnode_bits()
    }

    /// An empty slot of our CNode.
    pub fn slot(&mut self) -> u64 {
        self.slots_for(1)
    }

    /// The first of a row of empty slots.
    pub fn slots_for(&mut self, count: u64) -> u64 {
        let first = self.slots.1;
        self.slots.1 += count;
        assert!(self.slots.1 <= self.info.empty().end, "slots enough");
        first
    }

    /// Makes an object; returns its slot.
    pub fn make(&mut self, object: Object) -> core::result::Result<u64, Error> {
        let slot = self.slot();
        self.memory.retype(&mut self.ipc, object, CNODE, slot, 1)?;
        Ok(slot)
    }

    /// A frame of a device, by its physical address: the beginning of an untyped.
    pub fn device(&mut self, address: u64) -> core::result::Result<Frame, Error> {
        let untyped = self.device_untyped(address);
        let slot = self.slot();
        untyped.retype(&mut self.ipc, Object::SmallFrame, CNODE, slot, 1)?;
        Ok(Frame::at(slot))
    }

    /// The untyped of a device, by its physical address.
    pub fn device_untyped(&self, address: u64) -> Untyped {
        let mut untypeds = self.info.untypeds();
        let found = untypeds.find(|untyped| untyped.device && untyped.address == address);
        Untyped::at(found.expect("the kernel has this device untyped").slot)
    }

    /// Maps a frame, and makes the page tables that it needs.
    pub fn map(
        &mut self,
        vspace: VSpace,
        frame: Frame,
        address: u64,
        rights: Rights,
        attributes: Attributes,
    ) -> core::result::Result<(), Error> {
        loop {
            match frame.map(&mut self.ipc, vspace, address, rights, attributes) {
                Err(Error::FailedLookup) => {
                    let level = match self.ipc.missing_bits() {
                        21 => 0,
                        30 => 1,
                        _ => 2,
                    };
                    let table = Table::at(self.make(Object::Table { level })?);
                    table.map(&mut self.ipc, level, vspace, address)?;
                }
                other => return other,
            }
        }
    }

    /// An address range of our own at which nothing is mapped.
    pub fn addresses(&mut self, pages: u64) -> u64 {
        let address = self.next_page;
        // A page stays free behind each, so that whoever runs over its end is noticed.
        self.next_page += (pages + 1) * 4096;
        address
    }

    /// A new page, mapped for reading and writing.
    pub fn page(&mut self) -> Result<Page> {
        self.page_with(Rights::READ_WRITE, Attributes::DATA)
    }

    /// A new page, mapped in a certain way.
    pub fn page_with(&mut self, rights: Rights, attributes: Attributes) -> Result<Page> {
        let frame = Frame::at(self.make(Object::SmallFrame)?);
        let address = self.addresses(1);
        self.map(VSPACE, frame, address, rights, attributes)?;
        Ok(Page { frame, address })
    }

    /// Copies a capability of our CNode to a new slot of it.
    pub fn copy(&mut self, cap: Cap, rights: Rights) -> Result<u64> {
        let to = self.slot();
        slot_of(to).copy(&mut self.ipc, slot_of(cap.0), rights)?;
        Ok(to)
    }

    /// Waits for a message, but not for ever.
    pub fn receive(&mut self, from: Endpoint) -> Result<(MessageInfo, u64)> {
        match self.receive_until(from, now() + PATIENCE)? {
            Some(received) => Ok(received),
            None => fail!("nothing happened for 15 seconds"),
        }
    }

    /// Waits for a message until the physical counter has reached a value.
    pub fn receive_until(
        &mut self,
        from: Endpoint,
        until: u64,
    ) -> Result<Option<(MessageInfo, u64)>> {
        set_timer(until);
        let received = loop {
            let (info, badge) = self.ipc.recv(from);
            if badge & TIMER_BADGE == 0 {
                break Some((info, badge));
            }
            // A late interrupt of an earlier wait comes before the time.
            self.timer_handler.acknowledge(&mut self.ipc)?;
            if now() >= until {
                break None;
            }
        };
        stop_timer();
        Ok(received)
    }

    /// Lets others run for some milliseconds; fails where a thread faults meanwhile.
    pub fn sleep(&mut self, milliseconds: u64) -> Result {
        let faults = self.fault_endpoint()?;
        match self.receive_until(faults, now() + milliseconds * MILLISECOND)? {
            None => Ok(()),
            Some((info, badge)) => {
                let fault = Fault::decode(info, &self.ipc);
                fail!("thread {badge} stopped by itself: {fault:#x?}")
            }
        }
    }

    /// Lets others run until a condition holds. On a loaded host they may get nothing for longer
    /// than one expects.
    pub fn run_until(&mut self, condition: impl Fn() -> bool) -> Result {
        for _ in 0..1000 {
            if condition() {
                return Ok(());
            }
            self.sleep(2)?;
        }
        fail!("the others do not run")
    }

    /// Where threads' faults arrive.
    pub fn fault_endpoint(&mut self) -> Result<Endpoint> {
        if let Some(endpoint) = self.faults {
            return Ok(endpoint);
        }
        let endpoint = Endpoint::at(self.make(Object::Endpoint)?);
        self.faults = Some(endpoint);
        Ok(endpoint)
    }
}

/// A slot of our own CNode.
pub fn slot_of(index: u64) -> Slot {
    Slot { root: CNODE, index, depth: 64 }
}

/// The physical counter, in ticks.
pub fn now() -> u64 {
    let ticks;
    // SAFETY: reads a counter.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

fn set_timer(ticks: u64) {
    // SAFETY: the physical timer is ours.
    unsafe {
        asm!(
            "msr cntp_cval_el0, {}",
            "msr cntp_ctl_el0, {}",
            "isb",
            in(reg) ticks,
            in(reg) 1u64,
            options(nomem, nostack)
        );
    }
}

fn stop_timer() {
    // SAFETY: the physical timer is ours.
    unsafe { asm!("msr cntp_ctl_el0, xzr", "isb", options(nomem, nostack)) };
}
