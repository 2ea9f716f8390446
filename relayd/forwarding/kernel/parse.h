/* SPDX-License-Identifier: Dual BSD/GPL */
/* What stands before the relay's own header: Ethernet, IP, UDP. */
#ifndef RELAYD_KERNEL_PARSE_H
#define RELAYD_KERNEL_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "checksum.h"
#include "datagram.h"
#include "ethernet.h"

/* Of IPv4's flags and fragment offset. */
#define MORE_FRAGMENTS 0x2000
#define FRAGMENT_OFFSET 0x1fff

/* To all, or to many: not what a relay is sent, but the stack takes it. */
static __always_inline bool is_to_many(const struct ethhdr *ethernet)
{
	return ethernet->h_dest[0] & 1;
}

static __always_inline void read_ethernet(struct datagram *d, const struct ethhdr *ethernet)
{
	d->mac_to = load_mac(ethernet->h_dest);
	d->mac_from = load_mac(ethernet->h_source);
}

/* Whether there is a UDP header in it, behind so many bytes. Of a packet in fragments, the first one has it. */
static __always_inline bool ipv4_leads_to_udp(const struct iphdr *ip, __u32 header_bytes)
{
	return ip->version == 4 && ip->protocol == IPPROTO_UDP && header_bytes >= sizeof(*ip) &&
	       !(ip->frag_off & bpf_htons(FRAGMENT_OFFSET));
}

static __always_inline void read_ipv4(struct datagram *d, const struct iphdr *ip)
{
	d->family = AF_INET;
	d->network_bytes = sizeof(*ip);
	d->source[2] = d->local[2] = bpf_htonl(0xffff);
	d->source[3] = ip->saddr;
	d->local[3] = ip->daddr;
}

/* Whether it has no options, is in no fragments, and is one that the stack would accept. */
static __always_inline bool is_plain_ipv4(const struct iphdr *ip, __u32 packet_bytes)
{
	const __u32 *words = (const __u32 *)ip;

	return ip->ihl * 4 == sizeof(*ip) && !(ip->frag_off & bpf_htons(MORE_FRAGMENTS)) &&
	       packet_bytes > sizeof(*ip) &&
	       fold((__u64)words[0] + words[1] + words[2] + words[3] + words[4]) == 0xffff;
}

/* What stands between an IPv6 header and UDP at times: RFC 8200, 4. */
static __always_inline bool is_extension(__u8 header)
{
	return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING || header == IPPROTO_FRAGMENT ||
	       header == IPPROTO_DSTOPTS;
}

static __always_inline void read_ipv6(struct datagram *d, const struct ipv6hdr *ip)
{
	d->family = AF_INET6;
	d->network_bytes = sizeof(*ip);
	copy_address(d->source, ip->saddr.in6_u.u6_addr32);
	copy_address(d->local, ip->daddr.in6_u.u6_addr32);
}

/* Finds the port of the relay. False for what is to none of them. */
static __always_inline bool read_port(struct datagram *d, const struct udphdr *udp)
{
	if (udp->dest == d->control->ports[CLIENT])
		d->port = CLIENT;
	else if (udp->dest != d->control->ports[SERVER])
		return false;
	return true;
}

/* Number of the endpoint a datagram is for, or 0 when it is not for this relay at all but, say, on its way through. */
static __always_inline __u32 endpoint_of(const struct datagram *d)
{
	struct address key;
	__u32 *endpoint;

	copy_address(key.words, d->local);
	endpoint = bpf_map_lookup_elem(&addresses, &key);
	return endpoint ? *endpoint : 0;
}

static __always_inline void read_udp(struct datagram *d, const struct udphdr *udp)
{
	d->source_port = udp->source;
	d->checksum = udp->check;
}

/* Whether all of it is there, and no more than it says. */
static __always_inline bool is_whole(const struct datagram *d, const struct udphdr *udp, const void *end,
				     __u32 udp_bytes)
{
	return bpf_ntohs(udp->len) == udp_bytes && udp_bytes >= sizeof(*udp) && (const void *)udp + udp_bytes <= end &&
	       (d->family != AF_INET6 || d->checksum);
}

#endif
