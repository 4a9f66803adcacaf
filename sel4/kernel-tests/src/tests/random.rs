//! Random invocations and random instructions: whatever happens, the kernel goes on. The numbers
//! are the same in every run.

use crate::failure::{Result, ensure_eq};
use crate::guest::{Guest, PAGES, RAM, SPSR_EL1};
use crate::lab::{ASID_POOL, Lab, MILLISECOND, now, slot_of};
use crate::program::program;
use core::ops::Range;
use koskit_abi::bootinfo::slot;
use koskit_abi::ipc::yield_now;
use koskit_abi::{Cap, Endpoint, IrqControl, MessageInfo, Object, Registers, VSpace};

/// A generator of numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    fn of(&mut self, values: &[u64]) -> u64 {
        values[self.below(values.len())]
    }

    /// An instruction; every other one is about the system: its registers, its caches, exceptions.
    fn instruction(&mut self) -> u32 {
        let word = (self.next() >> 32) as u32;
        match self.below(4) {
            0 => 0xd500_0000 | word & 0x003f_ffff,
            1 => 0xd518_0000 | word & 0x0027_ffff,
            _ => word,
        }
    }

    /// A number at which something may go wrong.
    fn number(&mut self) -> u64 {
        const CORNERS: [u64; 12] = [0, 1, 2, 3, 4, 12, 63, 64, 4095, 4096, 1 << 31, u64::MAX];
        match self.below(5) {
            0 => self.of(&CORNERS),
            1 => self.next() % 64,
            // Addresses of user level, of the kernel, of neither
            2 => (self.next() & 0xfff) << 12,
            3 => (0xff80_0000_0000 | self.next() >> 24) & !0xfff,
            _ => (1 << self.below(64)) | (self.next() % 16),
        }
    }
}

/// How many calls are made.
const CALLS: u32 = 6000;

/// Kinds of objects with the labels of their invocations in this kernel, and how many of them
/// there are. None of them is ours.
const KINDS: [(Object, Range<u64>, usize); 10] = [
    (Object::Untyped { bits: 14 }, 1..2, 2),
    (Object::Tcb, 2..14, 3),
    (Object::CNode { bits: 4 }, 14..23, 2),
    (Object::VSpace, 28..32, 2),
    (Object::Table { level: 2 }, 32..34, 1),
    (Object::Table { level: 1 }, 34..36, 1),
    (Object::Vcpu, 36..41, 2),
    (Object::Table { level: 0 }, 41..43, 2),
    (Object::SmallFrame, 43..51, 3),
    (Object::LargeFrame, 43..51, 1),
];
/// Labels of a handler of an interrupt.
const IRQ_LABELS: Range<u64> = 24..27;
/// More labels than there are.
const ALL_LABELS: Range<u64> = 0..56;
/// The objects of all kinds, and a handler of an interrupt.
const INVOKED: usize = 20;

/// What is invoked, and what goes with it.
struct Objects {
    invoked: [(u64, Range<u64>); INVOKED],
    /// Those, nothing, an endpoint and a notification, on which an invocation would wait.
    passed: [u64; INVOKED + 3],
}

fn objects(lab: &mut Lab) -> Result<Objects> {
    let mut all = [const { (0, 0..0) }; INVOKED];
    let mut places = all.iter_mut();
    for (kind, labels, count) in KINDS {
        for _ in 0..count {
            let place = places.next().expect("as many places as objects");
            *place = (lab.make(kind)?, labels.clone());
        }
    }
    let irq = lab.slot();
    IrqControl::at(slot::IRQ_CONTROL).get(&mut lab.ipc, 50, slot_of(irq))?;
    *places.next().expect("a place for the interrupt") = (irq, IRQ_LABELS);
    let vspace = all.iter().find(|(_, labels)| labels.start == 28).expect("an address space");
    ASID_POOL.assign(&mut lab.ipc, VSpace::at(vspace.0))?;
    let mut passed = [lab.slot(); INVOKED + 3];
    for (to, from) in passed.iter_mut().zip(&all) {
        *to = from.0;
    }
    passed[INVOKED] = lab.make(Object::Endpoint)?;
    passed[INVOKED + 1] = lab.make(Object::Notification)?;
    Ok(Objects { invoked: all, passed })
}

/// Invokes objects of all kinds with whatever words and capabilities. That a call succeeds is
/// fine; that the kernel stops, or faults itself, is not.
pub fn no_invocation_stops_the_kernel(lab: &mut Lab) -> Result {
    let mut random = Random(0x6b6f_736b_6974_0001);
    let mut calls = 0;
    while calls < CALLS {
        let objects = objects(lab)?;
        for _ in 0..200 {
            invoke(lab, &objects, &mut random);
            calls += 1;
        }
        // Threads that run by now may do what they want for a moment.
        yield_now();
        lab.clean()?;
    }
    threads_are_well(lab)
}

/// What the kernel does afterwards, it does right: EL0 has what it should have, and nothing of
/// anybody else.
fn threads_are_well(lab: &mut Lab) -> Result {
    let page = lab.page()?;
    page.set_word(8, !0);
    let program = program!(
        "dc zva, x0",
        "mrs x1, tpidr_el0",
        "mrs x2, tpidrro_el0",
        "mrs x3, fpcr",
        "mov x4, v17.d[1]",
        "mrs x5, cntvct_el0",
        "mrs x6, cntpct_el0",
        "mov x7, #0x1000",
        "svc #0",
    );
    let x = lab.outcome(program, &[page.address])?.x;
    ensure_eq!("thread registers and FPU of a new thread", &x[1..5], &[0; 4]);
    ensure_eq!("whether both counters are the same", x[6] - x[5] < 1000 * MILLISECOND, true);
    ensure_eq!("a zeroed word", page.word(8), 0);
    Ok(())
}

fn invoke(lab: &mut Lab, objects: &Objects, random: &mut Random) {
    let (target, labels) = &objects.invoked[random.below(INVOKED)];
    let labels = if random.below(8) == 0 { &ALL_LABELS } else { labels };
    let label = labels.start + random.below((labels.end - labels.start) as usize) as u64;
    let length = random.below(8) + if random.below(8) == 0 { 36 } else { 0 };
    let info = MessageInfo { label, length, caps: random.below(4) };
    for word in 0..info.length {
        let number = random.number();
        lab.ipc.set_word(word, number);
    }
    for index in 0..info.caps {
        lab.ipc.set_cap(index, Cap(random.of(&objects.passed)));
    }
    lab.ipc.call(Endpoint::at(*target), info);
}

/// How many guests run random instructions, and how often each is helped to go on.
const GUESTS: u32 = 12;
const STOPS: u32 = 150;

pub fn no_instruction_of_a_guest_stops_the_kernel(lab: &mut Lab) -> Result {
    let mut random = Random(0x6b6f_736b_6974_0002);
    for _ in 0..GUESTS {
        let guests = [lab.guest()?, lab.guest()?];
        lab.map_gicv(&guests)?;
        run_at_random(lab, &guests, &mut random, SPSR_EL1)?;
        lab.clean()?;
    }
    threads_are_well(lab)
}

pub fn no_instruction_of_a_thread_stops_the_kernel(lab: &mut Lab) -> Result {
    let mut random = Random(0x6b6f_736b_6974_0003);
    for _ in 0..GUESTS {
        // A guest without its VCPU is a thread with an address space of its own.
        let threads = [lab.guest()?, lab.guest()?];
        for thread in threads {
            slot_of(thread.vcpu.0.0).delete(&mut lab.ipc)?;
        }
        run_at_random(lab, &threads, &mut random, 0)?;
        lab.clean()?;
    }
    threads_are_well(lab)
}

/// Fills the memory of guests with random instructions and runs them. One that stops or hangs
/// goes on somewhere else.
fn run_at_random(lab: &mut Lab, guests: &[Guest; 2], random: &mut Random, spsr: u64) -> Result {
    for guest in guests {
        for page in 0..PAGES {
            for offset in (0..4096).step_by(8) {
                let pair = u64::from(random.instruction()) << 32 | u64::from(random.instruction());
                guest.page(page).set_word(offset, pair);
            }
        }
        go_anywhere(lab, *guest, random, spsr)?;
    }
    let faults = lab.fault_endpoint()?;
    for _ in 0..STOPS {
        let stopped = lab.receive_until(faults, now() + MILLISECOND)?;
        match stopped.map(|(_, number)| number) {
            None => {
                for guest in guests {
                    go_anywhere(lab, *guest, random, spsr)?;
                }
            }
            Some(number) => {
                for guest in guests.iter().filter(|guest| guest.thread.number == number) {
                    go_anywhere(lab, *guest, random, spsr)?;
                }
            }
        }
    }
    Ok(())
}

fn go_anywhere(lab: &mut Lab, guest: Guest, random: &mut Random, spsr: u64) -> Result {
    let mut registers = Registers { spsr, ..Registers::default() };
    registers.pc = RAM + ((random.next() % (PAGES * 4096)) & !3);
    registers.sp = RAM + ((random.next() % (PAGES * 4096)) & !15);
    for x in &mut registers.x {
        *x = if random.below(2) == 0 { random.number() } else { RAM + random.next() % 0x8000 };
    }
    // By seL4's numbers: no system call that waits for somebody, else little would happen.
    registers.x[7] = 0x1000;
    Ok(guest.thread.tcb.write_registers(&mut lab.ipc, registers, true)?)
}
