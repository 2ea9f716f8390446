/* SPDX-License-Identifier: Dual BSD/GPL */
/* One datagram, as the files of this program hand it on, and what it is counted as. */
#ifndef RELAYD_KERNEL_DATAGRAM_H
#define RELAYD_KERNEL_DATAGRAM_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../generated/maps.h"

#define AF_INET 2
#define AF_INET6 10
#define LOOPBACK_IFINDEX 1

struct datagram {
	const struct control *control;
	__u64 now_ns;
	__u64 mac_to;
	__u64 mac_from;
	__u32 source[4];
	__u32 local[4];
	__u32 endpoint; /* which of the relay's addresses it is for, from 1 */
	__u32 ifindex;
	__u32 network_bytes; /* length of its IP header */
	__u32 size;	     /* length of the UDP payload */
	__u32 user;
	__u32 session;
	__u32 connection_id; /* 0 where it has none */
	__u16 family;
	__be16 source_port;
	__u16 checksum;
	__u8 port;
	__u8 kind;
	__u8 header_bytes; /* what stands before the payload */
};

static __always_inline __be16 port_number(const struct datagram *d, enum port port)
{
	return port == CLIENT ? d->control->ports[CLIENT] : d->control->ports[SERVER];
}

/* Returns how many this processor has counted so, with this one. */
static __always_inline __u64 count(const struct datagram *d, enum verdict verdict)
{
	__u32 key = d->port * VERDICTS + verdict;
	struct total *total = bpf_map_lookup_elem(&totals, &key);

	if (!total)
		return 0;
	total->bytes += d->size;
	return total->datagrams += 1;
}

static __always_inline int drop(const struct datagram *d, enum verdict verdict)
{
	count(d, verdict);
	return XDP_DROP;
}

static __always_inline bool same_address(const __u32 *a, const __u32 *b)
{
	return a[3] == b[3] && a[2] == b[2] && a[1] == b[1] && a[0] == b[0];
}

static __always_inline void copy_address(__u32 *to, const __u32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

static __always_inline long frame_bytes(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end - (void *)(long)ctx->data;
}

#endif
