/* The thread's time: the one place where it is read. */
#ifndef RELAYD_THREAD_CLOCK_H
#define RELAYD_THREAD_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC, as the owner's event loop has it. */
static inline double clock_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* CLOCK_REALTIME, which the kernel's receive times are of. */
static inline uint64_t clock_real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
