//! The board's devices ([`koskit_spec::board`]): each is had by one container at most, or nobody.

use crate::container::Refusal;
use crate::memory::Memory;
use crate::space::Space;
use koskit_abi::bootinfo::slot;
use koskit_abi::{BootInfo, Frame, Ipc, IrqControl, IrqHandler, Object, Result, Untyped};
use koskit_spec::board::{self, DEVICES};

/// All devices.
pub struct Devices {
    all: [Owned; DEVICES.len()],
}

/// What we hold of a device.
#[derive(Clone, Copy, Default)]
struct Owned {
    /// Slot of the frame of its registers; 0 where the kernel does not give it to us.
    registers: u64,
    /// Slot of its interrupt's handler.
    interrupt: u64,
    /// First slot of the frames of its memory.
    dma: u64,
    /// Its container's number, or 0.
    user: u32,
}

impl Devices {
    /// Takes all devices that the kernel has given.
    pub fn new(
        info: BootInfo<'_>,
        ipc: &mut Ipc,
        space: &mut Space,
        memory: &mut Memory,
    ) -> Result<Self> {
        let mut all = [Owned::default(); DEVICES.len()];
        for (device, owned) in DEVICES.iter().zip(&mut all) {
            let mut untypeds = info.untypeds().filter(|untyped| untyped.device);
            let Some(of) = untypeds.find(|untyped| untyped.address == device.registers) else {
                continue;
            };
            owned.registers = space.make(ipc, Untyped::at(of.slot), Object::SmallFrame)?;
            owned.interrupt = space.slots(1);
            let handler = space.slot(owned.interrupt);
            IrqControl::at(slot::IRQ_CONTROL).get(ipc, device.interrupt, handler)?;
            owned.dma = space.slots(device.dma_pages);
            if device.dma_pages > 0 {
                let bits = (device.dma_pages << 12).next_power_of_two().trailing_zeros();
                let of = memory
                    .take(ipc, space, bits)
                    .map_err(|_| koskit_abi::Error::NotEnoughMemory)?;
                let (into, first, count) = (space.kernels(), owned.dma, device.dma_pages);
                of.untyped.retype(ipc, Object::SmallFrame, into, first, count)?;
            }
        }
        Ok(Self { all })
    }

    /// Refuses a contract with devices that are not there or that somebody has.
    pub fn admit(&self, devices: u32) -> core::result::Result<(), Refusal> {
        for (index, device) in board::devices(devices) {
            let Owned { registers, user, .. } = self.all[index];
            if registers == 0 || user != 0 {
                return Err(Refusal::Device { name: device.name, user });
            }
        }
        Ok(())
    }

    /// The devices are the container's from now on.
    pub fn set_user(&mut self, devices: u32, user: u32) {
        board::devices(devices).for_each(|(index, _)| self.all[index].user = user);
    }

    /// The frames of a device: its registers, then its memory.
    pub fn frames(&self, index: usize) -> impl Iterator<Item = Frame> + use<> {
        let Owned { registers, dma, .. } = self.all[index];
        let dma = dma..dma + DEVICES[index].dma_pages;
        core::iter::once(registers).chain(dma).map(Frame::at)
    }

    /// Physical address of the memory of the first of some devices that has any, or 0.
    pub fn address(&self, ipc: &mut Ipc, devices: u32) -> Result<u64> {
        let mut with_memory = board::devices(devices).filter(|(_, device)| device.dma_pages > 0);
        let first = with_memory.next().and_then(|(index, _)| self.frames(index).nth(1));
        first.map_or(Ok(0), |frame| frame.address(ipc))
    }

    /// Its interrupt.
    pub fn interrupt(&self, index: usize) -> IrqHandler {
        IrqHandler::at(self.all[index].interrupt)
    }

    /// Takes devices back from their container: nobody but us has a capability to them then.
    pub fn take_back(&mut self, ipc: &mut Ipc, space: &Space, devices: u32) -> Result<()> {
        for (index, _) in board::devices(devices) {
            self.interrupt(index).clear(ipc)?;
            space.slot(self.all[index].interrupt).revoke(ipc)?;
            for frame in self.frames(index) {
                space.slot(frame.0.0).revoke(ipc)?;
            }
        }
        self.set_user(devices, 0);
        Ok(())
    }
}
