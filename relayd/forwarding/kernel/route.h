/* SPDX-License-Identifier: Dual BSD/GPL */
/* By which way a peer is reached. */
#ifndef RELAYD_KERNEL_ROUTE_H
#define RELAYD_KERNEL_ROUTE_H

#include <linux/in.h>

#include "checksum.h"
#include "datagram.h"
#include "ethernet.h"

/* Notes when and by which way a bound user was heard. Writes only what changed: other processors read it. */
static __always_inline void heard(const struct datagram *d, struct state *state)
{
	state->last_seen_ns = d->now_ns;
	if (!same_address(state->local, d->local))
		copy_address(state->local, d->local);
	if (state->came_by.to != d->mac_from || state->came_by.from != d->mac_to ||
	    state->came_by.ifindex != d->ifindex) {
		state->came_by.to = d->mac_from;
		state->came_by.from = d->mac_to;
		state->came_by.ifindex = d->ifindex;
	}
}

/*
 * Asks the kernel's routes for the way to a peer and remembers it for about a second. A host that does not forward
 * packets (net.ipv4.ip_forward=0, as most) gets no answer from this look-up, and there is none for a peer on this
 * host itself: then the peer is answered the way it came.
 *
 * Returns 0, or -1 when only the sockets can reach it.
 */
static __noinline int look_up_route(struct xdp_md *ctx, const struct datagram *d, const struct binding *peer,
				    struct state *state)
{
	struct bpf_fib_lookup fib = {};
	__u32 epoch;
	__u64 tag;
	long result;

	if (!d || !peer || !state)
		return -1;
	epoch = (__u32)(d->now_ns >> 30) | 1u << 31;
	tag = (__u64)(epoch & 0xffff) << 48;
	fib.family = peer->family;
	fib.l4_protocol = IPPROTO_UDP;
	fib.sport = port_number(d, !d->port);
	fib.dport = peer->peer_port;
	fib.tot_len = LARGEST_PACKET_BYTES;
	fib.ifindex = d->ifindex;
	if (peer->family == AF_INET) {
		fib.tos = d->control->tos;
		fib.ipv4_src = state->local[3];
		fib.ipv4_dst = peer->peer[3];
	} else {
		copy_address(fib.ipv6_src, state->local);
		copy_address(fib.ipv6_dst, peer->peer);
	}
	result = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (result == BPF_FIB_LKUP_RET_SUCCESS) {
		state->route.to = load_mac(fib.dmac) | tag;
		state->route.from = load_mac(fib.smac) | tag;
		state->route.ifindex = fib.ifindex;
	} else if (result == BPF_FIB_LKUP_RET_FWD_DISABLED ||
		   (result == BPF_FIB_LKUP_RET_NOT_FWDED && state->came_by.ifindex == LOOPBACK_IFINDEX &&
		    d->ifindex == LOOPBACK_IFINDEX)) {
		state->route.to = state->came_by.to | tag;
		state->route.from = state->came_by.from | tag;
		state->route.ifindex = state->came_by.ifindex;
	} else {
		return -1;
	}
	state->route.epoch = epoch;
	return 0;
}

/* The way to a peer, from memory where possible. Returns the verdict to leave by, or -1 when only sockets reach it. */
static __always_inline int way_to(struct xdp_md *ctx, const struct datagram *d, const struct binding *peer,
				  struct state *state, struct next_hop *way, bool partial)
{
	__u32 epoch = (__u32)(d->now_ns >> 30) | 1u << 31;
	__u32 *here, *there;
	bool back;

	if (state->route.epoch != epoch && look_up_route(ctx, d, peer, state))
		return -1;
	*way = state->route;
	if (way->epoch != epoch || (way->to >> 48) != (epoch & 0xffff) || (way->from >> 48) != (epoch & 0xffff))
		return -1;
	back = way->ifindex == d->ifindex;
	partial = partial && !(back && d->ifindex == LOOPBACK_IFINDEX);
	if (back && !partial && !(d->control->flags & SOME_LEFT_TO_SOCKETS))
		return XDP_TX;
	here = bpf_map_lookup_elem(&interfaces, &d->ifindex);
	if (!here || (partial && *here != NATIVE))
		return -1; /* a generic program cannot tell the kernel that a checksum is finished now */
	if (back)
		return XDP_TX;
	there = bpf_map_lookup_elem(&interfaces, &way->ifindex);
	if (!there || *there != *here || way->ifindex == LOOPBACK_IFINDEX)
		return -1;
	return XDP_REDIRECT;
}

#endif
