/* SPDX-License-Identifier: Dual BSD/GPL */
/* A packet to the relay becomes one from it. */
#ifndef RELAYD_KERNEL_REWRITE_H
#define RELAYD_KERNEL_REWRITE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "checksum.h"
#include "datagram.h"
#include "ethernet.h"
#include "route.h"

#define TIME_TO_LIVE 64

/* Type and connection id as they stand on the wire: five bytes in a word. */
static __always_inline __u64 type_and_connection(__u8 type, __u32 connection_id)
{
	return type | (__u64)connection_id << 8;
}

/*
 * A router may cut it: nobody here hears of an ICMP "fragmentation needed", and a link with an MTU below 1,232 bytes would
 * take no large datagram for ever. What is cut needs a number (RFC 6864, 4.1). IPv6 carries 1,280 bytes everywhere.
 */
static __always_inline void write_ipv4(struct iphdr *ip, const __u32 *from, const __u32 *to, __u32 bytes, __u8 tos)
{
	__u32 *words = (__u32 *)ip;

	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = tos;
	ip->tot_len = bpf_htons(bytes);
	ip->id = (__u16)bpf_get_prandom_u32();
	ip->frag_off = 0;
	ip->ttl = TIME_TO_LIVE;
	ip->protocol = IPPROTO_UDP;
	ip->check = 0;
	ip->saddr = from[3];
	ip->daddr = to[3];
	ip->check = ~fold((__u64)words[0] + words[1] + words[2] + words[3] + words[4]);
}

static __always_inline void write_ipv6(struct ipv6hdr *ip, const __u32 *from, const __u32 *to, __u32 udp_bytes,
				       __u8 tos)
{
	*(__be32 *)ip = bpf_htonl(6u << 28 | (__u32)tos << 20);
	ip->payload_len = bpf_htons(udp_bytes);
	ip->nexthdr = IPPROTO_UDP;
	ip->hop_limit = TIME_TO_LIVE;
	copy_address(ip->saddr.in6_u.u6_addr32, from);
	copy_address(ip->daddr.in6_u.u6_addr32, to);
}

/*
 * Turns the packet into one from the relay to `peer`: the payload stays where it is, new headers are written in
 * front of it. `head` is what then stands before the payload, `head_bytes` of it (1, 2 or 5).
 *
 * The UDP checksum is that of the old packet, less what was taken away, plus what was put in its place, so that what
 * was damaged on its way stays recognisable as damaged. The payload begins at an odd byte before and after.
 */
static __always_inline int send(struct xdp_md *ctx, const struct datagram *d, const struct binding *peer,
				struct state *state, enum port port, __u64 head, __u32 head_bytes, __u32 payload_bytes)
{
	__u32 network_bytes = peer->family == AF_INET ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u32 udp_bytes = sizeof(struct udphdr) + head_bytes + payload_bytes;
	__u32 old_bytes = ETH_HLEN + d->network_bytes + sizeof(struct udphdr) + d->size;
	__be16 local_port = port_number(d, port);
	bool partial = is_partial(d);
	bool looped = partial && d->ifindex == LOOPBACK_IFINDEX;
	struct next_hop way;
	struct ethhdr *ethernet;
	struct udphdr *udp;
	void *start, *end;
	__u32 local[4];
	__u8 *bytes;
	__u64 sum;
	long excess;
	int exit;

	copy_address(local, state->local);
	if (!local[3] && !local[2] && !local[1] && !local[0])
		return -1; /* not heard by this program yet */
	/*
	 * On the loopback interface the kernel keeps the offset at which it would have finished the checksum. The headers
	 * have moved since, so it rejects even a correct one. IPv4 can do without, IPv6 cannot.
	 */
	if ((!d->checksum || looped) && peer->family == AF_INET6)
		return -1;
	/* A packet that stays on this host carries its route, which is one of its own address family. */
	if (d->ifindex == LOOPBACK_IFINDEX && peer->family != d->family)
		return -1;
	exit = way_to(ctx, d, peer, state, &way, partial);
	if (exit < 0)
		return -1;

	/* What the link appended: short frames are padded. */
	excess = frame_bytes(ctx) - old_bytes;
	if (excess > 0 && bpf_xdp_adjust_tail(ctx, -(int)excess))
		return -1;
	if (bpf_xdp_adjust_head(ctx, (int)(d->network_bytes + d->header_bytes) - (int)(network_bytes + head_bytes)))
		return -1;
	start = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;

	ethernet = start;
	if (peer->family == AF_INET) {
		struct iphdr *ip = start + ETH_HLEN;

		if ((void *)(ip + 1) > end)
			return XDP_DROP;
		ethernet->h_proto = bpf_htons(ETH_P_IP);
		write_ipv4(ip, local, peer->peer, sizeof(*ip) + udp_bytes, d->control->tos);
		udp = (void *)(ip + 1);
	} else {
		struct ipv6hdr *ip = start + ETH_HLEN;

		if ((void *)(ip + 1) > end)
			return XDP_DROP;
		ethernet->h_proto = bpf_htons(ETH_P_IPV6);
		write_ipv6(ip, local, peer->peer, udp_bytes, d->control->tos);
		udp = (void *)(ip + 1);
	}
	store_mac(ethernet->h_dest, way.to);
	store_mac(ethernet->h_source, way.from);

	bytes = (void *)(udp + 1);
	if ((void *)bytes + head_bytes > end)
		return XDP_DROP;
	udp->source = local_port;
	udp->dest = peer->peer_port;
	udp->len = bpf_htons(udp_bytes);
	udp->check = 0;
	for (__u32 i = 0; i < head_bytes; i++)
		bytes[i] = head >> (8 * i);

	if (looped || !d->checksum) {
		sum = 0;
	} else if (partial) {
		sum = sum_pseudo_header(local, peer->peer, peer->family, udp_bytes) +
		      sum_whole(ctx, ETH_HLEN + network_bytes);
	} else {
		/* The length stands in the pseudo-header too, hence twice. */
		sum = (__u16)~d->checksum;
		sum += sum_addresses(local, peer->peer, peer->family);
		sum += (__u64)local_port + peer->peer_port + 2 * (__u64)bpf_htons(udp_bytes) + sum_of(head);
		sum += (__u16)~fold(sum_addresses(d->source, d->local, d->family) + d->source_port +
				    port_number(d, d->port) + 2 * (__u64)bpf_htons(sizeof(*udp) + d->size) + d->user +
				    (__u64)d->session + sum_of(type_and_connection(d->kind, d->connection_id)));
	}
	if (sum) {
		udp->check = ~fold(sum);
		if (!udp->check)
			udp->check = 0xffff; /* 0 would say that there is none */
	}
	if (exit == XDP_REDIRECT)
		return bpf_redirect(way.ifindex, 0);
	return exit;
}

#endif
