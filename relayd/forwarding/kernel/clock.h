/* SPDX-License-Identifier: Dual BSD/GPL */
/* The program's time: the one place where it is read. */
#ifndef RELAYD_KERNEL_CLOCK_H
#define RELAYD_KERNEL_CLOCK_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Nanoseconds of CLOCK_MONOTONIC, which is also the clock of user space's times in the maps. */
static __always_inline __u64 now_ns(void)
{
	return bpf_ktime_get_ns();
}

#endif
