// SPDX-License-Identifier: Dual BSD/GPL
/*
 * relayd's fast path: datagrams between bound users are forwarded here and never reach a socket.
 *
 * Read it from `handle`, at the bottom, upwards. Of a datagram to one of the relay's ports this program either decides
 * exactly as relayd/core/engine.py would (DATA of bound users, PINGs of bound users, what is malformed, what comes from
 * a wrong address or from none that can be, what is above a user's rate, unknown tokens beyond a rate), or it passes it up
 * to the sockets untouched. User space alone binds and unbinds; this program only reads what it wrote (`pairs`,
 * `bindings`, `sessions`, `connections`, `addresses`, `interfaces`, `ended`, `control`) and alone writes what user space
 * reads (`states`, `pings`, `totals`, the values in `guesses`).
 *
 * Integers of the wire are little-endian, and so is this program: it is compiled for bpfel only.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../thread/meter.h"
#include "../thread/pings.h"
#include "clock.h"

#define LAYOUT_VERSION 6

#define AF_INET 2
#define AF_INET6 10
#define LOOPBACK_IFINDEX 1

/* Fields of the wire: relayd/core/wire.py. */
#define PING 1
#define DATA 2
#define STATE_VALID 2
#define HEADER_BYTES 9
#define HOST_DATA_HEADER_BYTES 13
#define TO_HOST_HEADER_BYTES 5
#define TO_PLAYER_HEADER_BYTES 1
#define STATE_BYTES 2
#define MAX_DATAGRAM_BYTES 1200

/* The longest datagram that can leave here with its IPv6 header; links with a smaller MTU are left to the sockets. */
#define LARGEST_PACKET_BYTES 1260

/* An IPv4 packet that has more than a relay's peer sends: bits of IPv4's flags and fragment offset. */
#define MORE_FRAGMENTS 0x2000
#define FRAGMENT_OFFSET 0x1fff
#define DO_NOT_FRAGMENT 0x4000

#define TIME_TO_LIVE 64

enum port { SERVER, CLIENT, PORTS };

/* Values of relayd/core/verdict.py. */
enum verdict {
	FORWARDED = 0,
	ANSWERED = 1,
	TOO_SHORT = 2,
	TOO_LONG = 3,
	UNKNOWN_TYPE = 4,
	NO_PAYLOAD = 5,
	UNKNOWN_PAIR = 6,
	SESSION_ENDED = 7,
	ADDRESS_CONFLICT = 8,
	RATE_LIMITED = 13,
	RELAY_AWAY = 18,
	OVERLOADED = 19,
	BAD_SOURCE = 20,
	GUESS_LIMITED = 21,
	VERDICTS = 22,
};

/* ---- Maps. relayd/forwarding/kernel/layout.py describes them to user space; a test compares the two. ----------------------- */

enum control_flag {
	PIN_IP = 1,		/* whoever comes from another address is user space's to judge */
	PAIRS_INCOMPLETE = 2,	/* `pairs` could not hold all: an unknown pair may be a known one */
};

struct control {
	__u32 layout_version;
	__u32 flags;
	__be16 ports[PORTS];
	__u8 tos;
	__u8 reserved[3];
	__u64 rebind_after_ns;
	__u64 source_interval_ns;	/* between two unknown pairs of one source that are passed up */
	__u64 total_interval_ns;	/* the same for all sources together */
	__u64 bind_digest;		/* of the addresses that endpoints are numbered by; for user space only */
	__u64 guess_interval_ns;	/* between two guesses in one session that are within the rate */
	__u64 source_guess_interval_ns;	/* the same of one source */
	struct rate rates[PORTS];	/* of a user on that port */
};

struct pair_key {
	__u32 user;
	__u32 session;
};

struct pair {
	__u32 slots[PORTS];	/* 0: not bound there, or not by this program to serve */
};

/* What user space knows of a binding. Never changed while a pair, a connection or a session names its slot. */
struct binding {
	__u32 peer[4];		/* IPv6 address, or IPv4 address as ::ffff:a.b.c.d; network order as all addresses here */
	__be16 peer_port;
	__u16 family;		/* AF_INET or AF_INET6 */
	__u32 endpoint;		/* which of the relay's addresses it is bound at, from 1 */
	__u32 user;
	__u32 session;
	__u32 connection_id;
	__u32 session_index;
} __attribute__((aligned(64)));

/* How to reach a peer on its link. Each word carries 16 bits of the epoch, so that words of two writers never pass for
 * one entry. */
struct next_hop {
	__u64 to;		/* MAC address, then 16 bits of the epoch */
	__u64 from;
	__u32 ifindex;
	__u32 epoch;		/* of about a second, in which it was looked up; never 0 */
};

/* What this program knows of a binding. */
struct state {
	__u64 last_seen_ns;	/* CLOCK_MONOTONIC */
	__u64 to_host_datagrams;
	__u64 to_host_bytes;
	__u64 to_player_datagrams;
	__u64 to_player_bytes;
	struct dues dues;
	__u32 local[4];		/* address of the relay that the peer sends to; all zero before it was first heard here */
	struct next_hop came_by;	/* by which way its last datagram came; no epoch */
	struct next_hop route;		/* by which way the next one goes */
	/* What is not touched for every datagram of a game stands last. */
	__u64 answered_datagrams;
	__u64 conflict_datagrams;
	__u64 limited_datagrams;
} __attribute__((aligned(64)));

struct session {
	__u32 token;
	__u32 host_slot;	/* 0: no host, or not by this program to serve */
};

struct connection_key {
	__u32 session;
	__u32 connection_id;
};

struct address {
	__u32 words[4];
};

struct total {
	__u64 datagrams;
	__u64 bytes;
};

/* What user space has added to its own counts so far, kept here so that it outlives the process; this program does not
 * touch it. */
struct taken_over {
	__u64 to_host_datagrams;
	__u64 to_host_bytes;
	__u64 to_player_datagrams;
	__u64 to_player_bytes;
};

enum interface_mode { NATIVE = 1, GENERIC = 2 };

/* max_entries of the maps that grow with the number of users are set by the loader. */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct pair_key);
	__type(value, struct pair);
} pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct binding);
} bindings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

/* By slot as `states`, and apart from them: only PINGs touch it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pings);
} pings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct session);
} sessions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct connection_key);
	__type(value, __u32);
} connections SEC(".maps");

/* Sessions that ended: token → when they are forgotten. Only tells two verdicts apart, so it may forget early. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} ended SEC(".maps");

/* The host's own addresses that the relay is bound at → number of the endpoint, from 1. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, __u32);
} addresses SEC(".maps");

/* Interfaces this program is attached to → mode. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PORTS * VERDICTS);
	__type(key, __u32);
	__type(value, struct total);
} totals SEC(".maps");

/* When the next unknown pair of a source, and of all sources, would be due if they came evenly (GCRA). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct address);
	__type(value, __u64);
} unknown_sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} unknown_total SEC(".maps");

/* Guessed user tokens: relayd/core/guesses.py. Every session there is → when the guesses in it would have been due. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} guesses SEC(".maps");

/* The same of a source. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct address);
	__type(value, __u64);
} guess_sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct taken_over);
} taken_over SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PORTS * VERDICTS);
	__type(key, __u32);
	__type(value, struct total);
} totals_taken_over SEC(".maps");

/* ---- One datagram ------------------------------------------------------------------------------------------------ */

struct datagram {
	const struct control *control;
	__u64 now_ns;
	__u64 mac_to;
	__u64 mac_from;
	__u32 source[4];
	__u32 local[4];
	__u32 ifindex;
	__u32 network_bytes;	/* length of its IP header */
	__u32 size;		/* length of the UDP payload */
	__u32 user;
	__u32 session;
	__u32 connection_id;	/* 0 where it has none */
	__u16 family;
	__be16 source_port;
	__u16 checksum;
	__u8 port;
	__u8 kind;
	__u8 header_bytes;	/* what stands before the payload */
};

static __always_inline __be16 port_number(const struct datagram *d, enum port port)
{
	return port == CLIENT ? d->control->ports[CLIENT] : d->control->ports[SERVER];
}

static __always_inline void count(const struct datagram *d, enum verdict verdict)
{
	__u32 key = d->port * VERDICTS + verdict;
	struct total *total = bpf_map_lookup_elem(&totals, &key);

	if (total) {
		total->datagrams += 1;
		total->bytes += d->size;
	}
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

/* What `is_bad` of relayd/core/bad_sources.py says. */
static __always_inline bool is_bad_source(const struct datagram *d)
{
	__u32 first = bpf_ntohl(d->family == AF_INET ? d->source[3] : d->source[0]) >> 24;
	struct address source;

	if (!d->source_port)
		return true;
	if (d->family == AF_INET6 &&
	    (first == 0xff || !(d->source[0] | d->source[1] | d->source[2] | d->source[3])))
		return true;
	if (d->family == AF_INET && (!first || first >= 224))
		return true;
	if (d->source_port != d->control->ports[CLIENT] && d->source_port != d->control->ports[SERVER])
		return false;
	copy_address(source.words, d->source);
	if (d->family == AF_INET && first == 127)
		source.words[3] = bpf_htonl(0x7f000001);
	return bpf_map_lookup_elem(&addresses, &source) != 0;
}

/* ---- Unknown tokens ---------------------------------------------------------------------------------------------- */

/* Takes one from a bucket that fills evenly, with a burst of one second's worth. Where two processors ask for the same
 * one at the same moment, the loser is refused: never more than the rate. */
static __always_inline bool take(__u64 *due_ns, __u64 interval_ns, __u64 now_ns)
{
	__u64 before = *(volatile __u64 *)due_ns;
	__u64 after = (before > now_ns ? before : now_ns) + interval_ns;

	if (after > now_ns + NS_PER_SECOND)
		return false;
	return __sync_val_compare_and_swap(due_ns, before, after) == before;
}

/* Whoever has one IPv6 address has 2^64 of them. */
static __always_inline struct address network_of_source(const struct datagram *d)
{
	struct address source = {};

	source.words[0] = d->source[0];
	source.words[1] = d->source[1];
	if (d->family == AF_INET) {
		source.words[2] = d->source[2];
		source.words[3] = d->source[3];
	}
	return source;
}

static __always_inline bool may_ask(const struct datagram *d)
{
	struct address source = network_of_source(d);
	__u64 *of_source, *of_all;
	__u64 due_ns;
	__u32 zero = 0;

	of_all = bpf_map_lookup_elem(&unknown_total, &zero);
	if (!of_all)
		return false;
	of_source = bpf_map_lookup_elem(&unknown_sources, &source);
	if (of_source)
		return take(of_source, d->control->source_interval_ns, d->now_ns) &&
		       take(of_all, d->control->total_interval_ns, d->now_ns);
	/* All together first: a flood from invented addresses must not push the real ones out of the map. */
	if (!take(of_all, d->control->total_interval_ns, d->now_ns))
		return false;
	due_ns = d->now_ns + d->control->source_interval_ns;
	bpf_map_update_elem(&unknown_sources, &source, &due_ns, BPF_ANY);
	return d->control->source_interval_ns <= NS_PER_SECOND;
}

static __always_inline bool too_many(__u64 due_ns, __u64 now_ns)
{
	return due_ns > now_ns + NS_PER_SECOND;
}

/* Counts also what is above the rate, up to a second's worth of it. */
static __always_inline __u64 later(__u64 due_ns, __u64 interval_ns, __u64 now_ns)
{
	__u64 after = (due_ns > now_ns ? due_ns : now_ns) + interval_ns;
	__u64 latest = now_ns + 2 * NS_PER_SECOND;

	return after < latest ? after : latest;
}

/* What `note` of relayd/core/guesses.py does. User space, which lets users in, looks here whether it was a lucky guess:
 * without this it would only know of the guesses that are passed up to it. */
static __always_inline void note_guess(const struct datagram *d)
{
	struct address source = network_of_source(d);
	__u64 *in_session, *of_source;
	__u64 before = 0, after;
	__u32 token = d->session;

	in_session = bpf_map_lookup_elem(&guesses, &token);
	if (!in_session)
		return;
	of_source = bpf_map_lookup_elem(&guess_sources, &source);
	if (of_source) {
		before = *of_source;
		*of_source = later(before, d->control->source_guess_interval_ns, d->now_ns);
		if (too_many(before, d->now_ns))
			return;
	}
	before = *in_session;
	*in_session = later(before, d->control->guess_interval_ns, d->now_ns);
	if (of_source || too_many(before, d->now_ns))
		return;
	after = d->now_ns + d->control->source_guess_interval_ns;
	bpf_map_update_elem(&guess_sources, &source, &after, BPF_ANY);
}

static __noinline int unknown_pair(struct xdp_md *ctx, const struct datagram *d)
{
	__u64 *forgotten_ns;
	__u32 token;

	if (!d)
		return XDP_PASS;
	if (is_bad_source(d))
		return drop(d, BAD_SOURCE);
	note_guess(d);
	if ((d->control->flags & PAIRS_INCOMPLETE) || may_ask(d))
		return pass_up(ctx, d);
	token = d->session;
	forgotten_ns = bpf_map_lookup_elem(&ended, &token);
	return drop(d, forgotten_ns && d->now_ns < *forgotten_ns ? SESSION_ENDED : UNKNOWN_PAIR);
}

/* ---- Where to ----------------------------------------------------------------------------------------------------- */

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

static __always_inline __u64 load_mac(const __u8 *mac)
{
	return mac[0] | (__u64)mac[1] << 8 | (__u64)mac[2] << 16 | (__u64)mac[3] << 24 | (__u64)mac[4] << 32 |
	       (__u64)mac[5] << 40;
}

/*
 * Asks the kernel's routes for the way to a peer and remembers it for about a second. A host that does not forward
 * packets (net.ipv4.ip_forward=0, as most) gets no answer from this look-up, and none is to be had for a peer on this
 * host itself: then the peer is answered by the way it came.
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

	if (state->route.epoch != epoch && look_up_route(ctx, d, peer, state))
		return -1;
	*way = state->route;
	if (way->epoch != epoch || (way->to >> 48) != (epoch & 0xffff) || (way->from >> 48) != (epoch & 0xffff))
		return -1;
	if (way->ifindex == d->ifindex && (!partial || d->ifindex == LOOPBACK_IFINDEX))
		return XDP_TX;
	here = bpf_map_lookup_elem(&interfaces, &d->ifindex);
	if (!here || (partial && *here != NATIVE))
		return -1; /* a generic program cannot tell the kernel that a checksum is finished now */
	if (way->ifindex == d->ifindex)
		return XDP_TX;
	there = bpf_map_lookup_elem(&interfaces, &way->ifindex);
	if (!there || *there != *here || way->ifindex == LOOPBACK_IFINDEX)
		return -1;
	return XDP_REDIRECT;
}

/* ---- Checksums: sums of 32-bit words, folded to 16 bits in the end (RFC 1071, RFC 1624) ---------------------------- */

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

static __always_inline __u64 sum_pseudo_header(const __u32 *a, const __u32 *b, __u16 family, __u32 udp_bytes)
{
	return sum_addresses(a, b, family) + bpf_htons(udp_bytes) + bpf_htons(IPPROTO_UDP);
}

/* A local stack leaves the rest of the checksum to the network card that never comes, and fills in this much of it. */
static __always_inline bool is_partial(const struct datagram *d)
{
	return d->checksum == fold(sum_pseudo_header(d->source, d->local, d->family, sizeof(struct udphdr) + d->size));
}

static __always_inline long frame_bytes(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end - (void *)(long)ctx->data;
}

/* ---- Out ----------------------------------------------------------------------------------------------------------- */

/* Type and connection id as they stand on the wire: five bytes in a word. */
static __always_inline __u64 type_and_connection(__u8 type, __u32 connection_id)
{
	return type | (__u64)connection_id << 8;
}

static __always_inline __u64 sum_of(__u64 word)
{
	return (word & 0xffffffff) + (word >> 32);
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

static __always_inline void write_ipv4(struct iphdr *ip, const __u32 *from, const __u32 *to, __u32 bytes, __u8 tos)
{
	__u32 *words = (__u32 *)ip;

	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = tos;
	ip->tot_len = bpf_htons(bytes);
	ip->id = 0;
	ip->frag_off = bpf_htons(DO_NOT_FRAGMENT);
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

/*
 * Turns the packet into one from the relay to `peer`: the payload stays where it is, all headers are written anew in
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
	 * On the loopback interface the kernel still remembers where the unfinished checksum was to go, and with the
	 * headers moved it takes even a right one for wrong. IPv4 can do without, IPv6 cannot.
	 */
	if ((!d->checksum || looped) && peer->family == AF_INET6)
		return -1;
	/* A packet that stays on this host has its route with it, and that is one of its own family. */
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
		sum = sum_pseudo_header(local, peer->peer, peer->family, udp_bytes) + sum_whole(ctx, ETH_HLEN + network_bytes);
	} else {
		/* The length stands in the pseudo-header too, hence twice. */
		sum = (__u16)~d->checksum;
		sum += sum_addresses(local, peer->peer, peer->family);
		sum += (__u64)local_port + peer->peer_port + 2 * (__u64)bpf_htons(udp_bytes) + sum_of(head);
		sum += (__u16)~fold(sum_addresses(d->source, d->local, d->family) + d->source_port +
				    port_number(d, d->port) +
				    2 * (__u64)bpf_htons(sizeof(*udp) + d->size) + d->user + (__u64)d->session +
				    sum_of(type_and_connection(d->kind, d->connection_id)));
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

/* ---- Decisions of a bound user's datagram --------------------------------------------------------------------------- */

static __always_inline struct binding *binding_of(__u32 slot, struct state **state)
{
	if (!slot)
		return 0;
	*state = bpf_map_lookup_elem(&states, &slot);
	return *state ? bpf_map_lookup_elem(&bindings, &slot) : 0;
}

static __always_inline int answer(struct xdp_md *ctx, const struct datagram *d, const struct binding *sender,
				  struct state *state, __u32 slot)
{
	struct pings *answered = bpf_map_lookup_elem(&pings, &slot);
	int exit = -1;

	/* One with something behind it is as good, but nobody sends such. */
	if (d->size == HEADER_BYTES)
		exit = send(ctx, d, sender, state, d->port, PING | STATE_VALID << 8, STATE_BYTES, 0);
	if (exit < 0) {
		if (answered)
			answered->last_ns = 0; /* this one is heard elsewhere */
		return pass_up(ctx, d);
	}
	if (answered)
		pings_note(answered, d->now_ns);
	count(d, ANSWERED);
	__sync_fetch_and_add(&state->answered_datagrams, 1);
	return exit;
}

static __always_inline int to_host(struct xdp_md *ctx, const struct datagram *d, const struct binding *player,
				   struct state *player_state)
{
	struct session *session = bpf_map_lookup_elem(&sessions, &player->session_index);
	struct state *host_state = 0;
	struct binding *host;
	int exit;

	if (!session || session->token != d->session)
		return pass_up(ctx, d);
	host = binding_of(session->host_slot, &host_state);
	if (!host || host->session != d->session)
		return pass_up(ctx, d);
	exit = send(ctx, d, host, host_state, SERVER, type_and_connection(DATA, player->connection_id),
		    TO_HOST_HEADER_BYTES, d->size - HEADER_BYTES);
	if (exit < 0)
		return pass_up(ctx, d);
	count(d, FORWARDED);
	__sync_fetch_and_add(&player_state->to_host_datagrams, 1);
	__sync_fetch_and_add(&player_state->to_host_bytes, d->size);
	return exit;
}

static __always_inline int to_player(struct xdp_md *ctx, const struct datagram *d)
{
	struct connection_key key = { .session = d->session, .connection_id = d->connection_id };
	__u32 *slot = bpf_map_lookup_elem(&connections, &key);
	struct state *player_state = 0;
	struct binding *player;
	int exit;

	if (!slot)
		return pass_up(ctx, d);
	player = binding_of(*slot, &player_state);
	if (!player || player->session != d->session || player->connection_id != d->connection_id)
		return pass_up(ctx, d);
	exit = send(ctx, d, player, player_state, CLIENT, DATA, TO_PLAYER_HEADER_BYTES,
		    d->size - HOST_DATA_HEADER_BYTES);
	if (exit < 0)
		return pass_up(ctx, d);
	count(d, FORWARDED);
	__sync_fetch_and_add(&player_state->to_player_datagrams, 1);
	__sync_fetch_and_add(&player_state->to_player_bytes, d->size);
	return exit;
}

/* ---- In ------------------------------------------------------------------------------------------------------------ */

/* Number of the endpoint a datagram is for, or 0 when it is not for this relay at all but, say, on its way through. */
static __always_inline __u32 endpoint_of(const struct datagram *d)
{
	struct address key;
	__u32 *endpoint;

	copy_address(key.words, d->local);
	endpoint = bpf_map_lookup_elem(&addresses, &key);
	return endpoint ? *endpoint : 0;
}

/* What engine.py's `_decide` does, in its order, as far as this program may decide it. */
static __always_inline int decide(struct xdp_md *ctx, struct datagram *d, const __u8 *payload, const void *end,
				  __u32 endpoint)
{
	struct pair_key key;
	const struct rate *rate;
	struct pair *pair;
	struct binding *sender;
	struct state *state = 0;
	__u32 slot;

	if (d->size < HEADER_BYTES)
		return drop(d, TOO_SHORT);
	if (d->size > MAX_DATAGRAM_BYTES) {
		/* Out of a local stack this may be several datagrams in one, which the sockets take apart. */
		return is_partial(d) ? pass_up(ctx, d) : drop(d, TOO_LONG);
	}
	if ((void *)payload + HEADER_BYTES > end)
		return XDP_PASS;
	d->user = *(const __u32 *)payload;
	d->session = *(const __u32 *)(payload + 4);
	d->kind = payload[8];
	d->header_bytes = HEADER_BYTES;
	if (d->kind == DATA) {
		if (d->port == SERVER)
			d->header_bytes = HOST_DATA_HEADER_BYTES;
		if (d->size <= d->header_bytes)
			return drop(d, d->size == d->header_bytes ? NO_PAYLOAD : TOO_SHORT);
		if (d->port == SERVER) {
			if ((void *)payload + HOST_DATA_HEADER_BYTES > end)
				return XDP_PASS;
			d->connection_id = *(const __u32 *)(payload + HEADER_BYTES);
		}
	} else if (d->kind != PING) {
		return drop(d, UNKNOWN_TYPE);
	}

	key.user = d->user;
	key.session = d->session;
	pair = bpf_map_lookup_elem(&pairs, &key);
	if (!pair)
		return unknown_pair(ctx, d);
	slot = d->port == CLIENT ? pair->slots[CLIENT] : pair->slots[SERVER];
	sender = binding_of(slot, &state);
	if (!sender || sender->user != d->user || sender->session != d->session)
		return is_bad_source(d) ? drop(d, BAD_SOURCE) : pass_up(ctx, d);
	if (sender->peer_port != d->source_port || sender->family != d->family ||
	    sender->endpoint != endpoint || !same_address(sender->peer, d->source)) {
		if (is_bad_source(d))
			return drop(d, BAD_SOURCE);
		if ((d->control->flags & PIN_IP) ||
		    (__s64)(d->now_ns - state->last_seen_ns) >= (__s64)d->control->rebind_after_ns)
			return pass_up(ctx, d);
		__sync_fetch_and_add(&state->conflict_datagrams, 1);
		return drop(d, ADDRESS_CONFLICT);
	}
	heard(d, state);
	/* Without care for other processors: one user's datagrams come by one, since network cards deal by address and port. */
	rate = d->port == CLIENT ? &d->control->rates[CLIENT] : &d->control->rates[SERVER];
	if (!within_rate(rate, &state->dues, d->size, d->now_ns)) {
		__sync_fetch_and_add(&state->limited_datagrams, 1);
		return drop(d, RATE_LIMITED);
	}
	if (d->kind == PING)
		return answer(ctx, d, sender, state, slot);
	return d->port == CLIENT ? to_host(ctx, d, sender, state) : to_player(ctx, d);
}

static __always_inline int arrived(struct xdp_md *ctx, struct datagram *d, const struct udphdr *udp, const void *end,
				   __u32 udp_bytes, bool plain)
{
	__u32 endpoint;
	__u32 zero = 0;

	if ((const void *)(udp + 1) > end)
		return XDP_PASS;
	d->control = bpf_map_lookup_elem(&control, &zero);
	if (!d->control)
		return XDP_PASS;
	if (udp->dest == d->control->ports[CLIENT])
		d->port = CLIENT;
	else if (udp->dest != d->control->ports[SERVER])
		return XDP_PASS;
	endpoint = endpoint_of(d);
	if (!endpoint)
		return XDP_PASS;
	d->source_port = udp->source;
	d->checksum = udp->check;
	/* What the stack would look at more closely, or drop and count in its own way, it is left to do. */
	if (!plain || bpf_ntohs(udp->len) != udp_bytes || udp_bytes < sizeof(*udp) ||
	    (const void *)udp + udp_bytes > end || (d->family == AF_INET6 && !d->checksum))
		return pass_up(ctx, d);
	d->size = udp_bytes - sizeof(*udp);
	d->now_ns = now_ns();
	return decide(ctx, d, (const __u8 *)(udp + 1), end, endpoint);
}

static __always_inline int ipv4_arrived(struct xdp_md *ctx, struct datagram *d, const void *start, const void *end)
{
	const struct iphdr *ip = start;
	const __u32 *words = start;
	__u32 header_bytes, bytes;
	bool plain;

	if ((const void *)(ip + 1) > end || ip->version != 4 || ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	header_bytes = ip->ihl * 4;
	if (header_bytes < sizeof(*ip) || (ip->frag_off & bpf_htons(FRAGMENT_OFFSET)))
		return XDP_PASS;
	d->family = AF_INET;
	d->network_bytes = sizeof(*ip);
	d->source[2] = d->local[2] = bpf_htonl(0xffff);
	d->source[3] = ip->saddr;
	d->local[3] = ip->daddr;
	bytes = bpf_ntohs(ip->tot_len);
	if (header_bytes > sizeof(*ip))
		return arrived(ctx, d, start + header_bytes, end, 0, false);
	plain = !(ip->frag_off & bpf_htons(MORE_FRAGMENTS)) && bytes > sizeof(*ip) &&
		fold((__u64)words[0] + words[1] + words[2] + words[3] + words[4]) == 0xffff;
	return arrived(ctx, d, start + sizeof(*ip), end, bytes - sizeof(*ip), plain);
}

static __always_inline int ipv6_arrived(struct xdp_md *ctx, struct datagram *d, const void *start, const void *end)
{
	const struct ipv6hdr *ip = start;

	if ((const void *)(ip + 1) > end || ip->version != 6 || ip->nexthdr != IPPROTO_UDP)
		return XDP_PASS;
	d->family = AF_INET6;
	d->network_bytes = sizeof(*ip);
	copy_address(d->source, ip->saddr.in6_u.u6_addr32);
	copy_address(d->local, ip->daddr.in6_u.u6_addr32);
	return arrived(ctx, d, start + sizeof(*ip), end, bpf_ntohs(ip->payload_len), true);
}

static __always_inline int handle(struct xdp_md *ctx)
{
	const void *start = (const void *)(long)ctx->data;
	const void *end = (const void *)(long)ctx->data_end;
	const struct ethhdr *ethernet = start;
	struct datagram d = {};

	/* To all, or to many: not what a relay is sent. */
	if ((const void *)(ethernet + 1) > end || (ethernet->h_dest[0] & 1))
		return XDP_PASS;
	d.ifindex = ctx->ingress_ifindex;
	d.mac_to = load_mac(ethernet->h_dest);
	d.mac_from = load_mac(ethernet->h_source);
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

char _license[] SEC("license") = "Dual BSD/GPL";
