#include "flows.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { FIRST_ENTRIES = 1024, CHUNK_BITS = 10, CHUNK = 1 << CHUNK_BITS };

/* ---- Map --------------------------------------------------------------------------------------------------------- */

/* The finaliser of splitmix64: every bit of the key reaches every bit of the place. */
static inline size_t place_of(const struct map *map, uint64_t key)
{
	uint64_t x = key ^ map->seed;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return (size_t)(x ^ (x >> 31)) & map->mask;
}

static bool map_create(struct map *map, size_t entries)
{
	map->entries = calloc(entries, sizeof(*map->entries));
	map->mask = entries - 1;
	map->used = 0;
	return map->entries != NULL;
}

void map_prefetch(const struct map *map, uint64_t key)
{
	__builtin_prefetch(&map->entries[place_of(map, key)]);
}

uint32_t map_find(const struct map *map, uint64_t key)
{
	size_t place = place_of(map, key);

	while (map->entries[place].slot && map->entries[place].key != key)
		place = (place + 1) & map->mask;
	return map->entries[place].slot;
}

static void map_put_where_there_is_room(struct map *map, uint64_t key, uint32_t slot)
{
	size_t place = place_of(map, key);

	while (map->entries[place].slot && map->entries[place].key != key)
		place = (place + 1) & map->mask;
	map->used += !map->entries[place].slot;
	map->entries[place] = (struct map_entry){ .key = key, .slot = slot };
}

/* Makes room for one more: at most half of the places are taken. */
static bool map_reserve(struct map *map)
{
	struct map old = *map;

	if (2 * (map->used + 1) <= map->mask + 1)
		return true;
	if (!map_create(map, 2 * (old.mask + 1))) {
		*map = old;
		return false;
	}
	for (size_t place = 0; place <= old.mask; place++)
		if (old.entries[place].slot)
			map_put_where_there_is_room(map, old.entries[place].key, old.entries[place].slot);
	free(old.entries);
	return true;
}

/* Removes an entry if it leads to this slot, and moves those up that stand further from their place because of it. */
static void map_remove(struct map *map, uint64_t key, uint32_t slot)
{
	size_t hole = place_of(map, key);

	while (map->entries[hole].slot && map->entries[hole].key != key)
		hole = (hole + 1) & map->mask;
	if (!slot || map->entries[hole].slot != slot)
		return;
	for (size_t place = (hole + 1) & map->mask; map->entries[place].slot; place = (place + 1) & map->mask) {
		size_t home = place_of(map, map->entries[place].key);

		if (((place - home) & map->mask) >= ((place - hole) & map->mask)) {
			map->entries[hole] = map->entries[place];
			hole = place;
		}
	}
	map->entries[hole] = (struct map_entry){ 0 };
	map->used--;
}

/* ---- Flows ------------------------------------------------------------------------------------------------------- */

static size_t chunk_count(const struct flows *flows)
{
	return ((size_t)flows->slots + CHUNK - 1) >> CHUNK_BITS;
}

bool flows_create(struct flows *flows, uint32_t slots)
{
	struct map *maps[] = { &flows->pairs[SERVER], &flows->pairs[CLIENT], &flows->connections, &flows->hosts };

	memset(flows, 0, sizeof(*flows));
	flows->slots = slots;
	flows->chunks = calloc(chunk_count(flows) + 1, sizeof(*flows->chunks));
	flows->pings = calloc(chunk_count(flows) + 1, sizeof(*flows->pings));
	for (size_t i = 0; i < sizeof(maps) / sizeof(*maps); i++) {
		if (!flows->chunks || !flows->pings ||
		    getrandom(&maps[i]->seed, sizeof(maps[i]->seed), 0) != sizeof(maps[i]->seed) ||
		    !map_create(maps[i], FIRST_ENTRIES)) {
			flows_destroy(flows);
			return false;
		}
	}
	return true;
}

void flows_destroy(struct flows *flows)
{
	for (size_t i = 0; flows->chunks && i < chunk_count(flows); i++)
		free(flows->chunks[i]);
	for (size_t i = 0; flows->pings && i < chunk_count(flows); i++)
		free(flows->pings[i]);
	free(flows->chunks);
	free(flows->pings);
	free(flows->pairs[SERVER].entries);
	free(flows->pairs[CLIENT].entries);
	free(flows->connections.entries);
	free(flows->hosts.entries);
	memset(flows, 0, sizeof(*flows));
}

struct flow *flows_at(const struct flows *flows, uint32_t slot)
{
	return &flows->chunks[slot >> CHUNK_BITS][slot & (CHUNK - 1)];
}

bool flows_has(const struct flows *flows, uint32_t slot)
{
	return slot && slot < flows->slots && flows->chunks[slot >> CHUNK_BITS] && flows_at(flows, slot)->used;
}

struct pings *flows_pings(const struct flows *flows, uint32_t slot)
{
	struct pings *chunk = flows->pings[slot >> CHUNK_BITS];

	return chunk ? &chunk[slot & (CHUNK - 1)] : NULL;
}

bool flows_leads_elsewhere(const struct flows *flows, const struct flow *binding)
{
	return map_find(&flows->pairs[binding->port], key_of(binding->user, binding->session)) ||
	       (binding->port == CLIENT
			? map_find(&flows->connections, key_of(binding->session, binding->connection_id))
			: map_find(&flows->hosts, binding->session));
}

bool flows_add(struct flows *flows, uint32_t slot, const struct flow *binding)
{
	struct flow **chunk = &flows->chunks[slot >> CHUNK_BITS], *flow;
	struct pings **pings = &flows->pings[slot >> CHUNK_BITS];
	uint32_t generation;

	if (!map_reserve(&flows->pairs[binding->port]) || !map_reserve(&flows->connections) ||
	    !map_reserve(&flows->hosts))
		return false;
	if (!*pings)
		*pings = calloc(CHUNK, sizeof(**pings));
	if (!*pings)
		return false;
	/* Chunks stay where they are: flows are known by their addresses. */
	if (!*chunk) {
		*chunk = aligned_alloc(64, CHUNK * sizeof(**chunk));
		if (!*chunk)
			return false;
		memset(*chunk, 0, CHUNK * sizeof(**chunk));
	}
	flow = flows_at(flows, slot);
	generation = flow->generation + 1;
	*flow = *binding;
	flow->used = true;
	flow->generation = generation;
	*flows_pings(flows, slot) = (struct pings){ 0 };
	map_put_where_there_is_room(&flows->pairs[flow->port], key_of(flow->user, flow->session), slot);
	if (flow->port == CLIENT)
		map_put_where_there_is_room(&flows->connections, key_of(flow->session, flow->connection_id), slot);
	else
		map_put_where_there_is_room(&flows->hosts, flow->session, slot);
	return true;
}

void flows_remove(struct flows *flows, uint32_t slot)
{
	struct flow *flow = flows_at(flows, slot);

	map_remove(&flows->pairs[flow->port], key_of(flow->user, flow->session), slot);
	if (flow->port == CLIENT)
		map_remove(&flows->connections, key_of(flow->session, flow->connection_id), slot);
	else
		map_remove(&flows->hosts, flow->session, slot);
	flow->used = false;
	flow->generation++;
}
