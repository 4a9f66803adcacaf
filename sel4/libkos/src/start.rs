//! The life of libkos: it starts the program, then serves its calls.

use crate::gate::{self, Block};
use crate::lock;
use crate::machine::{Machine, fail, stop};
use crate::vdso;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use koskit_abi::{Notification, ipc};
use koskit_libkos::kos::{Cause, Kos, Next, interpreter_path};
use koskit_libkos::process;
use koskit_spec::contract::Process;
use koskit_spec::info::Info;
use koskit_spec::layout::{INFO_BASE, INITRD_BASE, PAGE, STACK_TOP, slot};

/// Exit status where the container could not be started, as shells have it.
const CANNOT_START: u8 = 126;
/// Exit status where libkos itself failed, as docker has it.
const FAILED: u8 = 125;

/// The state of the container: written by `start`, then used by whoever has the lock.
static KOS: State = State(UnsafeCell::new(MaybeUninit::uninit()));

struct State(UnsafeCell<MaybeUninit<Kos<'static, Machine>>>);

// SAFETY: one thread at a time has the lock, and there is one thread only before it is used.
unsafe impl Sync for State {}

/// Where the first thread begins, on libkos's stack.
pub extern "C" fn start() -> ! {
    match prepare() {
        Ok((entry, sp)) => gate::enter(entry, sp),
        Err(reason) => fail(CANNOT_START, format_args!("{reason}")),
    }
}

/// Serves the call whose registers are in the block, until it has its answer. Runs on the little
/// stack in the block's page.
pub extern "C" fn serve(block: *mut Block) {
    run(block, CALL);
}

/// Has a thread see to its signals, and to what it was led here for.
pub extern "C" fn attend(block: *mut Block) {
    run(block, ATTEND);
}

#[inline]
fn run(block: *mut Block, why: u64) {
    lock::take();
    loop {
        // SAFETY: it is this thread's own block, which nobody else touches with the lock taken.
        let (notification, tcb) = unsafe { ((*block).notification, (*block).tcb) };
        // SAFETY: we have the lock, and come from the program.
        match unsafe { gate::with_stack(block, why) } {
            GO => break lock::give(),
            WAIT => {
                lock::give();
                ipc::wait(Notification::at(notification));
                lock::take();
            }
            FAULT => {
                lock::give();
                gate::refault(block);
            }
            _ => {
                // From here on another thread may get the block.
                lock::give();
                stop(tcb);
            }
        }
    }
}

const GO: u64 = 0;
const WAIT: u64 = 1;
const END: u64 = 2;
const FAULT: u64 = 3;

const CALL: u64 = 0;
const ATTEND: u64 = 1;

/// Does with the lock taken, on libkos's own stack, what `serve` asks for. Without a block the
/// time has passed.
pub extern "C" fn answer(block: *mut Block, why: u64) -> u64 {
    // SAFETY: see `Sync` for `State`; the program runs only after `start` has written it.
    let kos = unsafe { (*KOS.0.get()).assume_init_mut() };
    // SAFETY: where there is one, it is the calling thread's own.
    let Some(block) = (unsafe { block.as_mut() }) else {
        kos.tick();
        return GO;
    };
    let place = block.place as usize;
    let next = if why == CALL {
        kos.serve(place, &mut block.context)
    } else {
        block.give_attention();
        let cause = core::mem::replace(&mut block.cause, Cause::Signal);
        kos.attend(place, &mut block.context, cause)
    };
    match next {
        Next::Go => GO,
        Next::Wait => WAIT,
        Next::End => END,
        Next::Fault => FAULT,
    }
}

/// The thread that waits for the timer.
pub extern "C" fn clock() -> ! {
    loop {
        ipc::wait(Notification::at(slot::TIMER));
        lock::take();
        // SAFETY: we have the lock, and a stack of our own.
        unsafe { gate::with_stack(core::ptr::null_mut(), ATTEND) };
        lock::give();
    }
}

/// Sets up the container's state and the program's stack: entry point and stack pointer.
fn prepare() -> Result<(u64, u64), &'static str> {
    let strange = "the root server's information is not of this version";
    let info = Info::from_bytes(mapped(INFO_BASE, Info::SIZE as u64)).ok_or(strange)?;
    let block = mapped(INFO_BASE + Info::SIZE as u64, info.process_size.into());
    let process = Process::from_bytes(block).ok_or(strange)?;
    let archive = mapped(INITRD_BASE, info.initrd_size);
    let machine = Machine::new(&info)
        .map_err(|_| "the memory handed to the container is too little for the list of it")?;
    let kos = Kos::new(machine, info, process.cwd(), archive)?;
    // SAFETY: see `Sync` for `State`.
    let kos = unsafe { (*KOS.0.get()).write(kos) };
    kos.describe(process);
    let size = info.stack_pages * PAGE;
    // SAFETY: the root server has mapped the program's stack there; nothing runs on it yet.
    let stack =
        unsafe { core::slice::from_raw_parts_mut((STACK_TOP - size) as *mut u8, size as usize) };
    let random = kos.random();
    let interpreter = match interpreter_path(info.phdr, info.phnum, info.load_bias) {
        Some(path) => Some(kos.interpreter(path)?),
        None => None,
    };
    let base = interpreter.map_or(0, |interpreter| interpreter.base);
    let sp = process::stack(stack, STACK_TOP, &info, [base, vdso::address()], &process, random)
        .ok_or("arguments and environment take more than half of the stack")?;
    Ok((interpreter.map_or(info.entry, |interpreter| interpreter.entry), sp))
}

/// Memory that the root server has mapped read-only for as long as the container lives.
fn mapped(address: u64, size: u64) -> &'static [u8] {
    if size == 0 {
        return &[];
    }
    // SAFETY: addresses and sizes are those of `layout` and `Info`; nobody writes there.
    unsafe { core::slice::from_raw_parts(address as *const u8, size as usize) }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(FAILED, format_args!("{info}"))
}
