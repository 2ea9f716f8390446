/* Who is forwarded to whom: the bindings that nothing is undecided about, found by what stands in a datagram. */
#ifndef RELAYD_FLOWS_H
#define RELAYD_FLOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "../generated/layout.h"
#include "meter.h"
#include "pings.h"

/* A peer's address in one form for both families, every byte of it set, so that two can be compared as bytes. */
struct peer {
	uint16_t family;
	uint16_t port;	     /* network order */
	uint8_t address[16]; /* IPv4: the first four */
	uint32_t scope;
};

/* An address of this host, with the interface where it is link-local; a family of 0 where there is none to name. */
struct local {
	uint8_t address[16]; /* IPv4: the first four */
	uint32_t interface;
	uint32_t family;
};

/* One binding: one line of the cache, and another one where there is a rate or an address of this host to keep. */
struct flow {
	struct peer peer;
	uint32_t user;
	uint32_t session;
	uint32_t connection_id;
	uint16_t endpoint;
	uint8_t port;
	bool used;
	uint64_t passed_up;  /* the last datagram that may have to reach the peers before any that is forwarded here */
	double settled_at;   /* seconds; from then on `passed_up` is no reason to wait any more */
	uint32_t generation; /* another one for each binding that had this slot */
	bool metered;	     /* whether there is a rate to keep */
	struct rate rate __attribute__((aligned(64)));
	struct dues dues;
	struct local local;    /* where it sends to, and is to be sent to from */
	double ask_at;	       /* seconds; from then on the owner is asked whether somebody else hears it */
	struct dues to_silent; /* of what was sent to it while it was silent */
} __attribute__((aligned(64)));

/* 64-bit key → slot. Open addressing; a slot is never 0, which marks what is free. */
struct map_entry {
	uint64_t key;
	uint32_t slot;
};

struct map {
	struct map_entry *entries;
	uint64_t seed; /* so that nobody can choose tokens that fall on one place */
	size_t mask;
	size_t used;
};

struct flows {
	struct map pairs[PORTS]; /* user and session token → who sent it */
	struct map connections;	 /* session token and connection id → player */
	struct map hosts;	 /* session token → host */
	struct flow **chunks;	 /* each allocated with its first slot */
	struct pings **pings;	 /* by slot, in chunks too: apart from what every datagram needs */
	uint32_t slots;		 /* slot 0 is never used */
};

/* Returns false without memory. */
bool flows_create(struct flows *flows, uint32_t slots);
void flows_destroy(struct flows *flows);

/* Whether one of the keys of this binding leads to another one. */
bool flows_leads_elsewhere(const struct flows *flows, const struct flow *binding);

/* Adds a binding, none of whose keys leads elsewhere, in a free slot. False without memory, and then nothing changed. */
bool flows_add(struct flows *flows, uint32_t slot, const struct flow *binding);
void flows_remove(struct flows *flows, uint32_t slot);

struct flow *flows_at(const struct flows *flows, uint32_t slot);
bool flows_has(const struct flows *flows, uint32_t slot);

/* Of the binding that has this slot, or had it last; NULL where there never was one. */
struct pings *flows_pings(const struct flows *flows, uint32_t slot);
uint32_t map_find(const struct map *map, uint64_t key);
void map_prefetch(const struct map *map, uint64_t key);

static inline uint64_t key_of(uint32_t first, uint32_t second)
{
	return (uint64_t)first << 32 | second;
}

#endif
