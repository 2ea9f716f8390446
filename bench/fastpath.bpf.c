// SPDX-License-Identifier: Dual BSD/GPL
/*
 * The kernel program, made repeatable: BPF_PROG_TEST_RUN shows a program the packet as it left it the last time, and
 * what was forwarded once is no longer a datagram to the relay. `measured` restores it first; `restored` does only that.
 */
#include "../relayd/forwarding/kernel/relay.bpf.c"

#define HEAD_BYTES 80

struct head {
	__u32 frame_bytes;
	__u8 bytes[HEAD_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct head);
} heads SEC(".maps");

/* Up to HEAD_BYTES, or to the end of the packet, which is one of the two. */
static __always_inline void copy(void *to, const void *from, const void *packet, const void *end)
{
	int i = 0;

	for (; i + 8 <= HEAD_BYTES; i += 8) {
		if (packet + i + 8 > end)
			break;
		*(__u64 *)(to + i) = *(const __u64 *)(from + i);
	}
	for (int j = 0; j < 8; j++, i++) {
		if (i >= HEAD_BYTES || packet + i + 1 > end)
			break;
		*(__u8 *)(to + i) = *(const __u8 *)(from + i);
	}
}

static __always_inline int restore(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct head *head = bpf_map_lookup_elem(&heads, &zero);
	void *start;

	if (!head)
		return -1;
	if (!head->frame_bytes) {
		head->frame_bytes = frame_bytes(ctx);
		start = (void *)(long)ctx->data;
		copy(head->bytes, start, start, (void *)(long)ctx->data_end);
		return 0;
	}
	if (bpf_xdp_adjust_head(ctx, (int)frame_bytes(ctx) - (int)head->frame_bytes))
		return -1;
	start = (void *)(long)ctx->data;
	copy(start, head->bytes, start, (void *)(long)ctx->data_end);
	return 0;
}

SEC("xdp")
int measured(struct xdp_md *ctx)
{
	return restore(ctx) ? XDP_ABORTED : handle(ctx);
}

SEC("xdp")
int restored(struct xdp_md *ctx)
{
	return restore(ctx) ? XDP_ABORTED : XDP_DROP;
}
