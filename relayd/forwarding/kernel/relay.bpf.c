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
 *     strangers.h            of all others
 *     pass_up.h              what is left to the sockets
 *     route.h, rewrite.h     where to, and with which headers
 *     checksum.h, ethernet.h, clock.h, datagram.h
 *
 * Integers of the wire are little-endian, and so is this program: it is compiled for bpfel only.
 */
#include "clock.h"
#include "datagram.h"
#include "decide.h"
#include "parse.h"
#include "pass_up.h"

static __always_inline int arrived(struct xdp_md *ctx, struct datagram *d, const struct udphdr *udp, const void *end,
				   __u32 udp_bytes, bool plain)
{
	__u32 endpoint;
	__u32 zero = 0;

	if ((const void *)(udp + 1) > end)
		return XDP_PASS;
	d->control = bpf_map_lookup_elem(&control, &zero);
	if (!d->control || !read_port(d, udp))
		return XDP_PASS;
	endpoint = endpoint_of(d);
	if (!endpoint)
		return XDP_PASS;
	read_udp(d, udp);
	/* What the stack would look at more closely, or drop and count in its own way, it is left to do. */
	if (!plain || !is_whole(d, udp, end, udp_bytes))
		return pass_up(ctx, d);
	d->size = udp_bytes - sizeof(*udp);
	d->now_ns = now_ns();
	return decide(ctx, d, (const __u8 *)(udp + 1), end, endpoint);
}

static __always_inline int ipv4_arrived(struct xdp_md *ctx, struct datagram *d, const void *start, const void *end)
{
	const struct iphdr *ip = start;
	__u32 header_bytes, packet_bytes;

	if ((const void *)(ip + 1) > end)
		return XDP_PASS;
	header_bytes = ip->ihl * 4;
	if (!ipv4_leads_to_udp(ip, header_bytes))
		return XDP_PASS;
	read_ipv4(d, ip);
	packet_bytes = bpf_ntohs(ip->tot_len);
	if (header_bytes > sizeof(*ip))
		return arrived(ctx, d, start + header_bytes, end, 0, false);
	return arrived(ctx, d, start + sizeof(*ip), end, packet_bytes - sizeof(*ip), is_plain_ipv4(ip, packet_bytes));
}

static __always_inline int ipv6_arrived(struct xdp_md *ctx, struct datagram *d, const void *start, const void *end)
{
	const struct ipv6hdr *ip = start;

	if ((const void *)(ip + 1) > end || !ipv6_leads_to_udp(ip))
		return XDP_PASS;
	read_ipv6(d, ip);
	return arrived(ctx, d, start + sizeof(*ip), end, bpf_ntohs(ip->payload_len), true);
}

static __always_inline int handle(struct xdp_md *ctx)
{
	const void *start = (const void *)(long)ctx->data;
	const void *end = (const void *)(long)ctx->data_end;
	const struct ethhdr *ethernet = start;
	struct datagram d = {};

	if ((const void *)(ethernet + 1) > end || is_to_many(ethernet))
		return XDP_PASS;
	d.ifindex = ctx->ingress_ifindex;
	read_ethernet(&d, ethernet);
	/* A VLAN tag stands where the type would be. */
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		return ipv4_arrived(ctx, &d, start + ETH_HLEN, end);
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		return ipv6_arrived(ctx, &d, start + ETH_HLEN, end);
	return XDP_PASS;
}

SEC("xdp")
int relay(struct xdp_md *ctx)
{
	return handle(ctx);
}

/* Which maps this object was compiled for; a test compares it with the declaration. */
const __u64 _layout SEC("layout") = KERNEL_MAPS_LAYOUT;

char _license[] SEC("license") = "Dual BSD/GPL";
