/* How much a user may send: relayd/core/meter.py, in the same whole nanoseconds. */
#ifndef RELAYD_METER_H
#define RELAYD_METER_H

#include <stdbool.h>
#include <stdint.h>

#define NS_PER_SECOND 1000000000ull

struct meter {
	uint64_t datagram_ns;		/* between two that come evenly; 0: no bound */
	uint64_t bytes_per_second;	/* 0: no bound */
	uint64_t datagrams_due_ns;
	uint64_t bytes_due_ns;
};

static inline uint64_t meter_later(uint64_t due_ns, uint64_t now_ns)
{
	return due_ns > now_ns ? due_ns : now_ns;
}

/* Whether a datagram of that size may pass now; one that may not leaves no trace. */
static inline bool meter_take(struct meter *meter, uint32_t size_bytes, uint64_t now_ns)
{
	const uint64_t full_ns = now_ns + NS_PER_SECOND;
	uint64_t datagrams_due_ns = meter->datagrams_due_ns, bytes_due_ns = meter->bytes_due_ns;

	if (meter->datagram_ns)
		datagrams_due_ns = meter_later(datagrams_due_ns, now_ns) + meter->datagram_ns;
	if (meter->bytes_per_second)
		bytes_due_ns = meter_later(bytes_due_ns, now_ns) + size_bytes * NS_PER_SECOND / meter->bytes_per_second;
	if (datagrams_due_ns > full_ns || bytes_due_ns > full_ns)
		return false;
	meter->datagrams_due_ns = datagrams_due_ns;
	meter->bytes_due_ns = bytes_due_ns;
	return true;
}

#endif
