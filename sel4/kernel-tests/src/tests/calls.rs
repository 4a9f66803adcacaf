//! Calls of the kernel that it must refuse, or at least survive.

use crate::failure::{Result, ensure_eq};
use crate::lab::{ASID_POOL, CNODE, Lab, TCB, slot_of};
use crate::program::program;
use core::ops::Range;
use koskit_abi::bootinfo::slot;
use koskit_abi::ipc::yield_now;
use koskit_abi::{Cap, Endpoint, Error, IrqControl, MessageInfo, Object, VSpace};

/// Maintenance, EL2's timer, the virtual timer: the kernel's own.
const RESERVED: [u64; 3] = [25, 26, 27];

pub fn the_kernels_interrupts_are_not_given_away(lab: &mut Lab) -> Result {
    let to = lab.slot();
    for irq in RESERVED {
        let got = IrqControl::at(slot::IRQ_CONTROL).get(&mut lab.ipc, irq, slot_of(to));
        ensure_eq!(format_args!("taking interrupt {irq}"), got, Err(Error::RevokeFirst));
    }
    let got = IrqControl::at(slot::IRQ_CONTROL).get(&mut lab.ipc, 1020, slot_of(to));
    ensure_eq!("taking an interrupt that is none", got, Err(Error::RangeError));
    IrqControl::at(slot::IRQ_CONTROL).get(&mut lab.ipc, 48, slot_of(to))?;
    Ok(())
}

/// A thread whose maximum is lower than what it asks for.
pub fn a_thread_cannot_raise_priorities_beyond_its_own_maximum(lab: &mut Lab) -> Result {
    // TCB_SetPriority (label 6) of the TCB at x0 to the priority in x2; the kernel looks at the
    // calling thread's maximum.
    let program = program!(
        "mov x1, #0x6001", // one word
        "mov x7, #-1",
        "svc #0",
        "lsr x1, x1, #12",
        "mov x7, #0x1000",
        "svc #0",
    );
    for (priority, error) in [(50, 0), (51, 4)] {
        let thread = lab.thread()?;
        thread.tcb.set_max_priority(&mut lab.ipc, TCB, 50)?;
        thread.start(lab, program, &[thread.tcb.0.0, 0, priority])?;
        let x = lab.report_of(thread)?.x;
        ensure_eq!(format_args!("the answer for priority {priority}"), x[1], error);
    }
    Ok(())
}

/// CNode_Mint with a badge of 64 bits: what an endpoint's capability has no room for is cut off.
/// The debug kernel stopped at it.
pub fn a_badge_that_is_too_long_is_cut(lab: &mut Lab) -> Result {
    let endpoint = lab.make(Object::Endpoint)?;
    let to = lab.slot();
    for (index, word) in [to, 64, endpoint, 64, 7, 0xffff_ffff_f000_0009].into_iter().enumerate() {
        lab.ipc.set_word(index, word);
    }
    lab.ipc.set_cap(0, CNODE.0);
    let mint = MessageInfo { label: 18, length: 6, caps: 1 };
    ensure_eq!("the answer", lab.ipc.call(Endpoint(CNODE.0), mint).label, 0);
    // Call through it
    let program = program!("mov x1, #0", "mov x7, #-1", "svc #0");
    lab.run(program, &[to])?;
    ensure_eq!("the badge", lab.receive(Endpoint::at(endpoint))?.1, 9);
    Ok(())
}

/// A generator of numbers (xorshift64*); the same in every run.
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

    /// A number at which something may go wrong.
    fn number(&mut self) -> u64 {
        const CORNERS: [u64; 12] = [0, 1, 2, 3, 4, 12, 63, 64, 4095, 4096, 1 << 31, u64::MAX];
        match self.below(5) {
            0 => self.of(&CORNERS),
            1 => self.next() % 64,
            // Addresses of user level, of the kernel, of neither
            2 => (self.next() & 0xfff) << 12,
            3 => (0xff80_0000_0000 | self.next() >> 24) & !0xfff,
            _ => 1 << self.below(64) | self.next() % 16,
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
    // What it does afterwards, it does right.
    let program = program!("mov x0, #5", "mov x7, #0x1000", "svc #0");
    ensure_eq!("a new thread's word", lab.outcome(program, &[])?.x[0], 5);
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
