/* forwarder.c under the sanitizers: traffic of every kind while its owner adds, removes and takes, and in the end every
 * datagram is accounted for.
 *
 * Usage: forwarder_exercise SEED TURNS. Ends with 0, or says what differs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/sock_diag.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "forwarder.h"

enum { USERS = 24, SESSIONS = 3, SENDERS = 2, TURN_DATAGRAMS = 100, AT_ONCE = 50 };

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
			exit(1); \
		} \
	} while (0)

static struct sockaddr_in relay_at[PORTS], peer_at;
static in_addr_t relay_has[] = { INADDR_LOOPBACK, INADDR_LOOPBACK + 1, INADDR_LOOPBACK + 6 };
static int relay[PORTS], peer;
static unsigned turns;
static atomic_ulong sent;
static atomic_uint sending = SENDERS;

static struct forwarder f;
static bool bound[PORTS][SESSIONS][USERS];
static struct counts counts[1 + PORTS * SESSIONS * USERS];
static struct total totals[PORTS][VERDICTS], all[PORTS][VERDICTS];
static uint64_t taken_datagrams, flow_datagrams;

static int open_socket(struct sockaddr_in *at)
{
	socklen_t size = sizeof(*at);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)at, size) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)at, &size) == 0);
	return fd;
}

/* Bound to every address, and saying which was asked: relayd/forwarding/asked.py. */
static int open_everywhere(struct sockaddr_in *at)
{
	static const int on = 1;
	socklen_t size = sizeof(*at);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET };
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)at, size) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)at, &size) == 0);
	CHECK(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) == 0);
	return fd;
}

static bool is_asked(const struct local *local)
{
	for (unsigned i = 0; i < sizeof(relay_has) / sizeof(*relay_has); i++) {
		in_addr_t address = htonl(relay_has[i]);

		if (local->family == AF_INET && memcmp(local->address, &address, sizeof(address)) == 0)
			return true;
	}
	return false;
}

static void put_u32(uint8_t *bytes, uint32_t value)
{
	memcpy(bytes, &value, sizeof(value));
}

/* ---- Peers: all behind one socket, since it is tokens that tell them apart -------------------------------------- */

static void *send_all(void *seed)
{
	unsigned chance = (unsigned)(uintptr_t)seed;
	uint8_t bytes[2000] = { 0 };
	struct sockaddr_in to;

	for (unsigned n = 0; n < turns * TURN_DATAGRAMS; n++) {
		enum port port = (enum port)(rand_r(&chance) % PORTS);
		unsigned kind = (unsigned)rand_r(&chance) % 16;
		size_t size = kind == 0 ? (size_t)rand_r(&chance) % sizeof(bytes)
					: 14 + (size_t)rand_r(&chance) % 3 * 500;

		put_u32(bytes + USER_OFFSET, (uint32_t)rand_r(&chance) % USERS);
		put_u32(bytes + SESSION_OFFSET, (uint32_t)rand_r(&chance) % SESSIONS);
		bytes[TYPE_OFFSET] = kind == 1 ? 9 : kind < 5 ? PING : DATA;
		put_u32(bytes + HEADER_BYTES, 1 + (uint32_t)rand_r(&chance) % USERS);
		to = relay_at[port];
		to.sin_addr.s_addr = htonl(relay_has[(unsigned)rand_r(&chance) % 3]);
		CHECK(sendto(peer, bytes, size, 0, (struct sockaddr *)&to, sizeof(to)) >= 0);
		atomic_fetch_add(&sent, 1);
		if (n % 32 == 0) {
			/* Not so fast that nearly all of it is lost at the sockets. */
			usleep(200);
			while (recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT) >= 0)
				;
		}
	}
	atomic_fetch_sub(&sending, 1);
	return NULL;
}

/* ---- The owner --------------------------------------------------------------------------------------------------- */

/* As `take_counts`, under the lock. */
static void take_counts(uint32_t slot)
{
	const struct counts *now = &counts[slot];

	flow_datagrams += now->to_host_datagrams + now->to_player_datagrams + now->send_queue_full + now->send_failed;
	counts[slot] = (struct counts){ .last_seen_seconds = now->last_seen_seconds };
}

static void add_or_remove(enum port port, uint32_t session, uint32_t user)
{
	bool *there = &bound[port][session][user];
	uint32_t slot = 1 + ((uint32_t)port * SESSIONS + session) * USERS + user;
	struct flow flow = { .user = user, .session = session, .port = port, .endpoint = port };

	flow.connection_id = port == CLIENT ? user + 1 : 0;
	flow.peer.family = AF_INET;
	/* Nobody is reached at port 0: what goes to some is not taken by the kernel. */
	flow.peer.port = rand() % 8 ? peer_at.sin_port : 0;
	memcpy(flow.peer.address, &peer_at.sin_addr, sizeof(peer_at.sin_addr));
	/* As known from before a restart; some from an address that the host has no longer. */
	flow.local.family = rand() % 4 ? AF_INET : 0;
	if (flow.local.family) {
		in_addr_t address = htonl(rand() % 8 ? relay_has[rand() % 3] : 0xc0000201); /* 192.0.2.1 */

		memcpy(flow.local.address, &address, sizeof(address));
	}
	flow.settled_at = clock_seconds() + SETTLES_SECONDS;
	CHECK(flows_has(&f.flows, slot) == *there);
	pthread_mutex_lock(&f.lock);
	if (*there) {
		flows_remove(&f.flows, slot);
		take_counts(slot);
		*there = false;
	} else if (!flows_leads_elsewhere(&f.flows, &flow)) {
		flow.passed_up = f.ring_head;
		CHECK(counts[slot].to_host_datagrams + counts[slot].to_player_datagrams == 0);
		CHECK(flows_add(&f.flows, slot, &flow));
		*there = true;
	}
	pthread_mutex_unlock(&f.lock);
}

/* As `take` of module.c does it. Returns how many there were. */
static unsigned take(void)
{
	static unsigned taken;
	uint64_t first, count;
	eventfd_t ignored;

	pthread_mutex_lock(&f.lock);
	f.ring_tail += taken;
	first = f.ring_tail;
	count = f.ring_head - first;
	if (!count) {
		f.owner_woken = false;
		eventfd_read(f.wake_owner, &ignored);
	}
	pthread_mutex_unlock(&f.lock);
	taken = count < AT_ONCE ? (unsigned)count : AT_ONCE;
	for (unsigned i = 0; i < taken; i++) {
		const struct passed_up *one = &f.ring[(first + i) % PASSED_UP];

		CHECK(one->endpoint < PORTS && one->size < 2000);
		CHECK(one->source.port == peer_at.sin_port);
		CHECK(is_asked(&one->local));
		CHECK(one->size < 4 || one->bytes[1] == 0);
	}
	taken_datagrams += taken;
	return taken;
}

/* As `take_totals`; returns what was decided so far. */
static uint64_t decided(bool data_only)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&f.lock);
	for (int port = 0; port < PORTS; port++) {
		for (int verdict = 0; verdict < VERDICTS; verdict++) {
			all[port][verdict].datagrams += totals[port][verdict].datagrams;
			if (!data_only || (verdict != ANSWERED && verdict != OVERLOADED))
				sum += all[port][verdict].datagrams;
		}
	}
	memset(totals, 0, sizeof(totals));
	pthread_mutex_unlock(&f.lock);
	return sum;
}

/* What the kernel dropped because a socket's buffer was full. */
static uint64_t overflowed(void)
{
	uint64_t sum = 0;

	for (int port = 0; port < PORTS; port++) {
		uint32_t memory[SK_MEMINFO_VARS] = { 0 };
		socklen_t size = sizeof(memory);

		CHECK(getsockopt(relay[port], SOL_SOCKET, SO_MEMINFO, memory, &size) == 0);
		sum += memory[SK_MEMINFO_DROPS];
	}
	return sum;
}

static void own(pthread_t *senders, pthread_t *forwarding)
{
	eventfd_t ignored;

	for (unsigned turn = 0; atomic_load(&sending); turn++) {
		for (unsigned i = 0; i < 4; i++)
			add_or_remove(rand() % 4 ? CLIENT : SERVER, (uint32_t)rand() % SESSIONS,
				      (uint32_t)rand() % USERS);
		take();
		(void)decided(false);
		usleep(50);
		if (turn % 50 == 49) {
			CHECK(eventfd_write(f.stop, 1) == 0);
			CHECK(pthread_join(*forwarding, NULL) == 0);
			CHECK(eventfd_read(f.stop, &ignored) == 0);
			CHECK(pthread_create(forwarding, NULL, forwarder_run, &f) == 0);
		}
	}
	for (unsigned i = 0; i < SENDERS; i++)
		CHECK(pthread_join(senders[i], NULL) == 0);
}

int main(int count, char **arguments)
{
	const struct memory memory = {
		.totals = totals,
		.first_counts = (uint8_t *)counts,
		.counts_stride = sizeof(*counts),
		.slots = sizeof(counts) / sizeof(*counts),
	};
	struct endpoint endpoints[PORTS];
	pthread_t senders[SENDERS], forwarding;
	unsigned seed;

	if (count != 3)
		return 64;
	seed = (unsigned)strtoul(arguments[1], NULL, 10);
	turns = (unsigned)strtoul(arguments[2], NULL, 10);
	srand(seed);
	peer = open_socket(&peer_at);
	for (int port = 0; port < PORTS; port++) {
		relay[port] = open_everywhere(&relay_at[port]);
		endpoints[port] = (struct endpoint){ .fd = relay[port], .port = (enum port)port };
	}
	CHECK(forwarder_create(&f, endpoints, PORTS, seed % 2 != 0, &memory) == 0);
	CHECK(pthread_create(&forwarding, NULL, forwarder_run, &f) == 0);
	for (unsigned i = 0; i < SENDERS; i++)
		CHECK(pthread_create(&senders[i], NULL, send_all, (void *)(uintptr_t)(seed + i)) == 0);
	own(senders, &forwarding);

	/* To the last: the thread decides on what waits in the sockets, the owner takes what waits in the ring. */
	while (take() || decided(false) + taken_datagrams + overflowed() < atomic_load(&sent))
		usleep(100);
	CHECK(eventfd_write(f.stop, 1) == 0);
	CHECK(pthread_join(forwarding, NULL) == 0);
	CHECK(decided(false) + taken_datagrams + overflowed() == atomic_load(&sent));
	for (uint32_t slot = 1; slot < memory.slots; slot++)
		take_counts(slot);
	/* Each DATA was counted for one flow, whether or not it was sent, unless its flow went before that was known. */
	CHECK(flow_datagrams > 0 && flow_datagrams <= decided(true));
	CHECK(all[CLIENT][SEND_FAILED].datagrams + all[SERVER][SEND_FAILED].datagrams > 0);
	CHECK(all[CLIENT][FORWARDED].datagrams > 0 && all[SERVER][FORWARDED].datagrams > 0);
	forwarder_destroy(&f);
	return 0;
}
