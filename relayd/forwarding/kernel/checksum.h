/* SPDX-License-Identifier: Dual BSD/GPL */
/* Checksums: sums of 32-bit words, folded to 16 bits in the end (RFC 1071, RFC 1624). */
#ifndef RELAYD_KERNEL_CHECKSUM_H
#define RELAYD_KERNEL_CHECKSUM_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "datagram.h"

/* The longest datagram that can leave here with its IPv6 header; links with a smaller MTU are left to the sockets. */
#define LARGEST_PACKET_BYTES 1260

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u64 sum_addresses(const __u32 *a, const __u32 *b, __u16 family)
{
	__u64 sum = (__u64)a[3] + b[3];

	if (family == AF_INET6)
		sum += (__u64)a[0] + a[1] + a[2] + b[0] + b[1] + b[2];
	return sum;
}

static __always_inline __u64 sum_of(__u64 word)
{
	return (word & 0xffffffff) + (word >> 32);
}

static __always_inline __u64 sum_pseudo_header(const __u32 *a, const __u32 *b, __u16 family, __u32 udp_bytes)
{
	return sum_addresses(a, b, family) + bpf_htons(udp_bytes) + bpf_htons(IPPROTO_UDP);
}

/* A local stack leaves the rest of the checksum to the network card that never comes, and fills in this much of it. */
static __always_inline bool is_partial(const struct datagram *d)
{
	return d->checksum == fold(sum_pseudo_header(d->source, d->local, d->family, sizeof(struct udphdr) + d->size));
}

/*
 * The sum of all from `offset` on, for datagrams whose checksum a local stack left unfinished. Global, so that the
 * verifier walks through the loop once and not once for every way that leads here.
 */
__noinline __u32 sum_whole(struct xdp_md *ctx, __u32 offset)
{
	const void *from = (const void *)(long)ctx->data;
	const void *end = (const void *)(long)ctx->data_end;
	__u64 sum = 0;

	if (offset > ETH_HLEN + sizeof(struct ipv6hdr))
		return 0;
	from += offset;
	for (int i = 0; i < LARGEST_PACKET_BYTES / 4; i++) {
		if (from + 4 > end)
			break;
		sum += *(const __u32 *)from;
		from += 4;
	}
	if (from + 2 <= end) {
		sum += *(const __u16 *)from;
		from += 2;
	}
	if (from + 1 <= end)
		sum += *(const __u8 *)from;
	return fold(sum);
}

#endif
