//! The life of libkos: it starts the program, then serves its calls.

use crate::gate::{self, Block};
use crate::machine::{Machine, fail};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use koskit_libkos::kos::{Kos, interpreter_path};
use koskit_libkos::process;
use koskit_spec::contract::Process;
use koskit_spec::info::Info;
use koskit_spec::layout::{INFO_BASE, INITRD_BASE, PAGE, STACK_TOP};

/// Exit status where the container could not be started, as shells have it.
const CANNOT_START: u8 = 126;
/// Exit status where libkos itself failed, as docker has it.
const FAILED: u8 = 125;

/// The state of the container: written by `start`, then used by one call at a time.
static KOS: State = State(UnsafeCell::new(MaybeUninit::uninit()));

struct State(UnsafeCell<MaybeUninit<Kos<'static, Machine>>>);

// SAFETY: a container has one thread, and a call does not interrupt another.
unsafe impl Sync for State {}

/// Where the first thread begins, on libkos's stack.
pub extern "C" fn start() -> ! {
    gate::open();
    match prepare() {
        Ok((entry, sp)) => gate::enter(entry, sp),
        Err(reason) => fail(CANNOT_START, format_args!("{reason}")),
    }
}

/// Serves the call whose registers are in the block: returns what goes to x0.
pub extern "C" fn serve(block: &Block) -> u64 {
    let [a, b, c, d, e, f, ..] = block.x;
    // SAFETY: see `Sync` for `State`; the program runs only after `start` has written it.
    let kos = unsafe { (*KOS.0.get()).assume_init_mut() };
    kos.call(block.x[8], [a, b, c, d, e, f])
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
    let sp = process::stack(stack, STACK_TOP, &info, base, &process, random)
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
