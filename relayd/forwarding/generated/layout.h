/* Written from relayd/core/declaration by `make generate`: not to be edited. */
#ifndef RELAYD_GENERATED_LAYOUT_H
#define RELAYD_GENERATED_LAYOUT_H

#include <linux/types.h>
#include "verdict.h"
#include "wire.h"

/* Of all that the thread shares with its owner. */
#define THREAD_LAYOUT 0x11583a1d6530028full

#define NS_PER_SECOND 1000000000ull
/* Who has not been heard for so long is sent no more than TO_SILENT_NS allows. */
#define SILENT_NS 5000000000ull
/* Between two datagrams to such a peer. */
#define TO_SILENT_NS 10000000ull
/* Between two PINGs of a client. */
#define PING_PERIOD_NS 500000000ull
/* A longer silence is no loss, but an absence. */
#define LONGEST_PING_INTERVAL_NS 30000000000ull

/* How long datagrams were in the relay, or the kernel program ran, which the first ones are for: upper bounds of the
 * buckets. One more bucket has no bound. */
#define DELAY_BUCKETS 17
#define DELAY_BOUNDS_NS \
	{ \
		250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, \
		10000000, 50000000, 250000000, \
	}

/* What may be sent: relayd/core/meter.py. */
struct rate {
	/* between two that come evenly; 0: no bound */
	__u64 datagram_ns;
	/* 0: no bound */
	__u64 bytes_per_second;
};
_Static_assert(sizeof(struct rate) == 16, "struct rate");
_Static_assert(__builtin_offsetof(struct rate, datagram_ns) == 0, "datagram_ns");
_Static_assert(__builtin_offsetof(struct rate, bytes_per_second) == 8, "bytes_per_second");

/* When what was let through would all have been due, had it come evenly. */
struct dues {
	/* CLOCK_MONOTONIC */
	__u64 datagrams_ns;
	__u64 bytes_ns;
};
_Static_assert(sizeof(struct dues) == 16, "struct dues");
_Static_assert(__builtin_offsetof(struct dues, datagrams_ns) == 0, "datagrams_ns");
_Static_assert(__builtin_offsetof(struct dues, bytes_ns) == 8, "bytes_ns");

/* How evenly a peer's PINGs come: relayd/core/pings.py. */
struct pings {
	/* CLOCK_MONOTONIC; 0 where the interval to the next one says nothing */
	__u64 last_ns;
	__u64 heard;
	__u64 missed;
	__u64 jitter_sixteenths_ns;
};
_Static_assert(sizeof(struct pings) == 32, "struct pings");
_Static_assert(__builtin_offsetof(struct pings, last_ns) == 0, "last_ns");
_Static_assert(__builtin_offsetof(struct pings, heard) == 8, "heard");
_Static_assert(__builtin_offsetof(struct pings, missed) == 16, "missed");
_Static_assert(__builtin_offsetof(struct pings, jitter_sixteenths_ns) == 24, "jitter_sixteenths_ns");

/* Of one verdict at one port. */
struct total {
	__u64 datagrams;
	__u64 bytes;
};
_Static_assert(sizeof(struct total) == 16, "struct total");
_Static_assert(__builtin_offsetof(struct total, datagrams) == 0, "datagrams");
_Static_assert(__builtin_offsetof(struct total, bytes) == 8, "bytes");

/* What is counted of a binding: a line of the cache, in the owner's memory, which may outlive the process. Counts
 * begin where the owner left them. */
struct counts {
	/* CLOCK_MONOTONIC */
	double last_seen_seconds;
	__u64 to_host_datagrams;
	__u64 to_host_bytes;
	__u64 to_player_datagrams;
	__u64 to_player_bytes;
	__u64 send_queue_full;
	__u64 send_failed;
	__u64 rate_limited;
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct counts) == 64, "struct counts");
_Static_assert(__builtin_offsetof(struct counts, last_seen_seconds) == 0, "last_seen_seconds");
_Static_assert(__builtin_offsetof(struct counts, to_host_datagrams) == 8, "to_host_datagrams");
_Static_assert(__builtin_offsetof(struct counts, to_host_bytes) == 16, "to_host_bytes");
_Static_assert(__builtin_offsetof(struct counts, to_player_datagrams) == 24, "to_player_datagrams");
_Static_assert(__builtin_offsetof(struct counts, to_player_bytes) == 32, "to_player_bytes");
_Static_assert(__builtin_offsetof(struct counts, send_queue_full) == 40, "send_queue_full");
_Static_assert(__builtin_offsetof(struct counts, send_failed) == 48, "send_failed");
_Static_assert(__builtin_offsetof(struct counts, rate_limited) == 56, "rate_limited");

#endif
