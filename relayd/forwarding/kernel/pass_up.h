/* SPDX-License-Identifier: Dual BSD/GPL */
/* What is not for this program to decide. */
#ifndef RELAYD_KERNEL_PASS_UP_H
#define RELAYD_KERNEL_PASS_UP_H

#include "datagram.h"

/* No verdicts of XDP, but words for what comes next. */
#define NOT_PLAIN (-1) /* not_plain.h is to look at it */
#define PASS_UP (-2)   /* `pass_up` is to be called, which takes stack: by none but the first function */

/*
 * Leaves the datagram to the sockets. Where there is none, because relayd crashed or is being restarted, the kernel
 * would answer with an ICMP error, and that ends a game at once: then it is dropped.
 */
static __noinline int pass_up(struct xdp_md *ctx, const struct datagram *d)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sock;

	if (!d)
		return XDP_PASS;
	if (d->family == AF_INET) {
		tuple.ipv4.saddr = d->source[3];
		tuple.ipv4.daddr = d->local[3];
		tuple.ipv4.sport = d->source_port;
		tuple.ipv4.dport = port_number(d, d->port);
		sock = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		copy_address(tuple.ipv6.saddr, d->source);
		copy_address(tuple.ipv6.daddr, d->local);
		tuple.ipv6.sport = d->source_port;
		tuple.ipv6.dport = port_number(d, d->port);
		sock = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sock)
		return drop(d, RELAY_AWAY);
	bpf_sk_release(sock);
	return XDP_PASS;
}

#endif
