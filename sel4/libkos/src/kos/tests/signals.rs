//! Signals: who gets one, the frame of the handler, and calls that are interrupted.

use super::*;
use std::boxed::Box;

const HANDLER: u64 = 0x40_0000;
const USR1: u64 = 10;
const USR2: u64 = 12;
const ALRM: u64 = 14;
const SEGV: u64 = 11;
const SIGINFO: u64 = 4;
const ONSTACK: u64 = 0x0800_0000;
const RESTART: u64 = 0x1000_0000;
const NODEFER: u64 = 0x4000_0000;
const RESETHAND: u64 = 0x8000_0000;
const PTHREAD: u64 = 0x7d_0f00;

/// A thread with a stack of its own; leaked, as the stack's address stays in use.
fn thread(number: u64, arguments: &[u64]) -> Context {
    let stack = Box::leak(Box::new([0u128; 4096]));
    let mut context = registers(number, arguments);
    context.sp = stack.as_ptr_range().end as u64;
    context
}

fn handle(kos: &mut Test, signal: u64, flags: u64, mask: u64) {
    let action = [HANDLER + signal, flags, 0, mask];
    assert_eq!(call(kos, RT_SIGACTION, &[signal, action.as_ptr() as u64, 0, 8]), Ok(0));
}

/// A call of a thread that is over at once, after which it attends to its signals.
fn serve(kos: &mut Test, place: usize, context: &mut Context) {
    assert_eq!(kos.serve(place, context), Next::Go);
    attend(kos, place, context);
}

fn block(kos: &mut Test, set: u64) {
    assert_eq!(call(kos, RT_SIGPROCMASK, &[2, &raw const set as u64, 0, 8]), Ok(0));
}

fn word(address: u64) -> u64 {
    let [word] = crate::user::words(address).unwrap();
    word
}

/// Sends the first thread a signal, from somewhere else.
fn send(kos: &mut Test) {
    kos.current = usize::MAX;
    kos.send(USR1, Some(0), crate::kos::signals::Siginfo::of_kernel()).unwrap();
}

#[test]
fn a_handler_finds_the_frame_of_linux_and_returns_from_it() {
    let mut kos = kos();
    handle(&mut kos, USR1, SIGINFO, 1 << (USR2 - 1));
    let mut context = thread(TGKILL, &[1, 1, USR1]);
    context.x[19] = 1919;
    (context.pc, context.way) = (0x1234, crate::context::way::ALL);
    (context.x[29], context.x[30], context.nzcv) = (2929, 3030, 0x6000_0000);
    let before = context;
    serve(&mut kos, 0, &mut context);
    let frame = context.sp;
    assert_eq!((context.pc, context.x[0], context.x[30]), (HANDLER + USR1, USR1, SIGRETURN));
    assert_eq!((context.x[1], context.x[2]), (frame, frame + 128));
    assert_eq!(context.x[29], frame + 4688);
    assert_eq!((word(context.x[29]), word(context.x[29] + 8)), (2929, 3030));
    // siginfo_t: SI_TKILL, from process 1.
    assert_eq!((word(frame), word(frame + 8) as i32, word(frame + 16)), (USR1, -6, 1));
    // The alternate stack is disabled; nothing was blocked.
    assert_eq!([144, 152, 160, 168].map(|at| word(frame + at)), [0, 2, 0, 0]);
    // sigcontext, and the record of the vector registers.
    assert_eq!((word(frame + 312), word(frame + 312 + 19 * 8)), (0, 1919));
    assert_eq!([560, 568, 576].map(|at| word(frame + at)), [before.sp, 0x1234, 0x6000_0000]);
    assert_eq!(word(frame + 592), 528 << 32 | 0x4650_8001);
    assert_eq!(
        (word(frame + 608), word(frame + 608 + 504)),
        (0x77 * (!0 / 255), 0x77 * (!0 / 255))
    );
    assert_eq!((word(frame + 1120), word(frame + 1128)), (0, 0));

    // While it runs, its own signal and those of its mask wait.
    let mut inner = registers(TGKILL, &[1, 1, USR2]);
    inner.sp = context.sp;
    serve(&mut kos, 0, &mut inner);
    assert_eq!((inner.sp, inner.x[0]), (context.sp, 0));
    handle(&mut kos, USR2, 0, 0);
    let mut context = Context { sp: frame, ..registers(RT_SIGRETURN, &[]) };
    // The handler changes a register of the interrupted function.
    crate::user::set_words(frame + 312 + 19 * 8, &[77]).unwrap();
    assert_eq!(kos.serve(0, &mut context), Next::Go);
    assert_eq!((context.x[19], context.pc, context.sp), (77, 0x1234, before.sp));
    assert_eq!((context.nzcv, context.x[0]), (0x6000_0000, 0));
}

#[test]
fn blocked_signals_wait_and_come_once_or_in_real_time_each_time() {
    let mut kos = kos();
    let real = 34;
    handle(&mut kos, USR1, 0, 0);
    handle(&mut kos, real, 0, 0);
    block(&mut kos, !0);
    for signal in [USR1, USR1, real, real] {
        assert_eq!(call(&mut kos, TGKILL, &[1, 1, signal]), Ok(0));
    }
    let pending = 0u64;
    assert_eq!(call(&mut kos, RT_SIGPENDING, &[at(&pending), 8]), Ok(0));
    assert_eq!(word(at(&pending)), 1 << (USR1 - 1) | 1 << (real - 1));
    let set = [0u64];
    let mut context = thread(RT_SIGPROCMASK, &[2, at(&set), 0, 8]);
    let top = context.sp;
    serve(&mut kos, 0, &mut context);
    // The lowest number was taken first, and so its frame is the outermost.
    assert_eq!((context.pc, top - context.sp), (HANDLER + real, 2 * (4688 + 16)));
    let mut context = Context { sp: context.sp, ..registers(RT_SIGRETURN, &[]) };
    serve(&mut kos, 0, &mut context);
    assert_eq!((context.pc, top - context.sp), (HANDLER + real, 2 * (4688 + 16)));
}

fn at<T>(of: &T) -> u64 {
    of as *const T as u64
}

#[test]
fn a_waiting_call_is_interrupted_or_made_again() {
    let mut kos = kos();
    let ends = [0u32; 2];
    assert_eq!(call(&mut kos, PIPE2, &[at(&ends), 0]), Ok(0));
    let byte = 0u8;
    for (flags, x0, pc) in [(0, Errno::encode(Err(Errno::INTR)), 104), (RESTART, 3, 100)] {
        handle(&mut kos, USR1, flags, 0);
        let mut context = thread(READ, &[3, at(&byte), 1]);
        (context.pc, context.way) = (104, crate::context::way::ALL);
        assert_eq!(kos.serve(0, &mut context), Next::Wait);
        // Somebody else sends it.
        send(&mut kos);
        assert_eq!(core::mem::take(&mut kos.system().woken), [0]);
        assert_eq!(kos.serve(0, &mut context), Next::Go);
        assert_eq!(context.pc, HANDLER + USR1);
        assert_eq!((word(context.sp + 312), word(context.sp + 568)), (x0, pc));
        let mut context = Context { sp: context.sp, ..registers(RT_SIGRETURN, &[]) };
        serve(&mut kos, 0, &mut context);
    }
    // Who does not want to know of it waits on.
    let ignore = [1u64, 0, 0, 0];
    assert_eq!(call(&mut kos, RT_SIGACTION, &[USR1, at(&ignore), 0, 8]), Ok(0));
    let mut context = thread(READ, &[3, at(&byte), 1]);
    assert_eq!(kos.serve(0, &mut context), Next::Wait);
    send(&mut kos);
    assert_eq!(kos.system().woken, []);
    // A sleep is never made again, and tells what was left of it.
    kos.threads[0].attempt = wait::Attempt::default();
    handle(&mut kos, USR1, RESTART, 0);
    let (time, rest) = ([5u64, 0], [0u64; 2]);
    let mut context = thread(NANOSLEEP, &[at(&time), at(&rest)]);
    assert_eq!(kos.serve(0, &mut context), Next::Wait);
    send(&mut kos);
    assert_eq!(kos.serve(0, &mut context), Next::Go);
    assert_eq!(word(context.sp + 312), Errno::encode(Err(Errno::INTR)));
    assert!((1..=4).contains(&word(at(&rest))), "{rest:?}");
}

#[test]
fn a_signal_for_anybody_goes_to_who_does_not_block_it() {
    let mut kos = kos();
    let words = [0u32; 2];
    assert_eq!(call(&mut kos, CLONE, &[PTHREAD, 0x5000, at(&words), 0, at(&words[1])]), Ok(2));
    handle(&mut kos, USR1, 0, 0);
    block(&mut kos, 1 << (USR1 - 1));
    kos.system().interrupted.clear();
    assert_eq!(call(&mut kos, KILL, &[1, USR1]), Ok(0));
    assert_eq!(kos.system().interrupted, [1]);
    let mut context = thread(0, &[]);
    attend(&mut kos, 1, &mut context);
    assert_eq!(context.pc, HANDLER + USR1);
    // What is for one alone waits for him.
    assert_eq!(call(&mut kos, TGKILL, &[1, 1, USR1]), Ok(0));
    assert_eq!(kos.system().interrupted, []);
    assert_eq!(call(&mut kos, TGKILL, &[1, 7, USR1]), Err(Errno::SRCH));
    assert_eq!(call(&mut kos, TGKILL, &[2, 1, USR1]), Err(Errno::SRCH));
    assert_eq!(call(&mut kos, TKILL, &[0, USR1]), Err(Errno::INVAL));
}

#[test]
fn actions_have_their_flags_and_alternate_stacks_are_used() {
    let mut kos = kos();
    let alternate = Box::leak(Box::new([0u128; 1024]));
    let (base, size) = (alternate.as_ptr() as u64, 16 * 1024);
    let stack = [base, 0, size];
    assert_eq!(call(&mut kos, SIGALTSTACK, &[at(&[base, 0, 100]), 0]), Err(Errno::NOMEM));
    assert_eq!(call(&mut kos, SIGALTSTACK, &[at(&[base, 8, size]), 0]), Err(Errno::INVAL));
    assert_eq!(call(&mut kos, SIGALTSTACK, &[at(&stack), 0]), Ok(0));
    handle(&mut kos, USR1, ONSTACK | RESETHAND, 0);
    let mut context = thread(TGKILL, &[1, 1, USR1]);
    serve(&mut kos, 0, &mut context);
    assert_eq!(context.sp, base + size - 16 - 4688);
    let mut inner = Context { sp: context.sp, ..registers(SIGALTSTACK, &[at(&stack), 0]) };
    serve(&mut kos, 0, &mut inner);
    assert_eq!(answer(&inner), Err(Errno::PERM));
    // Its action was for once.
    block(&mut kos, 0);
    assert_eq!(exits(&mut kos, TGKILL, &[1, 1, USR1]), 128 + USR1 as u8);
    // This one may interrupt itself.
    handle(&mut kos, USR2, NODEFER, 0);
    let mut context = thread(TGKILL, &[1, 1, USR2]);
    let top = context.sp;
    serve(&mut kos, 0, &mut context);
    let mut context = Context { sp: context.sp, ..registers(TGKILL, &[1, 1, USR2]) };
    serve(&mut kos, 0, &mut context);
    assert_eq!(top - context.sp, 2 * (4688 + 16));
}

#[test]
fn a_fault_goes_to_its_handler_or_ends_the_container() {
    let mut kos = kos();
    let fault = Cause::Fault(Fault { syndrome: 0x24 << 26 | 0x4f, address: 0x1230 });
    let mut context = thread(0, &[]);
    (context.pc, context.way) = (0x40_1000, crate::context::way::ALL);
    assert_eq!(kos.attend(0, &mut context, fault), Next::Fault);
    handle(&mut kos, SEGV, SIGINFO, 0);
    assert_eq!(kos.attend(0, &mut context, fault), Next::Go);
    let frame = context.sp;
    assert_eq!(context.pc, HANDLER + SEGV);
    // SEGV_ACCERR, the address twice, and the syndrome.
    assert_eq!((word(frame + 8), word(frame + 16), word(frame + 304)), (2, 0x1230, 0x1230));
    assert_eq!(word(frame + 1120), 16 << 32 | 0x4553_5201);
    assert_eq!(word(frame + 1128), 0x24 << 26 | 0x4f);
    // In its own handler it is one that nobody handles.
    assert_eq!(kos.attend(0, &mut context, fault), Next::Fault);
}

#[test]
fn timers_send_their_signals_and_count_what_they_could_not_send() {
    let mut kos = kos();
    handle(&mut kos, ALRM, SIGINFO, 0);
    let every = [1u64, 0, 1, 0];
    assert_eq!(call(&mut kos, SETITIMER, &[0, at(&every), 0]), Ok(0));
    let left = [0u64; 4];
    assert_eq!(call(&mut kos, GETITIMER, &[0, at(&left)]), Ok(0));
    assert_eq!((word(at(&left)), word(at(&left) + 16)), (1, 0));
    let timer = kos.system().timer;
    kos.system().ticks.set(timer);
    kos.tick();
    assert_eq!(kos.system().interrupted, [0]);
    assert!(kos.system().timer > timer);
    let mut context = thread(0, &[]);
    attend(&mut kos, 0, &mut context);
    assert_eq!((context.pc, word(context.sp + 8)), (HANDLER + ALRM, 0x80));
    let never = [0u64; 4];
    assert_eq!(call(&mut kos, SETITIMER, &[0, at(&never), 0]), Ok(0));

    let (event, number) = ([99u64, USR1, 0], 7u32);
    handle(&mut kos, USR1, SIGINFO, 0);
    assert_eq!(call(&mut kos, TIMER_CREATE, &[1, at(&event), at(&number)]), Ok(0));
    assert_eq!(call(&mut kos, TIMER_CREATE, &[77, at(&event), at(&number)]), Err(Errno::INVAL));
    let every = [1u64, 0, 1, 0];
    block(&mut kos, 1 << (USR1 - 1));
    assert_eq!(call(&mut kos, TIMER_SETTIME, &[0, 0, at(&every), 0]), Ok(0));
    let timer = kos.system().timer;
    kos.system().ticks.set(timer + 35);
    kos.tick();
    let set = [0u64];
    let mut context = thread(RT_SIGPROCMASK, &[2, at(&set), 0, 8]);
    serve(&mut kos, 0, &mut context);
    // SI_TIMER, the timer and how often it could not come, its value.
    let frame = context.sp;
    assert_eq!((word(frame + 8) as i32, word(frame + 24)), (-2, 99));
    assert_eq!((word(frame + 16) as u32, word(frame + 16) >> 32), (0, 3));
    assert_eq!(call(&mut kos, TIMER_GETOVERRUN, &[0]), Ok(3));
    assert_eq!(call(&mut kos, TIMER_DELETE, &[0]), Ok(0));
    assert_eq!(call(&mut kos, TIMER_DELETE, &[0]), Err(Errno::INVAL));
}

#[test]
fn calls_wait_with_other_signals_blocked() {
    let mut kos = kos();
    handle(&mut kos, USR1, 0, 0);
    block(&mut kos, 1 << (USR1 - 1));
    assert_eq!(call(&mut kos, TGKILL, &[1, 1, USR1]), Ok(0));
    let none = [0u64];
    let mut context = thread(RT_SIGSUSPEND, &[at(&none), 8]);
    serve(&mut kos, 0, &mut context);
    assert_eq!(context.pc, HANDLER + USR1);
    assert_eq!(word(context.sp + 312), Errno::encode(Err(Errno::INTR)));
    assert_eq!(word(context.sp + 168), 1 << (USR1 - 1));
    let mut context = Context { sp: context.sp, ..registers(RT_SIGRETURN, &[]) };
    serve(&mut kos, 0, &mut context);
    // What is there already is told, and the signal waits on.
    assert_eq!(call(&mut kos, TGKILL, &[1, 1, USR1]), Ok(0));
    let entry = [1u64 << 32 | 1 | 4 << 32];
    assert_eq!(call(&mut kos, PPOLL, &[at(&entry), 1, 0, at(&none), 8]), Ok(1));
    let set = [1u64 << (USR1 - 1)];
    assert_eq!(call(&mut kos, RT_SIGTIMEDWAIT, &[at(&set), 0, 0, 8]), Ok(USR1));
    let time = [1u64, 0];
    assert_eq!(call(&mut kos, RT_SIGTIMEDWAIT, &[at(&set), 0, at(&time), 8]), Err(Errno::AGAIN));
}
