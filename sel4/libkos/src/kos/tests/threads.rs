//! Threads, and what they wait for.

use super::*;

const PTHREAD: u64 = 0x7d_0f00;
const SECOND: [u64; 2] = [1, 0];
const PRIVATE: u64 = 128;

/// Begins a thread; its place and its number. `words` are its number for itself and for others.
fn spawn(kos: &mut Test, words: &mut [u32; 2]) -> (usize, u64) {
    let [own, parents] = words.each_mut().map(|word| word as *mut u32 as u64);
    let tid = call(kos, CLONE, &[PTHREAD, 0x5000, parents, 0x7000, own]).unwrap();
    (kos.system().spawned.last().unwrap().place, tid)
}

/// Begins a call that waits.
fn waits(kos: &mut Test, place: usize, number: u64, arguments: &[u64]) -> Context {
    let mut context = registers(number, arguments);
    assert_eq!(kos.serve(place, &mut context), Next::Wait);
    context
}

/// The answer to a call that has waited.
fn goes_on(kos: &mut Test, place: usize, mut context: Context) -> core::result::Result<u64, Errno> {
    assert_eq!(kos.serve(place, &mut context), Next::Go);
    answer(&context)
}

fn woken(kos: &mut Test) -> Vec<usize> {
    core::mem::take(&mut kos.system().woken)
}

fn at<T>(of: &T) -> u64 {
    of as *const T as u64
}

#[test]
fn a_thread_begins_with_its_number_and_says_when_it_ends() {
    let mut kos = kos();
    let mut words = [7; 2];
    let (place, tid) = spawn(&mut kos, &mut words);
    assert_eq!((place, tid, words), (1, 2, [7, 2]));
    let begun = Spawn { place: 1, tid: 2, stack: 0x5000, tls: Some(0x7000) };
    assert_eq!(kos.system().spawned, [begun]);
    let mut context = registers(GETTID, &[]);
    assert_eq!((kos.serve(1, &mut context), context.x[0]), (Next::Go, 2));
    assert_eq!(call(&mut kos, GETTID, &[]), Ok(1));

    // Somebody joins it.
    let join = waits(&mut kos, 0, FUTEX, &[at(&words[0]), 0, 7]);
    assert_eq!(kos.serve(1, &mut registers(EXIT, &[0])), Next::End);
    assert_eq!((words[0], woken(&mut kos)), (0, vec![0]));
    assert_eq!(goes_on(&mut kos, 0, join), Ok(0));
    assert_eq!(kos.system().retired, [1]);

    // Its place is used again, its number is not.
    assert_eq!(spawn(&mut kos, &mut words), (1, 3));
    kos.system().full = true;
    assert_eq!(call(&mut kos, CLONE, &[PTHREAD, 0x5000, at(&words), 0, 0]), Err(Errno::AGAIN));
    assert_eq!(exits(&mut kos, EXIT_GROUP, &[4]), 4);
}

#[test]
fn the_last_thread_ends_the_process_with_the_status_of_the_first() {
    let mut kos = kos();
    spawn(&mut kos, &mut [0; 2]);
    assert_eq!(kos.serve(0, &mut registers(EXIT, &[9])), Next::End);
    let run = std::panic::AssertUnwindSafe(|| kos.serve(1, &mut registers(EXIT, &[3])));
    let status: u8 = *std::panic::catch_unwind(run).unwrap_err().downcast().unwrap();
    assert_eq!(status, 9);
}

#[test]
fn only_threads_can_be_made() {
    let mut kos = kos();
    assert_eq!(call(&mut kos, CLONE, &[17, 0, 0, 0, 0]), Err(Errno::NOSYS));
    assert_eq!(call(&mut kos, CLONE, &[PTHREAD, 0, 0, 0, 0]), Err(Errno::INVAL));
    assert_eq!(call(&mut kos, CLONE3, &[0, 88]), Err(Errno::NOSYS));
}

#[test]
fn a_futex_wakes_in_order_those_with_its_bits() {
    let mut kos = kos();
    let mut words = [0; 2];
    for _ in 0..3 {
        spawn(&mut kos, &mut words);
    }
    let word = [5u32];
    let wait = |kos: &mut Test, place, bits| {
        waits(kos, place, FUTEX, &[at(&word), 9 | PRIVATE, 5, 0, 0, bits])
    };
    let calls = [(2, 1), (1, 2), (3, 3)].map(|(place, bits)| wait(&mut kos, place, bits));
    assert_eq!(call(&mut kos, FUTEX, &[at(&word) + 4, 1, 9]), Ok(0), "another word");
    assert_eq!(call(&mut kos, FUTEX, &[at(&word), 10 | PRIVATE, 1, 0, 0, 2]), Ok(1));
    assert_eq!(woken(&mut kos), [1]);
    assert_eq!(goes_on(&mut kos, 1, calls[1]), Ok(0));
    // Who was not woken sleeps on, whatever its thread is served for.
    assert_eq!(kos.serve(2, &mut calls[0].clone()), Next::Wait);
    assert_eq!(call(&mut kos, FUTEX, &[at(&word), 1, 9]), Ok(2));
    assert_eq!(woken(&mut kos), [2, 3]);
    assert_eq!(call(&mut kos, FUTEX, &[at(&word), 10, 1, 0, 0, 0]), Err(Errno::INVAL));
    assert_eq!(call(&mut kos, FUTEX, &[at(&word) + 1, 1, 1]), Err(Errno::INVAL));
    assert_eq!(call(&mut kos, FUTEX, &[at(&word), 6, 1]), Err(Errno::NOSYS));
}

#[test]
fn waiters_move_to_another_futex() {
    let mut kos = kos();
    for _ in 0..3 {
        spawn(&mut kos, &mut [0; 2]);
    }
    let words = [5u32, 6];
    let [from, to] = words.each_ref().map(at);
    for place in 1..4 {
        waits(&mut kos, place, FUTEX, &[from, 0, 5]);
    }
    assert_eq!(call(&mut kos, FUTEX, &[from, 4, 1, 9, to, 4]), Err(Errno::AGAIN));
    assert_eq!(call(&mut kos, FUTEX, &[from, 4, 1, 1, to, 5]), Ok(2));
    assert_eq!(woken(&mut kos), [1]);
    assert_eq!(call(&mut kos, FUTEX, &[to, 1, 9]), Ok(1));
    assert_eq!(woken(&mut kos), [2]);
    assert_eq!(call(&mut kos, FUTEX, &[from, 3, 0, 9, to]), Ok(0));
    assert_eq!(call(&mut kos, FUTEX, &[to, 1, 9]), Ok(1));
    assert_eq!(woken(&mut kos), [3]);
}

#[test]
fn wake_op_changes_a_word_and_wakes_by_what_it_was() {
    let mut kos = kos();
    for _ in 0..2 {
        spawn(&mut kos, &mut [0; 2]);
    }
    let words = [core::sync::atomic::AtomicU32::new(5), core::sync::atomic::AtomicU32::new(1)];
    let [first, second] = words.each_ref().map(at);
    waits(&mut kos, 1, FUTEX, &[first, 0, 5]);
    waits(&mut kos, 2, FUTEX, &[second, 0, 1]);
    let value = || words[1].load(core::sync::atomic::Ordering::Relaxed);
    // Adds -1 to the second word, and wakes there if it was greater than 1.
    let code = 1 << 28 | 0xfff << 12 | 4 << 24 | 1;
    assert_eq!(call(&mut kos, FUTEX, &[first, 5, 1, 1, second, code]), Ok(1));
    assert_eq!((value(), woken(&mut kos)), (0, vec![1]));
    // Sets it to 1 << 4 (a shift), and wakes there if it was 0.
    let code = (8 << 28) | (4 << 12);
    assert_eq!(call(&mut kos, FUTEX, &[first, 5, 1, 1, second, code]), Ok(1));
    assert_eq!((value(), woken(&mut kos)), (16, vec![2]));
}

#[test]
fn one_timer_wakes_each_thread_at_its_time() {
    let mut kos = kos();
    for _ in 0..3 {
        spawn(&mut kos, &mut [0; 2]);
    }
    kos.system().ticks.set(100);
    let word = [5u32];
    let (two, half) = ([2u64, 0], [0u64, 500_000_000]);
    let sleep = waits(&mut kos, 1, NANOSLEEP, &[at(&two)]);
    assert_eq!(kos.system().timer, 121, "ten ticks are a second, and asking takes one");
    let futex = waits(&mut kos, 2, FUTEX, &[at(&word), 0, 5, at(&half)]);
    assert!((105..112).contains(&kos.system().timer));
    // CLOCK_REALTIME began 5 seconds before the machine: this is one second from tick 100 on.
    let time = [16u64, 0];
    let poll = waits(&mut kos, 3, CLOCK_NANOSLEEP, &[0, 1, at(&time)]);

    kos.system().ticks.set(103);
    kos.time_passed();
    assert_eq!(woken(&mut kos), [], "nobody's time has come");
    kos.system().ticks.set(112);
    kos.time_passed();
    assert_eq!(woken(&mut kos), [2, 3]);
    assert_eq!(kos.system().timer, 121);
    assert_eq!(goes_on(&mut kos, 2, futex), Err(Errno::TIMEDOUT));
    assert_eq!(goes_on(&mut kos, 3, poll), Ok(0));
    kos.system().ticks.set(122);
    // Where nobody else looks at the time, the thread itself does.
    assert_eq!(goes_on(&mut kos, 1, sleep), Ok(0));
    assert_eq!(call(&mut kos, FUTEX, &[at(&word), 1, 9]), Ok(0), "nobody waits any more");
}

#[test]
fn a_repeated_call_keeps_its_first_deadline() {
    let mut kos = kos();
    spawn(&mut kos, &mut [0; 2]);
    kos.system().ticks.set(100);
    let mut poll = waits(&mut kos, 1, PPOLL, &[0, 0, at(&SECOND)]);
    for ticks in [104, 108] {
        kos.system().ticks.set(ticks);
        kos.wake(wait::Event::Files);
        assert_eq!(kos.serve(1, &mut poll), Next::Wait, "nothing is ready");
    }
    kos.system().ticks.set(113);
    kos.time_passed();
    assert_eq!(goes_on(&mut kos, 1, poll), Ok(0));
    // The next call has a deadline of its own.
    waits(&mut kos, 1, PPOLL, &[0, 0, at(&SECOND)]);
}

#[test]
fn locks_of_a_thread_that_ends_are_let_go_of() {
    let mut kos = kos();
    spawn(&mut kos, &mut [0; 2]);
    const WAITERS: u32 = 1 << 31;
    const DIED: u32 = 1 << 30;
    // An entry and its lock; the second lock is another thread's, the third is being locked.
    let mut entries = [[0u64, u64::from(2 | WAITERS)], [0, 1], [0, 2]];
    let mut head = [0u64, 8, 0];
    head[0] = at(&entries[0]);
    head[2] = at(&entries[2]);
    entries[0][0] = at(&entries[1]);
    entries[1][0] = at(&head);
    let mut register = registers(SET_ROBUST_LIST, &[at(&head), 24]);
    assert_eq!((kos.serve(1, &mut register), register.x[0]), (Next::Go, 0));
    let mut found = [0u64; 2];
    let [list, size] = found.each_mut().map(|word| word as *mut u64 as u64);
    assert_eq!(call(&mut kos, GET_ROBUST_LIST, &[2, list, size]), Ok(0));
    assert_eq!(found, [at(&head), 24]);
    let word = at(&entries[0]) + 8;
    let waiter = waits(&mut kos, 0, FUTEX, &[word, 0, u64::from(2 | WAITERS)]);
    assert_eq!(kos.serve(1, &mut registers(EXIT, &[0])), Next::End);
    let locks = entries.map(|[_, lock]| lock as u32);
    assert_eq!(locks, [WAITERS | DIED, 1, DIED]);
    assert_eq!(goes_on(&mut kos, 0, waiter), Ok(0));
    assert_eq!(call(&mut kos, GET_ROBUST_LIST, &[2, list, size]), Err(Errno::SRCH));
}

#[test]
fn the_scheduler_tells_what_it_is() {
    let mut kos = kos();
    let (mut mask, zero, ten) = ([0u64], [0u32], [10u32]);
    let into = mask.as_mut_ptr() as u64;
    assert_eq!(call(&mut kos, SCHED_GETAFFINITY, &[0, 8, into]), Ok(8));
    assert_eq!(call(&mut kos, SCHED_SETAFFINITY, &[0, 8, into]), Ok(0));
    assert_eq!(call(&mut kos, SCHED_GETAFFINITY, &[99, 8, into]), Err(Errno::SRCH));
    assert_eq!(call(&mut kos, SCHED_GETSCHEDULER, &[1]), Ok(0));
    assert_eq!(call(&mut kos, SCHED_SETSCHEDULER, &[0, 0, at(&zero)]), Ok(0));
    assert_eq!(call(&mut kos, SCHED_SETSCHEDULER, &[0, 1, at(&ten)]), Err(Errno::PERM));
    assert_eq!(call(&mut kos, SCHED_GET_PRIORITY_MAX, &[1]), Ok(99));
    assert_eq!(call(&mut kos, SCHED_GET_PRIORITY_MIN, &[2]), Ok(1));
    assert_eq!(call(&mut kos, SCHED_GET_PRIORITY_MAX, &[0]), Ok(0));
}
