/* flows.c against a naive array, under the sanitizers: random bindings come and go through growth of all maps.
 *
 * Usage: flows_exercise SEED STEPS. Ends with 0, or says what differs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flows.h"

/* Few sessions, users and ids, so that the same ones are taken up and removed again and again. */
enum { SESSIONS = 700, USERS = 9, MOST = 3000 };

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "step %lu, line %d: %s\n", step, __LINE__, #condition); \
			exit(1); \
		} \
	} while (0)

static struct {
	struct flow flow;
	uint32_t slot;
} model[MOST];
static uint32_t free_slots[MOST];
static unsigned model_count, free_count;
static unsigned long step;

static unsigned below(unsigned bound)
{
	return (unsigned)random() % bound;
}

/* Tokens next to each other, and tokens that differ only far above. */
static uint32_t token_of(unsigned number)
{
	return number % 2 ? number : number << 20;
}

static struct flow random_binding(void)
{
	struct flow flow = { 0 };

	flow.port = below(6) ? CLIENT : SERVER;
	flow.session = token_of(below(SESSIONS));
	flow.user = token_of(below(USERS));
	flow.connection_id = flow.port == CLIENT ? 1 + below(USERS) : 0;
	flow.passed_up = step;
	return flow;
}

static uint32_t naive_pair(enum port port, uint32_t user, uint32_t session)
{
	for (unsigned i = 0; i < model_count; i++)
		if (model[i].flow.port == port && model[i].flow.user == user && model[i].flow.session == session)
			return model[i].slot;
	return 0;
}

static uint32_t naive_host(uint32_t session)
{
	for (unsigned i = 0; i < model_count; i++)
		if (model[i].flow.port == SERVER && model[i].flow.session == session)
			return model[i].slot;
	return 0;
}

static uint32_t naive_connection(uint32_t session, uint32_t connection_id)
{
	for (unsigned i = 0; i < model_count; i++)
		if (model[i].flow.port == CLIENT && model[i].flow.session == session &&
		    model[i].flow.connection_id == connection_id)
			return model[i].slot;
	return 0;
}

static void add(struct flows *flows)
{
	struct flow binding = random_binding();
	bool taken = naive_pair(binding.port, binding.user, binding.session) ||
		     (binding.port == SERVER ? naive_host(binding.session)
					     : naive_connection(binding.session, binding.connection_id));
	uint32_t slot;

	CHECK(flows_leads_elsewhere(flows, &binding) == taken);
	if (taken || !free_count)
		return;
	slot = free_slots[--free_count];
	CHECK(!flows_has(flows, slot));
	CHECK(flows_add(flows, slot, &binding));
	model[model_count].flow = binding;
	model[model_count++].slot = slot;
}

static void remove_one(struct flows *flows)
{
	unsigned i = below(model_count);
	uint32_t slot = model[i].slot, generation = flows_at(flows, slot)->generation;

	flows_remove(flows, slot);
	CHECK(flows_at(flows, slot)->generation != generation);
	CHECK(!flows_has(flows, slot));
	model[i] = model[--model_count];
	free_slots[free_count++] = slot;
}

static void compare(const struct flows *flows)
{
	struct flow any = random_binding();
	uint64_t pair = key_of(any.user, any.session), connection = key_of(any.session, any.connection_id);

	CHECK(map_find(&flows->pairs[any.port], pair) == naive_pair(any.port, any.user, any.session));
	CHECK(map_find(&flows->hosts, any.session) == naive_host(any.session));
	CHECK(map_find(&flows->connections, connection) == naive_connection(any.session, any.connection_id));
}

static void compare_all(const struct flows *flows)
{
	size_t used = flows->pairs[SERVER].used + flows->pairs[CLIENT].used;

	CHECK(used == model_count);
	CHECK(flows->hosts.used == flows->pairs[SERVER].used);
	CHECK(flows->connections.used == flows->pairs[CLIENT].used);
	for (unsigned i = 0; i < model_count; i++) {
		const struct flow *flow = flows_at(flows, model[i].slot);

		CHECK(flows_has(flows, model[i].slot));
		CHECK(flow->passed_up == model[i].flow.passed_up);
		CHECK(map_find(&flows->pairs[flow->port], key_of(flow->user, flow->session)) == model[i].slot);
	}
}

int main(int count, char **arguments)
{
	unsigned long steps;
	struct flows flows;

	if (count != 3)
		return 64;
	srandom((unsigned)strtoul(arguments[1], NULL, 10));
	steps = strtoul(arguments[2], NULL, 10);
	CHECK(flows_create(&flows, MOST + 1));
	while (free_count < MOST) {
		free_slots[free_count] = MOST - free_count;
		free_count++;
	}
	for (step = 1; step <= steps; step++) {
		/* It fills for a while, then empties for a while. */
		bool fills = step / 20000 % 2 == 0;

		if (model_count && below(10) >= (fills ? 8u : 3u))
			remove_one(&flows);
		else
			add(&flows);
		compare(&flows);
		if (step % 5000 == 0)
			compare_all(&flows);
	}
	while (model_count)
		remove_one(&flows);
	compare_all(&flows);
	flows_destroy(&flows);
	return 0;
}
