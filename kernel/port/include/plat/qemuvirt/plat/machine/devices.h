/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __PLAT_MACHINE_DEVICES_H
#define __PLAT_MACHINE_DEVICES_H

/* Physical addresses, from QEMU's hw/arm/virt.c. */
#define GIC_DISTRIBUTOR_PADDR       0x08000000
#define GIC_CONTROLLER0_PADDR       0x08010000
#define GIC_VCPUCTRL_PADDR          0x08030000 /* GICH: for the hypervisor */
#define GIC_VCPU_PADDR              0x08040000 /* GICV: what a guest sees as its GICC, 8 KiB */
#define UART0_PADDR                 0x09000000
#define RTC_PADDR                   0x09010000
#define VIRTIO_PADDR                0x0a000000 /* 32 transports of 512 bytes */

/* Where the kernel maps those that it uses itself: in the last pages of its address space. */
#define UART0_PPTR                  0x0000ffffffff0000
#define GIC_DISTRIBUTOR_PPTR        0x0000ffffffff3000
#define GIC_CONTROLLER_PPTR         0x0000ffffffff4000
#define GIC_VCPUCTRL_PPTR           0x0000ffffffff5000

#define GIC_PL390_CONTROLLER_PPTR   GIC_CONTROLLER_PPTR
#define GIC_PL390_DISTRIBUTOR_PPTR  GIC_DISTRIBUTOR_PPTR

#endif
