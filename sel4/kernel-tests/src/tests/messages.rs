//! Messages between threads, and notifications.

use crate::failure::{Result, ensure, ensure_eq};
use crate::lab::{Lab, slot_of};
use crate::program::{Program, program};
use koskit_abi::ipc::{self, WORDS_MAX};
use koskit_abi::{Endpoint, MessageInfo, Notification, Object, Rights};

/// A server: waits at x19, answers each message with the badge and the sum of its words (IPC
/// buffer at x20) in the first words, and as many words as came.
fn adder() -> Program {
    program!(
        "mov x19, x0",
        "mov x20, x1",
        "mov x0, x19",
        "mov x7, #-5", // Recv
        "svc #0",
        "1: add x9, x2, x3",
        "add x9, x9, x4",
        "add x9, x9, x5",
        "and x10, x1, #0x7f",
        "mov x11, #4",
        "2: cmp x11, x10",
        "b.hs 3f",
        "add x12, x20, x11, lsl #3",
        "ldr x13, [x12, #8]",
        "add x9, x9, x13",
        "mvn x13, x13",
        "str x13, [x12, #8]",
        "add x11, x11, #1",
        "b 2b",
        "3: mov x2, x0",
        "mov x3, x9",
        "mov x1, x10",
        "movk x1, #0x7, lsl #16", // label 0x70
        "mov x0, x19",
        "mov x7, #-2", // ReplyRecv
        "svc #0",
        "b 1b",
    )
}

pub fn a_call_is_answered_with_its_badge_and_words(lab: &mut Lab) -> Result {
    let endpoint = lab.make(Object::Endpoint)?;
    let badged = lab.slot();
    let (from, to) = (slot_of(endpoint), slot_of(badged));
    to.mint_badged(&mut lab.ipc, from, Rights::CALL, 0xabc_def1)?;
    let server = lab.thread()?;
    server.start(lab, adder(), &[endpoint, server.buffer])?;
    for round in 0..100 {
        for word in 0..4 {
            lab.ipc.set_word(word, 10 * round + word as u64);
        }
        let answer = lab.ipc.call(Endpoint::at(badged), MessageInfo::new(5, 4));
        ensure_eq!("the answer", answer, MessageInfo::new(0x70, 4));
        ensure_eq!("the badge", lab.ipc.word(0), 0xabc_def1);
        ensure_eq!("the sum", lab.ipc.word(1), 40 * round + 6);
    }
    // A badged capability cannot get another badge.
    let again = lab.slot();
    let minted = slot_of(again).mint_badged(&mut lab.ipc, to, Rights::ALL, 1);
    ensure!(minted.is_err(), "a badge was replaced");
    Ok(())
}

pub fn long_messages_arrive_complete(lab: &mut Lab) -> Result {
    let endpoint = lab.make(Object::Endpoint)?;
    let server = lab.thread()?;
    server.start(lab, adder(), &[endpoint, server.buffer])?;
    for length in [0, 1, 4, 5, 119, WORDS_MAX] {
        let mut sum = 0;
        for word in 0..length {
            let value = 0x1_0000_0001 * word as u64 + 3;
            lab.ipc.set_word(word, value);
            sum += value;
        }
        for word in length..4 {
            lab.ipc.set_word(word, 0);
        }
        let answer = lab.ipc.call(Endpoint::at(endpoint), MessageInfo::new(0, length));
        ensure_eq!("the answer's length", answer.length, length);
        if length > 1 {
            ensure_eq!(format_args!("the sum of {length} words"), lab.ipc.word(1), sum);
        }
        for word in 4..length {
            let should = !(0x1_0000_0001 * word as u64 + 3);
            ensure_eq!(format_args!("word {word}"), lab.ipc.word(word), should);
        }
    }
    Ok(())
}

/// Waits at x0 for a message, then reports.
fn receiver() -> Program {
    program!("mov x7, #-5", "svc #0", "mov x7, #0x1000", "svc #0")
}

/// Sends a notification's capability through an endpoint's; whether it has arrived in the slot.
fn send_capability(lab: &mut Lab, endpoint: u64, through: u64) -> Result<bool> {
    let notification = lab.make(Object::Notification)?;
    let to = lab.slot();
    let thread = lab.thread()?;
    thread.receive_to(to);
    thread.start(lab, receiver(), &[endpoint])?;
    lab.ipc.set_cap(0, Notification::at(notification).0);
    lab.ipc.set_word(0, 42);
    lab.ipc.send(Endpoint::at(through), MessageInfo { label: 1, length: 1, caps: 1 });
    let report = lab.report_of(thread)?;
    ensure_eq!("the message", report.x[2], 42);
    let caps = report.x[1] >> 7 & 3;
    // An empty slot can be copied to; a full one cannot.
    let empty = slot_of(to).copy(&mut lab.ipc, slot_of(endpoint), Rights::ALL).is_ok();
    ensure_eq!("the number of capabilities in the message", caps, u64::from(!empty));
    if !empty {
        ipc::signal(Notification::at(to));
        ensure_eq!("what is signalled", lab.ipc.wait(Notification::at(notification)), 0);
    }
    Ok(!empty)
}

pub fn a_capability_travels_with_a_message(lab: &mut Lab) -> Result {
    let endpoint = lab.make(Object::Endpoint)?;
    ensure!(send_capability(lab, endpoint, endpoint)?, "the slot is empty");
    Ok(())
}

pub fn a_capability_does_not_travel_without_grant(lab: &mut Lab) -> Result {
    let endpoint = lab.make(Object::Endpoint)?;
    let through = lab.copy(Endpoint::at(endpoint).0, Rights::READ_WRITE)?;
    ensure!(!send_capability(lab, endpoint, through)?, "the capability has arrived");
    Ok(())
}

pub fn notifications_gather_bits(lab: &mut Lab) -> Result {
    let plain = lab.make(Object::Notification)?;
    for badge in [1, 4, 0x10] {
        let badged = lab.slot();
        slot_of(badged).mint_badged(&mut lab.ipc, slot_of(plain), Rights::ALL, badge)?;
        ipc::signal(Notification::at(badged));
    }
    ensure_eq!("the word", lab.ipc.wait(Notification::at(plain)), 0x15);
    // Now it is empty: a thread has to wait for the next.
    let program = program!("mov x7, #-5", "svc #0", "mov x7, #0x1000", "svc #0");
    let thread = lab.run(program, &[plain])?;
    lab.sleep(5)?;
    ipc::signal(Notification::at(plain));
    lab.report_of(thread)?;
    Ok(())
}

pub fn a_message_that_nobody_waits_for_is_dropped_on_demand(lab: &mut Lab) -> Result {
    let endpoint = lab.make(Object::Endpoint)?;
    lab.ipc.set_word(0, 1);
    lab.ipc.nb_send(Endpoint::at(endpoint), MessageInfo::new(0, 1));
    let thread = lab.run(receiver(), &[endpoint])?;
    lab.sleep(5)?;
    lab.ipc.set_word(0, 2);
    lab.ipc.nb_send(Endpoint::at(endpoint), MessageInfo::new(0, 1));
    ensure_eq!("the message that arrived", lab.report_of(thread)?.x[2], 2);
    Ok(())
}
