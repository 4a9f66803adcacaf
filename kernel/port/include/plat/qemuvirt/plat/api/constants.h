/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __LIBSEL4_SEL4_PLAT_API_CONSTANTS_H_
#define __LIBSEL4_SEL4_PLAT_API_CONSTANTS_H_
/* No constants of its own; the kernel includes this file for every platform. */
#endif
