/* What leaves by one socket after a batch, with as few system calls as it takes. */
#ifndef RELAYD_SENDING_H
#define RELAYD_SENDING_H

#include <stdbool.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "../generated/verdict.h"
#include "flows.h"

/* Datagrams taken in, and at most sent, by one system call. More make a batch slower to come out and hardly cheaper. */
#define BATCH 64

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* A datagram that goes out, and what is to be counted when it has, or has not. */
struct leaving {
	union address to;
	struct local local; /* to leave from */
	struct iovec part;
	uint32_t to_slot;
	uint32_t player_slot;
	uint32_t player_generation;
	uint32_t arrived_bytes;
	enum verdict verdict;
	unsigned message;
};

/* What leaves by one socket after a batch. */
struct out {
	unsigned count;
	struct leaving leaving[BATCH];
};

/* Sends all of it, each from its address of this host or, where this host no longer has that, from one that the kernel
 * chooses; the `verdict` of what the kernel did not take becomes the reason. With `merge`, datagrams to one peer
 * may leave as one (UDP_SEGMENT). `count` stays. */
void send_out(int fd, struct out *out, bool merge);

#endif
