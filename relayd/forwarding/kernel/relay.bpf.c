// SPDX-License-Identifier: Dual BSD/GPL
/*
 * relayd's fast path: datagrams between bound users are forwarded here and never reach a socket.
 *
 * Read it from `handle`, at the bottom, upwards: that is the way of a datagram, down to `decide` (decide.h). Of one to
 * the relay's ports this program either decides exactly as relayd/core/engine.py would (DATA of bound users, PINGs of
 * bound users, what is malformed, what comes from a wrong address or from none that can be, what is above a user's rate,
 * unknown tokens beyond a rate), or it passes it up to the sockets untouched. User space alone binds and unbinds; this
 * program only reads what it wrote (`pairs`, `bindings`, `sessions`, `connections`, `addresses`, `interfaces`, `ended`,
 * `revoked`, `denied`, `control`) and alone writes what that reads (`states`, `pings`, `totals`, values in `guesses`).
 *
 *     ../generated/maps.h    the maps, and what is in them
 *     parse.h                Ethernet, IP, UDP
 *     decide.h               what becomes of it: the judgement of bound users
 *     strangers.h, bound.h   of all others, and who is bound where
 *     not_plain.h            of packets that the stack looks at more closely
 *     pass_up.h              what is left to the sockets
 *     route.h, rewrite.h     where to, and with which headers
 *     run_time.h             how long all of it takes
 *     checksum.h, ethernet.h, clock.h, datagram.h
 *
 * Integers of the wire are little-endian, and so is this program: it is compiled for bpfel only.
 */
#include "clock.h"
#include "datagram.h"
#include "decide.h"
#include "not_plain.h"
#include "parse.h"
#include "pass_up.h"

static __always_inline int arrived(struct xdp_md *ctx, struct datagram *d, const struct udphdr *udp, const void *end,
				   __u32 udp_bytes)
{
	__u32 zero = 0;

	if ((const void *)(udp + 1) > end)
		return XDP_PASS;
	d->control = bpf_map_lookup_elem(&control, &zero);
	if (!d->control || !read_port(d, udp))
		return XDP_PASS;
	d->endpoint = endpoint_of(d);
	if (!d->endpoint)
		return XDP_PASS;
	read_udp(d, udp);
	if (!is_whole(d, udp, end, udp_bytes))
		return NOT_PLAIN;
	d->size = udp_bytes - sizeof(*udp);
	d->now_ns = now_ns();
	return decide(ctx, d, (const __u8 *)(udp + 1), end);
}

static __always_inline int ipv4_arrived(struct xdp_md *ctx, struct datagram *d, const void *start, const void *end)
{
	const struct iphdr *ip = start;
	__u32 packet_bytes;

	if ((const void *)(ip + 1) > end || !ipv4_leads_to_udp(ip, ip->ihl * 4))
		return XDP_PASS;
	packet_bytes = bpf_ntohs(ip->tot_len);
	if (!is_plain_ipv4(ip, packet_bytes))
		return NOT_PLAIN;
	read_ipv4(d, ip);
	return arrived(ctx, d, start + sizeof(*ip), end, packet_bytes - sizeof(*ip));
}

static __always_inline int ipv6_arrived(struct xdp_md *ctx, struct datagram *d, const void *start, const void *end)
{
	const struct ipv6hdr *ip = start;

	if ((const void *)(ip + 1) > end || ip->version != 6)
		return XDP_PASS;
	if (ip->nexthdr != IPPROTO_UDP)
		return is_extension(ip->nexthdr) ? NOT_PLAIN : XDP_PASS;
	read_ipv6(d, ip);
	return arrived(ctx, d, start + sizeof(*ip), end, bpf_ntohs(ip->payload_len));
}

static __always_inline int plain(struct xdp_md *ctx, struct datagram *d)
{
	const void *start = (const void *)(long)ctx->data;
	const void *end = (const void *)(long)ctx->data_end;
	const struct ethhdr *ethernet = start;

	if ((const void *)(ethernet + 1) > end)
		return XDP_PASS;
	if (is_to_many(ethernet))
		return NOT_PLAIN;
	d->ifindex = ctx->ingress_ifindex;
	read_ethernet(d, ethernet);
	/* A VLAN tag stands where the type would be. */
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		return ipv4_arrived(ctx, d, start + ETH_HLEN, end);
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		return ipv6_arrived(ctx, d, start + ETH_HLEN, end);
	return NOT_PLAIN;
}

static __always_inline int handle(struct xdp_md *ctx)
{
	struct datagram d = {};
	int exit = plain(ctx, &d);

	if (exit == NOT_PLAIN)
		exit = not_plain(ctx, &d);
	return exit == PASS_UP ? pass_up(ctx, &d) : exit;
}

SEC("xdp")
int relay(struct xdp_md *ctx)
{
	return handle(ctx);
}

/* Which maps this object was compiled for; a test compares it with the declaration. */
const __u64 _layout SEC("layout") = KERNEL_MAPS_LAYOUT;

char _license[] SEC("license") = "Dual BSD/GPL";
