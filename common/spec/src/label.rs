//! Names of the labels that an image carries for seL4. An author may set any of them by
//! `LABEL`; what is left out is computed from the ELF file and the rootfs.

/// Name of the application; default: the image's own name.
pub const NAME: &str = "com.koskit.app.name";
/// Path of the ELF file in the rootfs; default: the first word of ENTRYPOINT and CMD.
pub const BINARY: &str = "com.koskit.app.binary.loopback";
/// Path in the rootfs of a JSON file that states the contract; labels win over it.
pub const SPEC: &str = "com.koskit.app.spec";
/// Pages of 4 KiB that `brk` can reach.
pub const HEAP_PAGES: &str = "com.koskit.app.spec.heap_pages";
/// Pages of 4 KiB of the first thread's stack.
pub const STACK_PAGES: &str = "com.koskit.app.spec.stack_pages";
/// Untypeds of 2 MiB handed to the container.
pub const UT_LARGE_PAGE: &str = "com.koskit.app.spec.ut_large_page";
/// Untypeds of 4 KiB handed to the container.
pub const UT_4K_PAGES: &str = "com.koskit.app.spec.ut_4k_pages";
/// seL4 priority (0 to 255) that the container starts with.
pub const PRIORITY: &str = "com.koskit.app.spec.priority";
/// seL4 maximum controlled priority (0 to 255) of its threads.
pub const MAX_PRIORITY: &str = "com.koskit.app.spec.max_priority";
/// Protocols that the container may publish, separated by commas.
pub const PUBLISHES: &str = "com.koskit.app.spec.publishes";
/// Most threads of the program at a time, the first included; 0 is as many as there is memory for.
pub const THREADS: &str = "com.koskit.app.spec.threads";
/// Names of devices ([`crate::board`]) that the container drives, separated by commas.
pub const DEVICES: &str = "com.koskit.app.spec.devices";
/// Thousandths of a processor that the container may use; 0 is all that its priority gets. It needs
/// a kernel that has budgets (MCS).
pub const CPU: &str = "com.koskit.app.spec.cpu";
