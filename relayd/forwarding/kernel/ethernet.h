/* SPDX-License-Identifier: Dual BSD/GPL */
/* MAC addresses as words: the first byte is the lowest. */
#ifndef RELAYD_KERNEL_ETHERNET_H
#define RELAYD_KERNEL_ETHERNET_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

static __always_inline __u64 load_mac(const __u8 *mac)
{
	return mac[0] | (__u64)mac[1] << 8 | (__u64)mac[2] << 16 | (__u64)mac[3] << 24 | (__u64)mac[4] << 32 |
	       (__u64)mac[5] << 40;
}

static __always_inline void store_mac(__u8 *to, __u64 mac)
{
	to[0] = mac;
	to[1] = mac >> 8;
	to[2] = mac >> 16;
	to[3] = mac >> 24;
	to[4] = mac >> 32;
	to[5] = mac >> 40;
}

#endif
