/* The forwarder as a Python type: `relayd.forwarding.thread._forwarder`. Its signatures are in _forwarder.pyi. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

#include "forwarder.h"

typedef struct {
	PyObject_HEAD
	struct forwarder f;
	Py_buffer memory;
	pthread_t thread;
	bool created;
	bool running;
	unsigned taken; /* passed up, and by now in the owner's hands */
} Forwarder;

/* ---- Addresses, as Python's socket module has them: (ip, port) or (ip, port, flow info, scope) ------------------- */

static PyObject *address_of(const struct peer *peer)
{
	char text[INET6_ADDRSTRLEN];

	if (!inet_ntop(peer->family, peer->address, text, sizeof(text)))
		return PyErr_SetFromErrno(PyExc_OSError);
	if (peer->family == AF_INET6)
		return Py_BuildValue("(siiI)", text, (int)ntohs(peer->port), 0, (unsigned)peer->scope);
	return Py_BuildValue("(si)", text, (int)ntohs(peer->port));
}

/* As the core has an address of this host: 4 bytes, or 20 with an interface; NULL in case of an error. */
static PyObject *local_object(const struct local *local)
{
	uint8_t bytes[sizeof(local->address) + sizeof(local->interface)];

	if (!local->family)
		return Py_NewRef(Py_None);
	memcpy(bytes, local->address, sizeof(local->address));
	memcpy(bytes + sizeof(local->address), &local->interface, sizeof(local->interface));
	return PyBytes_FromStringAndSize((const char *)bytes, local->family == AF_INET
								      ? (Py_ssize_t)sizeof(struct in_addr)
								      : (Py_ssize_t)sizeof(bytes));
}

/* For "O&". */
static int local_of(PyObject *object, void *value)
{
	struct local *local = value;
	Py_ssize_t size;

	memset(local, 0, sizeof(*local));
	if (object == Py_None)
		return 1;
	if (!PyBytes_Check(object)) {
		PyErr_SetString(PyExc_TypeError, "an address of this host has to be bytes or None");
		return 0;
	}
	size = PyBytes_GET_SIZE(object);
	if (size != sizeof(struct in_addr) && size != sizeof(local->address) + sizeof(local->interface)) {
		PyErr_Format(PyExc_ValueError, "%zd bytes: no address of this host", size);
		return 0;
	}
	local->family = size == sizeof(struct in_addr) ? AF_INET : AF_INET6;
	memcpy(local->address, PyBytes_AS_STRING(object),
	       local->family == AF_INET ? sizeof(struct in_addr) : sizeof(local->address));
	if (local->family == AF_INET6)
		memcpy(&local->interface, PyBytes_AS_STRING(object) + sizeof(local->address), sizeof(local->interface));
	return 1;
}

/* For "O&": a number that has to fit, which "I" does not look at. */
static int u32_of(PyObject *number, void *value)
{
	unsigned long whole = PyLong_AsUnsignedLong(number);

	if (whole == (unsigned long)-1 && PyErr_Occurred())
		return 0;
	if (whole > UINT32_MAX) {
		PyErr_Format(PyExc_OverflowError, "%lu: more than 32 bits", whole);
		return 0;
	}
	*(uint32_t *)value = (uint32_t)whole;
	return 1;
}

static int peer_of(PyObject *address, struct peer *peer)
{
	const char *ip;
	uint32_t port, flow_info = 0, scope = 0;

	memset(peer, 0, sizeof(*peer));
	if (!PyArg_ParseTuple(address, "sO&|O&O&:address", &ip, u32_of, &port, u32_of, &flow_info, u32_of, &scope))
		return -1;
	if (port > UINT16_MAX) {
		PyErr_Format(PyExc_ValueError, "%u: no UDP port", (unsigned)port);
		return -1;
	}
	peer->family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	peer->port = htons((uint16_t)port);
	peer->scope = scope;
	if (inet_pton(peer->family, ip, peer->address) != 1) {
		PyErr_Format(PyExc_ValueError, "%s: no IP address", ip);
		return -1;
	}
	return 0;
}

/* ---- Flows ------------------------------------------------------------------------------------------------------- */

static PyObject *add(Forwarder *self, PyObject *arguments)
{
	struct flow flow = { 0 };
	PyObject *address;
	uint32_t slot, endpoint, datagrams_per_second = 0;
	unsigned long long bytes_per_second = 0, datagrams_due_ns = 0, bytes_due_ns = 0;
	bool taken, added;

	if (!PyArg_ParseTuple(arguments, "O&O&O!O&O&O&|(O&KKK)O&", u32_of, &slot, u32_of, &endpoint, &PyTuple_Type,
			      &address, u32_of, &flow.user, u32_of, &flow.session, u32_of, &flow.connection_id, u32_of,
			      &datagrams_per_second, &bytes_per_second, &datagrams_due_ns, &bytes_due_ns, local_of,
			      &flow.local) ||
	    peer_of(address, &flow.peer) < 0)
		return NULL;
	if (endpoint >= self->f.endpoint_count)
		return PyErr_Format(PyExc_ValueError, "%u: no such endpoint", (unsigned)endpoint);
	if (!slot || slot >= self->f.memory.slots || flows_has(&self->f.flows, slot))
		return PyErr_Format(PyExc_ValueError, "%u: no such slot, or not a free one", (unsigned)slot);
	flow.endpoint = (uint16_t)endpoint;
	flow.port = (uint8_t)self->f.endpoints[endpoint].port;
	flow.settled_at = clock_seconds() + SETTLES_SECONDS;
	flow.rate.datagram_ns = datagrams_per_second ? NS_PER_SECOND / datagrams_per_second : 0;
	flow.rate.bytes_per_second = bytes_per_second;
	flow.dues = (struct dues){ .datagrams_ns = datagrams_due_ns, .bytes_ns = bytes_due_ns };
	flow.metered = datagrams_per_second || bytes_per_second;

	pthread_mutex_lock(&self->f.lock);
	flow.passed_up = self->f.ring_head;
	/* It was heard by the engine, or it would not be here. */
	if (!counts_at(&self->f, slot)->last_seen_seconds)
		counts_at(&self->f, slot)->last_seen_seconds = clock_seconds();
	taken = flows_leads_elsewhere(&self->f.flows, &flow);
	added = !taken && flows_add(&self->f.flows, slot, &flow);
	pthread_mutex_unlock(&self->f.lock);
	if (taken) {
		PyErr_SetString(PyExc_ValueError, "its user, its connection id or its session's host is there already");
		return NULL;
	}
	if (!added)
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

static PyObject *remove_flow(Forwarder *self, PyObject *number)
{
	unsigned long slot = PyLong_AsUnsignedLong(number);
	struct local local;
	struct dues dues;

	if (slot == (unsigned long)-1 && PyErr_Occurred())
		return NULL;
	if (slot > UINT32_MAX || !flows_has(&self->f.flows, (uint32_t)slot))
		return PyErr_Format(PyExc_KeyError, "%lu: no such flow", slot);
	pthread_mutex_lock(&self->f.lock);
	dues = flows_at(&self->f.flows, (uint32_t)slot)->dues;
	local = flows_at(&self->f.flows, (uint32_t)slot)->local;
	flows_remove(&self->f.flows, (uint32_t)slot);
	pthread_mutex_unlock(&self->f.lock);
	return Py_BuildValue("(KKN)", dues.datagrams_ns, dues.bytes_ns, local_object(&local));
}

static PyObject *take_counts(Forwarder *self, PyObject *number)
{
	unsigned long slot = PyLong_AsUnsignedLong(number);
	struct counts *there, copy;

	if (slot == (unsigned long)-1 && PyErr_Occurred())
		return NULL;
	if (slot >= self->f.memory.slots)
		return PyErr_Format(PyExc_KeyError, "%lu: no such slot", slot);
	there = counts_at(&self->f, (uint32_t)slot);
	pthread_mutex_lock(&self->f.lock);
	copy = *there;
	*there = (struct counts){ .last_seen_seconds = copy.last_seen_seconds };
	pthread_mutex_unlock(&self->f.lock);
	return Py_BuildValue("(KKKKKKK)", copy.to_host_datagrams, copy.to_host_bytes, copy.to_player_datagrams,
			     copy.to_player_bytes, copy.send_queue_full, copy.send_failed, copy.rate_limited);
}

static PyObject *take_asked(Forwarder *self, PyObject *nothing)
{
	uint32_t slots[ASKED];
	unsigned count;
	PyObject *list;

	(void)nothing;
	pthread_mutex_lock(&self->f.lock);
	count = self->f.asked_count;
	memcpy(slots, self->f.asked, count * sizeof(slots[0]));
	self->f.asked_count = 0;
	pthread_mutex_unlock(&self->f.lock);
	list = PyList_New((Py_ssize_t)count);
	for (unsigned i = 0; list && i < count; i++) {
		PyObject *one = PyLong_FromUnsignedLong(slots[i]);

		if (one)
			PyList_SET_ITEM(list, (Py_ssize_t)i, one);
		else
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *pings(Forwarder *self, PyObject *number)
{
	unsigned long slot = PyLong_AsUnsignedLong(number);
	struct pings *there, copy;

	if (slot == (unsigned long)-1 && PyErr_Occurred())
		return NULL;
	there = slot < self->f.memory.slots ? flows_pings(&self->f.flows, (uint32_t)slot) : NULL;
	if (!there)
		return PyErr_Format(PyExc_KeyError, "%lu: no binding had that slot", slot);
	pthread_mutex_lock(&self->f.lock);
	copy = *there;
	pthread_mutex_unlock(&self->f.lock);
	return Py_BuildValue("(KKKK)", copy.last_ns, copy.heard, copy.missed, copy.jitter_sixteenths_ns);
}

/* ---- What was passed up ------------------------------------------------------------------------------------------ */

static PyObject *passed_up_datagram(const struct passed_up *one)
{
	PyObject *address = address_of(&one->source);
	PyObject *bytes = address ? PyBytes_FromStringAndSize(NULL, one->size) : NULL;
	uint32_t kept = one->size < sizeof(one->bytes) ? one->size : sizeof(one->bytes);

	if (!bytes) {
		Py_XDECREF(address);
		return NULL;
	}
	memcpy(PyBytes_AS_STRING(bytes), one->bytes, kept);
	memset(PyBytes_AS_STRING(bytes) + kept, 0, one->size - kept);
	return Py_BuildValue("(INNN)", one->endpoint, bytes, address, local_object(&one->local));
}

static PyObject *take(Forwarder *self, PyObject *limit)
{
	unsigned long most = PyLong_AsUnsignedLong(limit);
	uint64_t first, count;
	eventfd_t ignored;
	PyObject *list;

	if (most == (unsigned long)-1 && PyErr_Occurred())
		return NULL;
	pthread_mutex_lock(&self->f.lock);
	self->f.ring_tail += self->taken;
	self->taken = 0;
	first = self->f.ring_tail;
	count = self->f.ring_head - first;
	if (!count) {
		self->f.owner_woken = false;
		/* Always drained: the thread may write to it after the datagram in question was taken. */
		eventfd_read(self->f.wake_owner, &ignored);
	}
	pthread_mutex_unlock(&self->f.lock);

	/* The thread leaves alone what is not done with. */
	count = count < most ? count : most;
	list = PyList_New((Py_ssize_t)count);
	for (uint64_t i = 0; list && i < count; i++) {
		PyObject *one = passed_up_datagram(&self->f.ring[(first + i) % PASSED_UP]);

		if (!one) {
			Py_CLEAR(list);
			break;
		}
		PyList_SET_ITEM(list, (Py_ssize_t)i, one);
	}
	if (list)
		self->taken = (unsigned)count;
	return list;
}

static PyObject *fileno_of(Forwarder *self, PyObject *nothing)
{
	(void)nothing;
	return PyLong_FromLong(self->f.wake_owner);
}

/* ---- Sums -------------------------------------------------------------------------------------------------------- */

static PyObject *take_totals(Forwarder *self, PyObject *nothing)
{
	struct total copy[PORTS][VERDICTS];
	PyObject *all = PyTuple_New(PORTS);

	(void)nothing;
	pthread_mutex_lock(&self->f.lock);
	memcpy(copy, self->f.memory.totals, sizeof(copy));
	memset(self->f.memory.totals, 0, sizeof(copy));
	pthread_mutex_unlock(&self->f.lock);
	for (int port = 0; all && port < PORTS; port++) {
		PyObject *of_port = PyTuple_New(VERDICTS);

		for (int verdict = 0; of_port && verdict < VERDICTS; verdict++) {
			PyObject *one = Py_BuildValue("(KK)", copy[port][verdict].datagrams, copy[port][verdict].bytes);

			if (one)
				PyTuple_SET_ITEM(of_port, verdict, one);
			else
				Py_CLEAR(of_port);
		}
		if (of_port)
			PyTuple_SET_ITEM(all, port, of_port);
		else
			Py_CLEAR(all);
	}
	return all;
}

static PyObject *delays(Forwarder *self, PyObject *nothing)
{
	struct delays copy;
	PyObject *counts;

	(void)nothing;
	pthread_mutex_lock(&self->f.lock);
	copy = self->f.delays;
	pthread_mutex_unlock(&self->f.lock);
	counts = PyTuple_New(DELAY_BUCKETS + 1);
	for (int i = 0; counts && i <= DELAY_BUCKETS; i++) {
		PyObject *one = PyLong_FromUnsignedLongLong(copy.counts[i]);

		if (one)
			PyTuple_SET_ITEM(counts, i, one);
		else
			Py_CLEAR(counts);
	}
	return counts ? Py_BuildValue("(Nd)", counts, (double)copy.sum_ns / 1e9) : NULL;
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

static PyObject *start(Forwarder *self, PyObject *nothing)
{
	sigset_t all, before;
	int error;

	(void)nothing;
	if (self->running) {
		PyErr_SetString(PyExc_RuntimeError, "started already");
		return NULL;
	}
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&self->thread, NULL, forwarder_run, &self->f);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		errno = error;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	pthread_setname_np(self->thread, "relayd-forward");
	self->running = true;
	Py_RETURN_NONE;
}

static void end_thread(Forwarder *self)
{
	eventfd_t ignored;

	if (!self->running)
		return;
	eventfd_write(self->f.stop, 1);
	Py_BEGIN_ALLOW_THREADS
	pthread_join(self->thread, NULL);
	Py_END_ALLOW_THREADS
	/* Or the next thread would end at once. */
	eventfd_read(self->f.stop, &ignored);
	self->running = false;
}

static PyObject *stop(Forwarder *self, PyObject *nothing)
{
	(void)nothing;
	end_thread(self);
	Py_RETURN_NONE;
}

static int parse_endpoints(PyObject *list, struct endpoint *endpoints, size_t most)
{
	Py_ssize_t count = PyList_GET_SIZE(list);

	if (count > (Py_ssize_t)most) {
		PyErr_Format(PyExc_ValueError, "more than %zu sockets", most);
		return -1;
	}
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *endpoint = PyList_GET_ITEM(list, i);
		int port;

		if (!PyTuple_Check(endpoint)) {
			PyErr_SetString(PyExc_TypeError, "an endpoint has to be a tuple of file descriptor and port");
			return -1;
		}
		endpoints[i] = (struct endpoint){ 0 };
		if (!PyArg_ParseTuple(endpoint, "ii", &endpoints[i].fd, &port))
			return -1;
		if (port != SERVER && port != CLIENT) {
			PyErr_Format(PyExc_ValueError, "%d: no such port", port);
			return -1;
		}
		endpoints[i].port = (enum port)port;
	}
	return (int)count;
}

/* Finds the parts of the owner's memory, and that they are in it. */
static int parse_memory(const Py_buffer *buffer, Py_ssize_t totals_at, Py_ssize_t counts_at, Py_ssize_t stride,
			struct memory *memory)
{
	const Py_ssize_t totals_bytes = PORTS * VERDICTS * sizeof(struct total);

	if (totals_at < 0 || totals_at % 8 || totals_at > buffer->len - totals_bytes || counts_at < 0 ||
	    counts_at % 64 || stride < (Py_ssize_t)sizeof(struct counts) || stride % 64 ||
	    counts_at > buffer->len - stride) {
		PyErr_SetString(PyExc_ValueError, "totals or counts are not in the memory");
		return -1;
	}
	memory->totals = (struct total(*)[VERDICTS])((char *)buffer->buf + totals_at);
	memory->first_counts = (uint8_t *)buffer->buf + counts_at;
	memory->counts_stride = (size_t)stride;
	memory->slots =
		(uint32_t)((size_t)(buffer->len - counts_at - (Py_ssize_t)sizeof(struct counts)) / (size_t)stride + 1);
	return 0;
}

static int initialise(Forwarder *self, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = { "endpoints", "merge", "memory", "totals_at", "counts_at", "stride", NULL };
	struct endpoint endpoints[64];
	struct memory memory;
	Py_ssize_t totals_at, counts_at, stride;
	PyObject *list;
	int merge, count, error;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!pw*nnn", names, &PyList_Type, &list, &merge,
					 &self->memory, &totals_at, &counts_at, &stride))
		return -1;
	count = parse_endpoints(list, endpoints, sizeof(endpoints) / sizeof(*endpoints));
	if (count < 0 || parse_memory(&self->memory, totals_at, counts_at, stride, &memory) < 0)
		return -1;
	error = forwarder_create(&self->f, endpoints, (unsigned)count, merge != 0, &memory);
	if (error) {
		errno = error;
		PyErr_SetFromErrno(PyExc_OSError);
		return -1;
	}
	self->created = true;
	return 0;
}

static PyObject *create(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
	Forwarder *self = (Forwarder *)type->tp_alloc(type, 0);

	if (self && initialise(self, arguments, keywords) < 0)
		Py_CLEAR(self);
	return (PyObject *)self;
}

static void deallocate(Forwarder *self)
{
	end_thread(self);
	if (self->created)
		forwarder_destroy(&self->f);
	PyBuffer_Release(&self->memory);
	Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef methods[] = {
	{ "start", (PyCFunction)start, METH_NOARGS, "Starts the thread." },
	{ "stop", (PyCFunction)stop, METH_NOARGS, "Ends the thread and waits for it." },
	{ "fileno", (PyCFunction)fileno_of, METH_NOARGS, "Readable while something is passed up." },
	{ "take", (PyCFunction)take, METH_O, "What was passed up; what was taken before is then done with." },
	{ "add", (PyCFunction)add, METH_VARARGS, "Forwards for a binding from now on." },
	{ "remove", (PyCFunction)remove_flow, METH_O, "No longer forwards for it." },
	{ "take_counts", (PyCFunction)take_counts, METH_O, "What was counted in a slot; it begins at zero again." },
	{ "take_asked", (PyCFunction)take_asked, METH_NOARGS, "Slots of receivers that will count as silent soon." },
	{ "pings", (PyCFunction)pings, METH_O, "The PINGs that were answered in a slot." },
	{ "take_totals", (PyCFunction)take_totals, METH_NOARGS, "What was decided; it begins at zero again." },
	{ "delays", (PyCFunction)delays, METH_NOARGS, "How long datagrams were in the relay." },
	{ NULL },
};

/* The macro ends with a comma of its own. */
/* clang-format off */
static PyTypeObject forwarder_type = {
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "relayd.forwarding.thread._forwarder.Forwarder",
	.tp_basicsize = sizeof(Forwarder),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc = "The forwarding thread.",
	.tp_new = create,
	.tp_dealloc = (destructor)deallocate,
	.tp_methods = methods,
};
/* clang-format on */

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_forwarder",
	.m_doc = "The forwarding thread of the relay's sockets.",
	.m_size = -1,
};

PyMODINIT_FUNC PyInit__forwarder(void)
{
	PyObject *module, *layout;

	if (PyType_Ready(&forwarder_type) < 0)
		return NULL;
	module = PyModule_Create(&definition);
	layout = PyLong_FromUnsignedLongLong(THREAD_LAYOUT);
	if (!module || !layout || PyModule_AddObjectRef(module, "Forwarder", (PyObject *)&forwarder_type) < 0 ||
	    PyModule_AddObjectRef(module, "LAYOUT", layout) < 0)
		Py_CLEAR(module);
	Py_XDECREF(layout);
	return module;
}
