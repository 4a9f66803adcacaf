//! The root server: the first thread on seL4. It owns all memory; starts, watches and removes
//! containers; and is the only one that every container has to trust. So it does little, waits
//! for nobody, and believes nothing that a container says.
//!
//! | module | does |
//! |---|---|
//! | `start` | the first instructions, the stack, the counter; what happens on a panic |
//! | `space` | this thread's own CSpace: which capability is where |
//! | `window` | this thread's own address space: the few things that it maps |
//! | `clock` | the timer, by which containers are woken |
//! | `console`, `virtio` | the line to the host: frames over a virtio console, or the serial port |
//! | [`buddy`](koskit_root_server::buddy), `memory` | which memory is free; untypeds, cut, taken and made whole again |
//! | `files` | bytes that become pages: the boot archive's, and those that the host has sent |
//! | `nodes` | the containers and blobs that there are |
//! | `container` | what is checked before a container is created |
//! | `devices` | the board's devices, and who has them |
//! | `create` | its objects, all from one untyped |
//! | [`report`](koskit_root_server::report) | faults in words |
//! | [`seed`](koskit_root_server::seed) | random seeds |
//! | `host` | what the host asks for: blobs, containers, figures |
//! | `inspect` | what a container holds, as the kernel tells it |
//! | `serve` | the machine's life: create, answer containers, remove |
//!
//! `unsafe` is in `start`, `window`, `files`, `console` and `virtio` only. There is no heap: what grows is
//! bounded by the slots of our CSpace's root (`nodes`) and the pieces of memory (`buddy`).
//!
//! Life of a container: its contract is checked against what is free (`container`); the
//! buddy allocator takes one untyped; everything is made from it (`create`); the thread runs.
//! It ends by the request EXIT or by a fault. Then one revoke of its untyped destroys all of
//! it, and the untyped is retyped whole, which seL4 refuses while anything of it is left:
//! that is the proof that all memory is back.
#![no_std]
#![no_main]

mod clock;
mod console;
mod container;
mod create;
mod devices;
mod files;
mod host;
mod inspect;
mod memory;
mod nodes;
mod serve;
mod space;
mod start;
mod virtio;
mod window;
