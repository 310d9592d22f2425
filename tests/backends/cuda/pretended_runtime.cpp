/* As much of the CUDA runtime as go_runtime.cu calls, pretended: what a test says it finds. */
#include <cuda_runtime.h>
#include <stdlib.h>

#include "go_runtime.h"

extern "C" {

struct {
    int count_error, driver, devices, major, minor; /* of the machine */
    int malloc_error, pointer_error, pointer_type, pointer_device;
    int update_error, end_error;      /* of graphs */
    int instantiated, updated, alive; /* what has been done, and graphs that are there */
    int waits, records;               /* of events */
    int ended;                        /* captures */
    int device, capture_mode;         /* of the thread */
    int on_their_way;                 /* copies that nobody has waited for */
} pretended;

static cudaError_t last;

static cudaError_t say(int error) {
    if (error) last = (cudaError_t)error;
    return (cudaError_t)error;
}

cudaError_t cudaGetLastError(void) {
    const cudaError_t error = last;
    last = cudaSuccess;
    return error;
}
const char *cudaGetErrorString(cudaError_t error) { return error ? "an error" : "no error"; }

cudaError_t cudaGetDeviceCount(int *count) {
    *count = pretended.devices;
    return say(pretended.count_error);
}
cudaError_t cudaDriverGetVersion(int *version) {
    *version = pretended.driver;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *found, int) {
    *found = cudaDeviceProp{};
    found->name[0] = 'G';
    found->major = pretended.major, found->minor = pretended.minor;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
    *device = pretended.device;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    pretended.device = device;
    return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
    const int before = pretended.capture_mode;
    pretended.capture_mode = (int)*mode;
    *mode = (cudaStreamCaptureMode)before;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    if (!pretended.malloc_error) *memory = malloc(bytes);
    return say(pretended.malloc_error);
}
cudaError_t cudaFree(void *memory) {
    free(memory);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *free_bytes = 5, *total = 9;
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *, const void *, size_t, cudaMemcpyKind, cudaStream_t) {
    pretended.on_their_way++;
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *found, const void *) {
    found->type = (cudaMemoryType)pretended.pointer_type;
    found->device = pretended.pointer_device;
    return say(pretended.pointer_error);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) {
    pretended.on_their_way = 0;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *) { return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) { return cudaSuccess; }
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph) {
    *graph = pretended.end_error ? NULL : (cudaGraph_t)malloc(1);
    pretended.ended++;
    return say(pretended.end_error);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    free(graph);
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t, unsigned long long) {
    *ready = (cudaGraphExec_t)malloc(1);
    pretended.instantiated++, pretended.alive++;
    return cudaSuccess;
}
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t, cudaGraph_t, cudaGraphExecUpdateResultInfo *) {
    pretended.updated += !pretended.update_error;
    return say(pretended.update_error);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
    free(ready);
    pretended.alive--;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    *event = NULL;
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) { return cudaEventCreate(event); }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
    pretended.records++;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t) {
    *ms = 0.5f;
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
    pretended.waits++;
    return cudaSuccess;
}

/* What the test calls. */

void *machine(void) { return &pretended; }
const char *message(void) { return go_message(); }
int check(int device, int sass, int exact, int ptx) {
    return go_device_check(device, {sass, exact, ptx});
}
int allocate(size_t bytes) {
    void *memory = NULL;
    const int error = go_allocate(&memory, bytes, "weights");
    go_release(memory);
    return error;
}
int upload(size_t bytes) { return go_upload(NULL, NULL, bytes); }
int download(size_t bytes) { return go_download(NULL, NULL, bytes); }
int enter(int device, go_caller *before) { return go_device_enter(device, before); }
void leave(const go_caller *before) { go_device_leave(*before); }
int on_device(int device) { return go_is_on_device(&last, device); }
int error_is_left(void) { return cudaGetLastError() != cudaSuccess; }

static int enqueued(const void *error, go_stream) { return *(const int *)error; }

/* Record twice into one graph, the first time with an error of the enqueued work. */
int record(int error) {
    go_graph *graph = NULL;
    const int none = GO_OK;
    int result = go_graph_record(&graph, NULL, enqueued, &error, sizeof error);
    if (!result) result = go_graph_record(&graph, NULL, enqueued, &none, sizeof none);
    if (!result) result = go_graph_launch(graph, NULL);
    go_graph_destroy(graph);
    return result;
}

/* Runs on streams 16, 16 and 32, then on the default ones of two threads. */
int fenced(void) {
    go_fence *fence = NULL;
    const uintptr_t thread = (uintptr_t)cudaStreamPerThread, streams[] = {16, 16, 32, thread, thread};
    int error = go_fence_create(&fence);
    for (int i = 0; i < 5 && !error; i++) {
        error = go_fence_wait(fence, (go_stream)streams[i]);
        if (!error) error = go_fence_mark(fence, (go_stream)streams[i]);
    }
    go_fence_destroy(fence);
    return error;
}

int timed(uint64_t *nanoseconds) {
    go_timer *timer = NULL;
    int error = go_timer_create(&timer, 3);
    for (int i = 0; i < 3 && !error; i++) error = go_timer_mark(timer, i, NULL);
    if (!error) error = go_timer_read(timer, nanoseconds);
    go_timer_destroy(timer);
    return error;
}
}
