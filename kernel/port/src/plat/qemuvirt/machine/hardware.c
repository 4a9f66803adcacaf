/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel asks of a platform: a timer, a serial port to print to, and an outer cache
 * controller, which QEMU's "virt" board does not have. */

#include <config.h>
#include <types.h>
#include <arch/linker.h>
#include <arch/machine.h>
#include <machine/io.h>
#include <mode/machine/timer.h>
#include <plat/machine/devices.h>

void
resetTimer(void)
{
    resetGenericTimer();
}

BOOT_CODE void
initTimer(void)
{
    initGenericTimer();
}

BOOT_CODE void initL2Cache(void) {}
void plat_cleanL2Range(paddr_t start, paddr_t end) {}
void plat_invalidateL2Range(paddr_t start, paddr_t end) {}
void plat_cleanInvalidateL2Range(paddr_t start, paddr_t end) {}
void plat_cleanInvalidateCache(void) {}

#if defined(CONFIG_DEBUG_BUILD) || defined(CONFIG_PRINTING)
/* The PL011. User level writes to it too; whoever prints waits for room only. */
#define UART_REG(offset) (*(volatile uint32_t *)(UART0_PPTR + (offset)))
#define UARTDR           0x00
#define UARTFR           0x18
#define UARTFR_TXFF      BIT(5)

void
putDebugChar(unsigned char c)
{
    while (UART_REG(UARTFR) & UARTFR_TXFF);
    UART_REG(UARTDR) = c;
}
#endif

#ifdef CONFIG_DEBUG_BUILD
unsigned char
getDebugChar(void)
{
    return 0;
}
#endif
