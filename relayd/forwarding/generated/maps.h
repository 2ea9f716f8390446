/* Written from relayd/core/declaration/kernel_maps.py by `make generate`: not to be edited. */
#ifndef RELAYD_GENERATED_MAPS_H
#define RELAYD_GENERATED_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "layout.h"

/* Of these maps: pinned ones of another layout are replaced. */
#define KERNEL_MAPS_LAYOUT 0xf6f7146238a69269ull
/* How long a wrong token is known to its source after it was heard there last. */
#define TRIED_NS 60000000000ull
/* Of so many that one processor forwards, one has its time measured. */
#define DATAGRAMS_PER_SAMPLE 1024ull

enum control_flag {
	/* A user who comes from another address is passed up: user space decides. */
	PIN_IP = 1,
	/* `pairs` could not hold all: an unknown pair may be a known one. */
	PAIRS_INCOMPLETE = 2,
	/* Nor could `by_sockets`: whoever seems to be bound nowhere may be bound. */
	BINDINGS_INCOMPLETE = 4,
	/* The program is on an interface that is not in `interfaces`, for what it sends by it is lost. */
	SOME_LEFT_TO_SOCKETS = 8,
};

enum passed_up {
	/* Without right tokens, or without any that can be read. */
	PASSED_UP_UNKNOWN = 0,
	/* With right tokens: who joins, who moves, and whoever has somebody else's. */
	PASSED_UP_KNOWN = 1,
	PASSED_UP_KINDS = 2,
};

enum interface_mode {
	NATIVE = 1,
	GENERIC = 2,
};

/* The program's settings. */
struct control {
	/* KERNEL_MAPS_LAYOUT of the relayd that made the maps; at this offset in every layout */
	__u64 layout;
	__u32 flags;
	__be16 ports[PORTS];
	/* the same as peers name them, where a NAT maps ports */
	__be16 public_ports[PORTS];
	__u8 tos;
	__u8 reserved[3];
	__u64 rebind_after_ns;
	/* between two unknown pairs of one source that are passed up */
	__u64 source_interval_ns;
	/* between two of a known pair that are passed up from where it is not bound */
	__u64 pair_interval_ns;
	/* the same for all of them together */
	__u64 total_intervals_ns[PASSED_UP_KINDS];
	/* of the addresses that endpoints are numbered by; for user space only */
	__u64 bind_digest;
	/* between two guesses in one session that are within the rate */
	__u64 guess_interval_ns;
	/* the same of one source */
	__u64 source_guess_interval_ns;
	/* of a user on that port */
	struct rate rates[PORTS];
};
_Static_assert(sizeof(struct control) == 120, "struct control");
_Static_assert(__builtin_offsetof(struct control, layout) == 0, "layout");
_Static_assert(__builtin_offsetof(struct control, flags) == 8, "flags");
_Static_assert(__builtin_offsetof(struct control, ports) == 12, "ports");
_Static_assert(__builtin_offsetof(struct control, public_ports) == 16, "public_ports");
_Static_assert(__builtin_offsetof(struct control, tos) == 20, "tos");
_Static_assert(__builtin_offsetof(struct control, reserved) == 21, "reserved");
_Static_assert(__builtin_offsetof(struct control, rebind_after_ns) == 24, "rebind_after_ns");
_Static_assert(__builtin_offsetof(struct control, source_interval_ns) == 32, "source_interval_ns");
_Static_assert(__builtin_offsetof(struct control, pair_interval_ns) == 40, "pair_interval_ns");
_Static_assert(__builtin_offsetof(struct control, total_intervals_ns) == 48, "total_intervals_ns");
_Static_assert(__builtin_offsetof(struct control, bind_digest) == 64, "bind_digest");
_Static_assert(__builtin_offsetof(struct control, guess_interval_ns) == 72, "guess_interval_ns");
_Static_assert(__builtin_offsetof(struct control, source_guess_interval_ns) == 80, "source_guess_interval_ns");
_Static_assert(__builtin_offsetof(struct control, rates) == 88, "rates");

/* Both tokens of a user. */
struct pair_key {
	__u32 user;
	__u32 session;
};
_Static_assert(sizeof(struct pair_key) == 8, "struct pair_key");
_Static_assert(__builtin_offsetof(struct pair_key, user) == 0, "user");
_Static_assert(__builtin_offsetof(struct pair_key, session) == 4, "session");

/* Where a user is bound. */
struct pair {
	/* 0: not bound there, or not by this program to serve */
	__u32 slots[PORTS];
	/* when the next one that is passed up from elsewhere would be due (GCRA) */
	__u64 due_ns;
};
_Static_assert(sizeof(struct pair) == 16, "struct pair");
_Static_assert(__builtin_offsetof(struct pair, slots) == 0, "slots");
_Static_assert(__builtin_offsetof(struct pair, due_ns) == 8, "due_ns");

/* What user space knows of a binding. Never changed while a pair, a connection or a session names its slot. */
struct binding {
	__u32 peer[4];
	__be16 peer_port;
	/* AF_INET or AF_INET6 */
	__u16 family;
	/* which of the relay's addresses it is bound at, from 1 */
	__u32 endpoint;
	__u32 user;
	__u32 session;
	__u32 connection_id;
	__u32 session_index;
	/* until then datagrams from other addresses are passed up */
	__u64 conflicts_until_ns;
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct binding) == 64, "struct binding");
_Static_assert(__builtin_offsetof(struct binding, peer) == 0, "peer");
_Static_assert(__builtin_offsetof(struct binding, peer_port) == 16, "peer_port");
_Static_assert(__builtin_offsetof(struct binding, family) == 18, "family");
_Static_assert(__builtin_offsetof(struct binding, endpoint) == 20, "endpoint");
_Static_assert(__builtin_offsetof(struct binding, user) == 24, "user");
_Static_assert(__builtin_offsetof(struct binding, session) == 28, "session");
_Static_assert(__builtin_offsetof(struct binding, connection_id) == 32, "connection_id");
_Static_assert(__builtin_offsetof(struct binding, session_index) == 36, "session_index");
_Static_assert(__builtin_offsetof(struct binding, conflicts_until_ns) == 40, "conflicts_until_ns");

/* Where somebody is bound. */
struct place {
	__u32 peer[4];
	__be16 peer_port;
	/* of the relay: port */
	__u16 port;
	/* which of the relay's addresses, from 1 */
	__u32 endpoint;
};
_Static_assert(sizeof(struct place) == 24, "struct place");
_Static_assert(__builtin_offsetof(struct place, peer) == 0, "peer");
_Static_assert(__builtin_offsetof(struct place, peer_port) == 16, "peer_port");
_Static_assert(__builtin_offsetof(struct place, port) == 18, "port");
_Static_assert(__builtin_offsetof(struct place, endpoint) == 20, "endpoint");

/* How long the program ran for datagrams it forwarded. */
struct run_times {
	/* by bucket */
	__u64 counts[DELAY_BUCKETS + 1];
	__u64 sum_ns;
};
_Static_assert(sizeof(struct run_times) == 152, "struct run_times");
_Static_assert(__builtin_offsetof(struct run_times, counts) == 0, "counts");
_Static_assert(__builtin_offsetof(struct run_times, sum_ns) == 144, "sum_ns");

/* How to reach a peer on its link. Both MAC addresses carry 16 bits of the epoch, so that words of two writers never
 * pass for one entry. */
struct next_hop {
	/* MAC address, then 16 bits of the epoch */
	__u64 to;
	__u64 from;
	__u32 ifindex;
	/* of about a second, in which it was looked up; never 0 */
	__u32 epoch;
};
_Static_assert(sizeof(struct next_hop) == 24, "struct next_hop");
_Static_assert(__builtin_offsetof(struct next_hop, to) == 0, "to");
_Static_assert(__builtin_offsetof(struct next_hop, from) == 8, "from");
_Static_assert(__builtin_offsetof(struct next_hop, ifindex) == 16, "ifindex");
_Static_assert(__builtin_offsetof(struct next_hop, epoch) == 20, "epoch");

/* What the program knows of a binding. */
struct state {
	/* CLOCK_MONOTONIC */
	__u64 last_seen_ns;
	__u64 to_host_datagrams;
	__u64 to_host_bytes;
	__u64 to_player_datagrams;
	__u64 to_player_bytes;
	struct dues dues;
	/* address of the relay that the peer sends to; all zero before it was first heard here */
	__u32 local[4];
	/* by which way its last datagram came; no epoch */
	struct next_hop came_by;
	/* by which way the next one goes */
	struct next_hop route;
	__u64 answered_datagrams;
	__u64 conflict_datagrams;
	__u64 limited_datagrams;
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct state) == 192, "struct state");
_Static_assert(__builtin_offsetof(struct state, last_seen_ns) == 0, "last_seen_ns");
_Static_assert(__builtin_offsetof(struct state, to_host_datagrams) == 8, "to_host_datagrams");
_Static_assert(__builtin_offsetof(struct state, to_host_bytes) == 16, "to_host_bytes");
_Static_assert(__builtin_offsetof(struct state, to_player_datagrams) == 24, "to_player_datagrams");
_Static_assert(__builtin_offsetof(struct state, to_player_bytes) == 32, "to_player_bytes");
_Static_assert(__builtin_offsetof(struct state, dues) == 40, "dues");
_Static_assert(__builtin_offsetof(struct state, local) == 56, "local");
_Static_assert(__builtin_offsetof(struct state, came_by) == 72, "came_by");
_Static_assert(__builtin_offsetof(struct state, route) == 96, "route");
_Static_assert(__builtin_offsetof(struct state, answered_datagrams) == 120, "answered_datagrams");
_Static_assert(__builtin_offsetof(struct state, conflict_datagrams) == 128, "conflict_datagrams");
_Static_assert(__builtin_offsetof(struct state, limited_datagrams) == 136, "limited_datagrams");

/* Whose players send to which host. */
struct session {
	__u32 token;
	/* 0: no host, or not by this program to serve */
	__u32 host_slot;
};
_Static_assert(sizeof(struct session) == 8, "struct session");
_Static_assert(__builtin_offsetof(struct session, token) == 0, "token");
_Static_assert(__builtin_offsetof(struct session, host_slot) == 4, "host_slot");

/* How a host names one of its players. */
struct connection_key {
	__u32 session;
	__u32 connection_id;
};
_Static_assert(sizeof(struct connection_key) == 8, "struct connection_key");
_Static_assert(__builtin_offsetof(struct connection_key, session) == 0, "session");
_Static_assert(__builtin_offsetof(struct connection_key, connection_id) == 4, "connection_id");

/* An IP address. */
struct address {
	__u32 words[4];
};
_Static_assert(sizeof(struct address) == 16, "struct address");
_Static_assert(__builtin_offsetof(struct address, words) == 0, "words");

/* What is noted of guesses in a session. */
struct search {
	/* when the guesses in it would have been due, had they come evenly */
	__u64 due_ns;
	/* with wrong user tokens */
	__u64 dropped_datagrams;
};
_Static_assert(sizeof(struct search) == 16, "struct search");
_Static_assert(__builtin_offsetof(struct search, due_ns) == 0, "due_ns");
_Static_assert(__builtin_offsetof(struct search, dropped_datagrams) == 8, "dropped_datagrams");

/* A network, or an address as one: the key of a longest-prefix match, linux/bpf.h. */
struct network_key {
	/* of what follows */
	__u32 prefix_bits;
	/* AF_INET or AF_INET6 */
	__u32 family;
	__u32 address[4];
};
_Static_assert(sizeof(struct network_key) == 24, "struct network_key");
_Static_assert(__builtin_offsetof(struct network_key, prefix_bits) == 0, "prefix_bits");
_Static_assert(__builtin_offsetof(struct network_key, family) == 4, "family");
_Static_assert(__builtin_offsetof(struct network_key, address) == 8, "address");

/* A wrong user token of a source. */
struct tried_key {
	__u32 network[4];
	__u32 user;
	__u32 session;
};
_Static_assert(sizeof(struct tried_key) == 24, "struct tried_key");
_Static_assert(__builtin_offsetof(struct tried_key, network) == 0, "network");
_Static_assert(__builtin_offsetof(struct tried_key, user) == 16, "user");
_Static_assert(__builtin_offsetof(struct tried_key, session) == 20, "session");

/* What of a slot user space has added to its own counts so far, kept here so that it outlives the process; the program
 * does not touch it. */
struct taken_over {
	__u64 to_host_datagrams;
	__u64 to_host_bytes;
	__u64 to_player_datagrams;
	__u64 to_player_bytes;
};
_Static_assert(sizeof(struct taken_over) == 32, "struct taken_over");
_Static_assert(__builtin_offsetof(struct taken_over, to_host_datagrams) == 0, "to_host_datagrams");
_Static_assert(__builtin_offsetof(struct taken_over, to_host_bytes) == 8, "to_host_bytes");
_Static_assert(__builtin_offsetof(struct taken_over, to_player_datagrams) == 16, "to_player_datagrams");
_Static_assert(__builtin_offsetof(struct taken_over, to_player_bytes) == 24, "to_player_bytes");

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

/* The host's own addresses that the relay is bound at → number of the endpoint, from 1; 0 for one that it has at a
 * NAT. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, __u32);
} addresses SEC(".maps");

/* Networks that nobody may be in: limits.denied_networks. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct network_key);
	__type(value, __u32);
} denied SEC(".maps");

/* Interfaces that the program is on and may send by → interface_mode. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} interfaces SEC(".maps");

/* By port and verdict. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 44);
	__type(key, __u32);
	__type(value, struct total);
} totals SEC(".maps");

/* Of one in DATAGRAMS_PER_SAMPLE. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct run_times);
} run_times SEC(".maps");

/* When the next unknown pair of a source would be due if they came evenly (GCRA). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct address);
	__type(value, __u64);
} unknown_sources SEC(".maps");

/* The same of all together, by passed_up. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} passed_up_dues SEC(".maps");

/* Where users are bound that the sockets serve. The values say nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct place);
	__type(value, __u32);
} by_sockets SEC(".maps");

/* Guessed user tokens, relayd/core/guesses.py, of every session there is. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct search);
} guesses SEC(".maps");

/* When the guesses of a source would have been due, had they come evenly. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct address);
	__type(value, __u64);
} guess_sources SEC(".maps");

/* Guesses within the rates → when they were last heard: the same is none again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct tried_key);
	__type(value, __u64);
} tried SEC(".maps");

/* Guesses above them: the same is none again until it is heard within them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct tried_key);
	__type(value, __u64);
} tried_above SEC(".maps");

/* Users that were taken out of their sessions → when they are forgotten. Their tokens are no guesses. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct pair_key);
	__type(value, __u64);
} revoked SEC(".maps");

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
	__uint(max_entries, 44);
	__type(key, __u32);
	__type(value, struct total);
} totals_taken_over SEC(".maps");

#endif
