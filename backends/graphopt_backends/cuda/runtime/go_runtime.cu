/* go_runtime.h on the CUDA runtime. */
#include "go_runtime.h"

#include <cuda_runtime.h>
#include <stdlib.h>
#include <string.h>
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define GO_RANGES 1
#else /* a toolkit without it: no ranges */
#define GO_RANGES 0
#endif

/* GO_OK, or the code for a failed call of the runtime, whose error is thereby cleared. */
static int checked(cudaError_t error, const char *what) {
    if (error == cudaSuccess) return GO_OK;
    cudaGetLastError();
    const int code = error == cudaErrorMemoryAllocation ? GO_NO_MEMORY : GO_CUDA;
    return go_fail(code, "%s: %s", what, cudaGetErrorString(error));
}

/* Devices -------------------------------------------------------------------------------------- */

static int check_driver(int *devices) {
    int driver = 0;
    const cudaError_t error = cudaGetDeviceCount(devices);
    if (error == cudaSuccess) return GO_OK;
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    if (error == cudaErrorInsufficientDriver && driver > 0)
        return go_fail(GO_NO_DRIVER, "the driver is for CUDA %d.%d; the model needs one for %d.%d",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                       CUDART_VERSION % 1000 / 10);
    if (error == cudaErrorInsufficientDriver)
        return go_fail(GO_NO_DRIVER, "there is no NVIDIA driver");
    if (error == cudaErrorNoDevice) return go_fail(GO_NO_DEVICE, "there is no NVIDIA GPU");
    return go_fail(GO_CUDA, "the driver: %s", cudaGetErrorString(error));
}

int go_device_check(int device, go_code code) {
    int devices = 0;
    cudaDeviceProp found;
    int error = check_driver(&devices);
    if (error) return error;
    if (device < 0 || device >= devices || device >= GO_MOST_DEVICES)
        return go_fail(GO_NO_DEVICE, "there is no device %d: the driver has %d", device, devices);
    error = checked(cudaGetDeviceProperties(&found, device), "asking for the device");
    if (error) return error;
    const int here = 10 * found.major + found.minor;
    const int same = code.exact ? here == code.sass
                                : here / 10 == code.sass / 10 && here >= code.sass;
    if (same || (code.ptx && here >= code.ptx)) return GO_OK;
    return go_fail(GO_WRONG_DEVICE,
                   "device %d (%s) has compute capability %d.%d; the model needs %d.%d%s", device,
                   found.name, found.major, found.minor, code.sass / 10, code.sass % 10,
                   code.ptx ? " or later" : " itself");
}

int go_device_enter(int device, go_caller *before) {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    int error = checked(cudaGetDevice(&before->device), "asking for the current device");
    if (!error && before->device != device)
        error = checked(cudaSetDevice(device), "choosing the device");
    if (!error) error = checked(cudaThreadExchangeStreamCaptureMode(&mode), "asking for captures");
    before->capture_mode = (int)mode;
    return error;
}

void go_device_leave(go_caller before) {
    cudaStreamCaptureMode mode = (cudaStreamCaptureMode)before.capture_mode;
    int now = before.device;
    cudaThreadExchangeStreamCaptureMode(&mode);
    if (cudaGetDevice(&now) == cudaSuccess && now != before.device) cudaSetDevice(before.device);
}

/* Memory --------------------------------------------------------------------------------------- */

int go_allocate(void **memory, size_t bytes, const char *what) {
    size_t free_bytes = 0, total = 0;
    *memory = NULL;
    if (bytes == 0) return GO_OK;
    const cudaError_t error = cudaMalloc(memory, bytes);
    if (error == cudaSuccess) return GO_OK;
    *memory = NULL;
    if (error != cudaErrorMemoryAllocation) return checked(error, what);
    cudaGetLastError();
    cudaMemGetInfo(&free_bytes, &total);
    return go_fail(GO_NO_MEMORY, "out of device memory: %s, %zu bytes; %zu of %zu are free", what,
                   bytes, free_bytes, total);
}

void go_release(void *memory) {
    if (memory != NULL) cudaFree(memory);
}

/* On the default stream of the thread, and waited for: a copy from pageable memory returns before the
   last of it has arrived, which a stream that does not wait for the default one would not see. */
static int copy_now(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                    const char *what) {
    if (bytes == 0) return GO_OK;
    const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, cudaStreamPerThread);
    if (error != cudaSuccess) return checked(error, what);
    return checked(cudaStreamSynchronize(cudaStreamPerThread), what);
}

int go_upload(void *device, const void *host, size_t bytes) {
    return copy_now(device, host, bytes, cudaMemcpyHostToDevice, "uploading to the device");
}

int go_download(void *host, const void *device, size_t bytes) {
    return copy_now(host, device, bytes, cudaMemcpyDeviceToHost, "reading the device's memory");
}

int go_copy(void *to, const void *from, size_t bytes, go_stream stream) {
    return checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "copying");
}

int go_is_on_device(const void *memory, int device) {
    cudaPointerAttributes found;
    if (cudaPointerGetAttributes(&found, memory) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    if (found.type == cudaMemoryTypeManaged) return 1;
    return found.type == cudaMemoryTypeDevice && found.device == device;
}

/* Streams -------------------------------------------------------------------------------------- */

int go_stream_create(go_stream *stream) {
    return checked(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "making a stream");
}

void go_stream_destroy(go_stream stream) {
    if (stream != NULL) cudaStreamDestroy(stream);
}

int go_stream_wait(go_stream stream) {
    return checked(cudaStreamSynchronize(stream), "waiting for a stream");
}

int go_is_capturing(go_stream stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(stream, &status) != cudaSuccess) cudaGetLastError();
    return status == cudaStreamCaptureStatusActive;
}

/* Graphs --------------------------------------------------------------------------------------- */

struct go_graph {
    cudaGraphExec_t ready;
};

/* The old executable with the new pointers, or a new one where it cannot be updated. */
static int make_ready(go_graph *graph, cudaGraph_t recorded) {
    cudaGraphExecUpdateResultInfo info;
    if (graph->ready != NULL) {
        if (cudaGraphExecUpdate(graph->ready, recorded, &info) == cudaSuccess) return GO_OK;
        cudaGetLastError();
        cudaGraphExecDestroy(graph->ready);
        graph->ready = NULL;
    }
    return checked(cudaGraphInstantiate(&graph->ready, recorded, 0), "making a CUDA graph");
}

int go_graph_record(go_graph **graph, go_stream own, go_enqueue enqueue, const void *frame,
                    size_t frame_bytes) {
    cudaGraph_t recorded = NULL;
    (void)frame_bytes; /* a captured kernel keeps its arguments */
    if (*graph == NULL) *graph = (go_graph *)calloc(1, sizeof **graph);
    if (*graph == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    /* relaxed: the first call of a kernel or a library loads its code meanwhile */
    int error = checked(cudaStreamBeginCapture(own, cudaStreamCaptureModeRelaxed), "capturing");
    if (error) return error;
    error = enqueue(frame, own);
    const cudaError_t ended = cudaStreamEndCapture(own, &recorded);
    if (!error) error = checked(ended, "capturing");
    if (!error) error = make_ready(*graph, recorded);
    if (recorded != NULL) cudaGraphDestroy(recorded);
    cudaGetLastError();
    return error;
}

int go_graph_launch(const go_graph *graph, go_stream stream) {
    return checked(cudaGraphLaunch(graph->ready, stream), "launching the CUDA graph");
}

void go_graph_destroy(go_graph *graph) {
    if (graph != NULL && graph->ready != NULL) cudaGraphExecDestroy(graph->ready);
    free(graph);
}

/* Order and time ------------------------------------------------------------------------------- */

struct go_fence {
    cudaEvent_t done;
    go_stream last;
    int marked;
};

int go_fence_create(go_fence **fence) {
    *fence = (go_fence *)calloc(1, sizeof **fence);
    if (*fence == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    return checked(cudaEventCreateWithFlags(&(*fence)->done, cudaEventDisableTiming),
                   "making an event");
}

/* One number names the default streams of all threads. */
int go_fence_wait(go_fence *fence, go_stream stream) {
    if (!fence->marked || (fence->last == stream && stream != cudaStreamPerThread)) return GO_OK;
    return checked(cudaStreamWaitEvent(stream, fence->done, 0), "waiting for the last run");
}

int go_fence_mark(go_fence *fence, go_stream stream) {
    fence->last = stream;
    fence->marked = 1;
    return checked(cudaEventRecord(fence->done, stream), "marking the end of a run");
}

void go_fence_destroy(go_fence *fence) {
    if (fence == NULL) return;
    if (fence->marked) cudaEventSynchronize(fence->done); /* its memory is about to be given back */
    if (fence->done != NULL) cudaEventDestroy(fence->done);
    free(fence);
}

struct go_timer {
    int marks;
    cudaEvent_t at[1];
};

void go_range_begin(const char *name) {
#if GO_RANGES
    nvtxRangePushA(name);
#else
    (void)name;
#endif
}

void go_range_end(void) {
#if GO_RANGES
    nvtxRangePop();
#endif
}

int go_timer_create(go_timer **timer, int marks) {
    const size_t bytes = sizeof **timer + (size_t)marks * sizeof(cudaEvent_t);
    int error = GO_OK;
    *timer = (go_timer *)calloc(1, bytes);
    if (*timer == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    (*timer)->marks = marks;
    for (int i = 0; i < marks && !error; i++)
        error = checked(cudaEventCreate(&(*timer)->at[i]), "making an event");
    return error;
}

int go_timer_mark(go_timer *timer, int i, go_stream stream) {
    return checked(cudaEventRecord(timer->at[i], stream), "taking the time");
}

int go_timer_read(const go_timer *timer, uint64_t *nanoseconds) {
    int error = checked(cudaEventSynchronize(timer->at[timer->marks - 1]), "waiting for a run");
    for (int i = 0; i + 1 < timer->marks && !error; i++) {
        float ms = 0;
        error = checked(cudaEventElapsedTime(&ms, timer->at[i], timer->at[i + 1]), "the time");
        nanoseconds[i] = (uint64_t)(ms * 1e6f);
    }
    return error;
}

void go_timer_destroy(go_timer *timer) {
    if (timer == NULL) return;
    for (int i = 0; i < timer->marks; i++)
        if (timer->at[i] != NULL) cudaEventDestroy(timer->at[i]);
    free(timer);
}

int go_launched(int error, const char *kernel) {
    if (error == 0) return GO_OK;
    return go_fail(GO_CUDA, "kernel %s: %s", kernel, cudaGetErrorString((cudaError_t)error));
}
