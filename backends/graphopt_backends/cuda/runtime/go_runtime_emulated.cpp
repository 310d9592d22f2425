/* go_runtime.h without a device: memory is the host's, streams run at once, a graph is the function
   that was recorded and its frame. A test may ask for a machine on which something is missing. */
#include "go_runtime.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "go_runtime_emulated.h"

static go_emulated machine = {1, 1, 1000, -1, 0, 0, 0, 0, 0, 0};

go_emulated *go_emulated_machine(void) { return &machine; }

/* Devices -------------------------------------------------------------------------------------- */

int go_device_check(int device, go_code code) {
    if (machine.driver == 0) return go_fail(GO_NO_DRIVER, "there is no NVIDIA driver");
    if (machine.driver < 0)
        return go_fail(GO_NO_DRIVER, "the driver is for CUDA %d.%d; the model needs one for %d.%d",
                       -machine.driver / 1000, -machine.driver % 1000 / 10, 13, 0);
    if (device < 0 || device >= machine.devices)
        return go_fail(GO_NO_DEVICE, "there is no device %d: the driver has %d", device,
                       machine.devices);
    if (machine.capability >= code.ptx) return GO_OK;
    return go_fail(GO_WRONG_DEVICE,
                   "device %d (emulated) has compute capability %d.%d; the model needs %d.%d or "
                   "later",
                   device, machine.capability / 10, machine.capability % 10, code.ptx / 10,
                   code.ptx % 10);
}

int go_device_enter(int device, go_caller *before) {
    *before = {device, 0};
    return GO_OK;
}

void go_device_leave(go_caller before) { (void)before; }

/* Memory: each block knows its size, which lies before it, and all lie in one list. ------------- */

typedef struct block {
    struct block *next, **link;
    size_t bytes;
} block;

enum { BEFORE = 256 };
static block *blocks;

int go_allocate(void **memory, size_t bytes, const char *what) {
    void *base = NULL;
    *memory = NULL;
    if (bytes == 0) return GO_OK;
    const int refused = machine.allocations_left == 0;
    if (machine.allocations_left > 0) machine.allocations_left--;
    if (refused || posix_memalign(&base, BEFORE, bytes + BEFORE) != 0)
        return go_fail(GO_NO_MEMORY, "out of device memory: %s, %zu bytes; %zu of %zu are free",
                       what, bytes, (size_t)0, machine.live_bytes);
    block *const b = (block *)base;
    b->bytes = bytes;
    b->next = blocks;
    b->link = &blocks;
    if (blocks != NULL) blocks->link = &b->next;
    blocks = b;
    machine.live_bytes += bytes;
    *memory = (char *)base + BEFORE;
    memset(*memory, 0xFF, bytes); /* NaN: nothing may rely on zeros */
    return GO_OK;
}

void go_release(void *memory) {
    if (memory == NULL) return;
    block *const b = (block *)((char *)memory - BEFORE);
    *b->link = b->next;
    if (b->next != NULL) b->next->link = b->link;
    machine.live_bytes -= b->bytes;
    free(b);
}

int go_upload(void *device, const void *host, size_t bytes) {
    memcpy(device, host, bytes);
    return GO_OK;
}

int go_download(void *host, const void *device, size_t bytes) {
    memcpy(host, device, bytes);
    return GO_OK;
}

int go_copy(void *to, const void *from, size_t bytes, go_stream stream) {
    (void)stream;
    memcpy(to, from, bytes);
    return GO_OK;
}

int go_is_on_device(const void *memory, int device) {
    const char *const at = (const char *)memory;
    (void)device;
    if (!machine.strict_pointers) return 1;
    for (const block *b = blocks; b != NULL; b = b->next) {
        const char *const start = (const char *)b + BEFORE;
        if (at >= start && at < start + b->bytes) return 1;
    }
    return 0;
}

/* Streams -------------------------------------------------------------------------------------- */

int go_stream_create(go_stream *stream) {
    *stream = (go_stream)malloc(1);
    return *stream != NULL ? GO_OK : go_fail(GO_NO_MEMORY, "out of host memory");
}

void go_stream_destroy(go_stream stream) { free(stream); }

int go_stream_wait(go_stream stream) {
    (void)stream;
    return GO_OK;
}

int go_is_capturing(go_stream stream) {
    (void)stream;
    return machine.capturing;
}

/* Graphs --------------------------------------------------------------------------------------- */

struct go_graph {
    go_enqueue enqueue;
    void *frame;
};

int go_graph_record(go_graph **graph, go_stream own, go_enqueue enqueue, const void *frame,
                    size_t frame_bytes) {
    (void)own;
    if (*graph == NULL) *graph = (go_graph *)calloc(1, sizeof **graph);
    if (*graph == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    void *const kept = realloc((*graph)->frame, frame_bytes);
    if (kept == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    memcpy(kept, frame, frame_bytes);
    (*graph)->frame = kept;
    (*graph)->enqueue = enqueue;
    machine.recordings++;
    return GO_OK;
}

int go_graph_launch(const go_graph *graph, go_stream stream) {
    return graph->enqueue(graph->frame, stream);
}

void go_graph_destroy(go_graph *graph) {
    if (graph != NULL) free(graph->frame);
    free(graph);
}

/* Order and time ------------------------------------------------------------------------------- */

struct go_fence {
    go_stream last;
};

int go_fence_create(go_fence **fence) {
    *fence = (go_fence *)calloc(1, sizeof **fence);
    return *fence != NULL ? GO_OK : go_fail(GO_NO_MEMORY, "out of host memory");
}

int go_fence_wait(go_fence *fence, go_stream stream) {
    (void)fence, (void)stream;
    return GO_OK;
}

int go_fence_mark(go_fence *fence, go_stream stream) {
    fence->last = stream;
    return GO_OK;
}

void go_fence_destroy(go_fence *fence) { free(fence); }

struct go_timer {
    int marks;
    uint64_t at[1];
};

void go_range_begin(const char *name) {
    (void)name;
    machine.ranges++;
    machine.open_ranges++;
}

void go_range_end(void) { machine.open_ranges--; }

int go_timer_create(go_timer **timer, int marks) {
    *timer = (go_timer *)calloc(1, sizeof **timer + (size_t)marks * sizeof(uint64_t));
    if (*timer == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    (*timer)->marks = marks;
    return GO_OK;
}

int go_timer_mark(go_timer *timer, int i, go_stream stream) {
    struct timespec now;
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, &now);
    timer->at[i] = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return GO_OK;
}

int go_timer_read(const go_timer *timer, uint64_t *nanoseconds) {
    for (int i = 0; i + 1 < timer->marks; i++) nanoseconds[i] = timer->at[i + 1] - timer->at[i];
    return GO_OK;
}

void go_timer_destroy(go_timer *timer) { free(timer); }

int go_launched(int error, const char *kernel) {
    if (error == 0) return GO_OK;
    return go_fail(GO_CUDA, "kernel %s: error %d", kernel, error);
}
