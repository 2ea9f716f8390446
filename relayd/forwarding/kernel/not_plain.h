/* SPDX-License-Identifier: Dual BSD/GPL */
/*
 * Packets that are not plain: with IP options, extension headers, a priority tag, in fragments, to many, of another length
 * than they say. The stack looks at them more closely than this program; but they reach the sockets, so what is not from
 * a bound address is passed up within the same bounds as all else.
 *
 * Later fragments have no ports: they may be for another program on this host, and are left to the stack. They come to
 * nothing without the first one, which is judged here.
 */
#ifndef RELAYD_KERNEL_NOT_PLAIN_H
#define RELAYD_KERNEL_NOT_PLAIN_H

#include <linux/if_ether.h>

#include "bound.h"
#include "datagram.h"
#include "parse.h"
#include "pass_up.h"
#include "strangers.h"

#define VLAN_NUMBER 0x0fff
#define MOST_TAGS 2
/* More than there are kinds of them; each may stand there more than once, but nobody sends that. */
#define MOST_EXTENSIONS 8
#define IPV6_FRAGMENT_OFFSET 0xfff8

/* Where the IP header begins; 0 for what is in a VLAN. The stack takes tags off that only name a priority. */
static __always_inline const void *behind_tags(const void *start, const void *end, __be16 *protocol)
{
	const struct ethhdr *ethernet = start;
	const __be16 *tag = (const void *)(ethernet + 1);

	if ((const void *)tag > end)
		return 0;
	*protocol = ethernet->h_proto;
	for (int i = 0; i < MOST_TAGS; i++) {
		if (*protocol != bpf_htons(ETH_P_8021Q) && *protocol != bpf_htons(ETH_P_8021AD))
			break;
		if ((const void *)(tag + 2) > end || (tag[0] & bpf_htons(VLAN_NUMBER)))
			return 0;
		*protocol = tag[1];
		tag += 2;
	}
	return tag;
}

static __always_inline const void *udp_in_ipv4(struct datagram *d, const void *start, const void *end)
{
	const struct iphdr *ip = start;
	__u32 header_bytes;

	if ((const void *)(ip + 1) > end)
		return 0;
	header_bytes = ip->ihl * 4;
	if (!ipv4_leads_to_udp(ip, header_bytes))
		return 0;
	read_ipv4(d, ip);
	return start + header_bytes;
}

/* `hidden` says that so much stands before it, if it is there, that it was not looked for to the end. */
static __always_inline const void *udp_in_ipv6(struct datagram *d, const void *start, const void *end, bool *hidden)
{
	const struct ipv6hdr *ip = start;
	const __u8 *header = (const void *)(ip + 1);
	__u8 kind;

	if ((const void *)header > end || ip->version != 6)
		return 0;
	read_ipv6(d, ip);
	kind = ip->nexthdr;
	for (int i = 0; i < MOST_EXTENSIONS; i++) {
		__u32 more_bytes = 0;

		if (kind == IPPROTO_UDP)
			return header;
		if (!is_extension(kind) || (const void *)header + 8 > end)
			return 0;
		if (kind != IPPROTO_FRAGMENT)
			more_bytes = header[1] * 8;
		else if (*(const __be16 *)(header + 2) & bpf_htons(IPV6_FRAGMENT_OFFSET))
			return 0;
		kind = header[0];
		header += 8 + more_bytes;
	}
	if (kind == IPPROTO_UDP)
		return header;
	*hidden = is_extension(kind);
	return 0;
}

/* From whom, as far as it can be read; what cannot be is nobody's. */
static __always_inline int judge(struct datagram *d, const __u8 *payload, const void *end)
{
	struct pair_key key;
	struct pair *pair;
	struct binding *sender;
	__u32 slot;

	if ((void *)payload + HEADER_BYTES > end) {
		if (may_be_bound_by_sockets(d) || may_ask(d))
			return PASS_UP;
		return drop(d, OVERLOADED);
	}
	d->user = *(const __u32 *)(payload + USER_OFFSET);
	d->session = *(const __u32 *)(payload + SESSION_OFFSET);
	key.user = d->user;
	key.session = d->session;
	pair = bpf_map_lookup_elem(&pairs, &key);
	if (!pair)
		return unknown_pair(d);
	slot = slot_of(d, pair);
	sender = bpf_map_lookup_elem(&bindings, &slot);
	if (slot && sender && is_of_its_user(d, sender) && is_from_where_bound(d, sender))
		return PASS_UP;
	return is_bad_source(d) ? drop(d, BAD_SOURCE) : known_pair(d, pair);
}

static __noinline int not_plain(struct xdp_md *ctx, struct datagram *d)
{
	const void *start = (const void *)(long)ctx->data;
	const void *end = (const void *)(long)ctx->data_end;
	const struct udphdr *udp = 0;
	bool hidden = false;
	__be16 protocol = 0;
	const void *ip;
	__u32 zero = 0;

	if (!d)
		return XDP_PASS;
	ip = behind_tags(start, end, &protocol);
	if (!ip)
		return XDP_PASS;
	if (protocol == bpf_htons(ETH_P_IP))
		udp = udp_in_ipv4(d, ip, end);
	else if (protocol == bpf_htons(ETH_P_IPV6))
		udp = udp_in_ipv6(d, ip, end, &hidden);
	d->control = bpf_map_lookup_elem(&control, &zero);
	if (!d->control)
		return XDP_PASS;
	d->now_ns = now_ns();
	if (hidden)
		return !endpoint_of(d) || may_ask(d) ? XDP_PASS : drop(d, OVERLOADED);
	if (!udp || (const void *)(udp + 1) > end || !read_port(d, udp))
		return XDP_PASS;
	d->endpoint = endpoint_of(d);
	if (!d->endpoint)
		return XDP_PASS;
	read_udp(d, udp);
	d->size = end - (const void *)(udp + 1);
	return judge(d, (const __u8 *)(udp + 1), end);
}

#endif
