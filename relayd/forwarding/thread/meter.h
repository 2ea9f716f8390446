/* How much a user may send: relayd/core/meter.py in C, for the forwarding thread and for the kernel program. */
#ifndef RELAYD_METER_H
#define RELAYD_METER_H

#include <stdbool.h>

#include "../generated/layout.h"

static inline __u64 not_before(__u64 due_ns, __u64 now_ns)
{
	return due_ns > now_ns ? due_ns : now_ns;
}

/* Whether a datagram of that size may pass now; one that may not leaves no trace. */
static inline bool within_rate(const struct rate *rate, struct dues *dues, __u32 size_bytes, __u64 now_ns)
{
	__u64 full_ns = now_ns + NS_PER_SECOND;
	__u64 datagrams_ns = dues->datagrams_ns, bytes_ns = dues->bytes_ns;

	if (rate->datagram_ns)
		datagrams_ns = not_before(datagrams_ns, now_ns) + rate->datagram_ns;
	if (rate->bytes_per_second)
		bytes_ns = not_before(bytes_ns, now_ns) + size_bytes * NS_PER_SECOND / rate->bytes_per_second;
	if (datagrams_ns > full_ns || bytes_ns > full_ns)
		return false;
	dues->datagrams_ns = datagrams_ns;
	dues->bytes_ns = bytes_ns;
	return true;
}

/* Whether a peer that was last heard at `heard_ns` may not be there: then it is sent little. */
static inline bool is_silent(__u64 heard_ns, __u64 now_ns)
{
	return (__s64)(now_ns - heard_ns) >= (__s64)SILENT_NS;
}

#endif
