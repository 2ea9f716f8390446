/* The forwarding thread and what it shares with the thread that owns it. */
#ifndef RELAYD_FORWARDER_H
#define RELAYD_FORWARDER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "../generated/layout.h"
#include "clock.h"
#include "flows.h"
#include "sending.h"

/* Datagrams that wait for the owner: about 20 ms of what Python can judge. */
#define PASSED_UP 2048

/* How long a new flow may have to wait for what was passed up before it: longer than a busy machine keeps the owner from
 * its turn. An owner that cannot keep up at all must not hold up a game for good: KCP, which sorts, is served better by a
 * datagram out of order than by one that waits. */
#define SETTLES_SECONDS 0.25
#define ASKED 1024 /* receivers that the owner is asked about at once */
#define ASKS_AGAIN_SECONDS 1.0

/* The owner's memory, in which all is counted. */
struct memory {
	struct total (*totals)[VERDICTS]; /* by port */
	uint8_t *first_counts;		  /* of slot 0 */
	size_t counts_stride;		  /* from one slot's `struct counts` to the next one's */
	uint32_t slots;
};

extern const uint64_t delay_bounds_ns[DELAY_BUCKETS];

struct delays {
	uint64_t counts[DELAY_BUCKETS + 1];
	uint64_t sum_ns;
};

struct endpoint {
	int fd;
	enum port port;
	bool tells_local; /* whether the socket says which address of this host was asked: one that has several */
};

/* A datagram that the owner has to judge. */
struct passed_up {
	struct peer source;
	struct local local; /* where it was sent to */
	uint32_t endpoint;
	uint32_t size; /* as it arrived: may be more than is kept */
	uint8_t bytes[MAX_DATAGRAM_BYTES + 1];
};

struct forwarder {
	/* Set before the thread starts, never changed after. */
	struct endpoint *endpoints;
	unsigned endpoint_count;
	bool merge;	/* whether datagrams to one peer may leave as one (UDP_SEGMENT) */
	int wake_owner; /* eventfd: readable while something is passed up */
	int stop;	/* eventfd */
	int poll;
	struct work *work; /* the thread's own */
	struct memory memory;

	pthread_mutex_t lock; /* over all that follows */
	struct flows flows;
	struct delays delays;
	struct passed_up *ring;
	uint64_t ring_head; /* number of the next one to be put in */
	uint64_t ring_tail; /* number of the first that the owner is not done with */
	bool owner_woken;
	uint32_t asked[ASKED]; /* slots of receivers that will count as silent soon */
	unsigned asked_count;
};

/* Prepares everything but the thread. Returns 0 or an errno; then nothing is left behind. Takes no socket over. */
int forwarder_create(struct forwarder *f, const struct endpoint *endpoints, unsigned count, bool merge,
		     const struct memory *memory);
void forwarder_destroy(struct forwarder *f);

/* The thread's main: forwards until `stop` is written to. */
void *forwarder_run(void *forwarder);

static inline struct counts *counts_at(const struct forwarder *f, uint32_t slot)
{
	return (struct counts *)(f->memory.first_counts + (size_t)slot * f->memory.counts_stride);
}

#endif
