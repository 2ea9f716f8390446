/* How evenly a peer's PINGs come: relayd/core/pings.py in C, for the forwarding thread and for the kernel program. */
#ifndef RELAYD_PINGS_H
#define RELAYD_PINGS_H

#include "../generated/layout.h"

static inline void pings_note(struct pings *pings, __u64 now_ns)
{
	__u64 interval_ns = now_ns - pings->last_ns;
	__u64 periods, expected_ns;

	pings->heard++;
	if (now_ns < pings->last_ns)
		return;
	if (pings->last_ns && interval_ns < LONGEST_PING_INTERVAL_NS) {
		periods = (interval_ns + PING_PERIOD_NS / 2) / PING_PERIOD_NS;
		if (!periods)
			periods = 1;
		expected_ns = periods * PING_PERIOD_NS;
		pings->missed += periods - 1;
		/* RFC 3550, 6.4.1, in the whole numbers of its A.8. */
		pings->jitter_sixteenths_ns -= (pings->jitter_sixteenths_ns + 8) >> 4;
		pings->jitter_sixteenths_ns += interval_ns > expected_ns ? interval_ns - expected_ns
									 : expected_ns - interval_ns;
	}
	pings->last_ns = now_ns;
}

#endif
