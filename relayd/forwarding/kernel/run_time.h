/* SPDX-License-Identifier: Dual BSD/GPL */
/* How long this program runs for a datagram. When it came in, drivers do not tell it. */
#ifndef RELAYD_KERNEL_RUN_TIME_H
#define RELAYD_KERNEL_RUN_TIME_H

#include "clock.h"
#include "datagram.h"

static __noinline int note_run_time(const struct datagram *d)
{
	const __u64 bounds_ns[DELAY_BUCKETS] = DELAY_BOUNDS_NS;
	struct run_times *times;
	__u32 zero = 0, bucket = 0;
	__u64 run_ns;

	times = bpf_map_lookup_elem(&run_times, &zero);
	if (!d || !times)
		return 0;
	run_ns = now_ns() - d->now_ns;
	times->sum_ns += run_ns;
#pragma unroll
	for (int i = 0; i < DELAY_BUCKETS; i++) {
		if (run_ns <= bounds_ns[i])
			break;
		bucket = i + 1;
	}
	if (bucket <= DELAY_BUCKETS)
		times->counts[bucket] += 1;
	return 0;
}

/* For one in so many of those that this processor forwarded: it costs another look at the clock. */
static __always_inline void forwarded(const struct datagram *d)
{
	if (count(d, FORWARDED) % DATAGRAMS_PER_SAMPLE == 0)
		note_run_time(d);
}

#endif
