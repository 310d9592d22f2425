/* The device as a compiled model needs it: one interface, on the CUDA runtime (go_runtime.cu) and in
   emulation (go_runtime_emulated.cpp). Internal; model.h is the interface of a model. */
#ifndef GO_RUNTIME_H
#define GO_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

typedef struct CUstream_st *go_stream; /* a cudaStream_t */

/* The same numbers as GO_MODEL_*. */
enum {
    GO_OK = 0,
    GO_BAD_ARGUMENT = 1,
    GO_NO_MEMORY = 2,
    GO_NO_FILE = 3,
    GO_WRONG_WEIGHTS = 4,
    GO_NO_DRIVER = 5,
    GO_NO_DEVICE = 6,
    GO_WRONG_DEVICE = 7,
    GO_NO_LIBRARY = 8,
    GO_NOT_ON_DEVICE = 9,
    GO_CUDA = 10
};

enum { GO_MOST_DEVICES = 64 }; /* of one machine */

/* Keep a message for this thread and return `code`. */
int go_fail(int code, const char *format, ...);

/* What the last failure on this thread was about; "" before any. */
const char *go_message(void);

/* What code there is: machine code for compute capability `sass` (90 is 9.0), which runs on that
   one alone when `exact`, else on later ones of its generation; PTX for `ptx` and all later ones,
   or 0 where there is not PTX of everything. */
typedef struct {
    int sass, exact, ptx;
} go_code;

/* Whether a driver answers, is new enough, and has a device `device` that can run the code. */
int go_device_check(int device, go_code code);

/* The calling thread's device becomes `device`, and it may load code and allocate although a stream
   is being captured, by itself or by another thread; how it was before, for go_device_leave. */
typedef struct {
    int device, capture_mode;
} go_caller;
int go_device_enter(int device, go_caller *before);
void go_device_leave(go_caller before);

/* Device memory, aligned to 256 bytes. `what` is for the message. */
int go_allocate(void **memory, size_t bytes, const char *what);
void go_release(void *memory);
/* Both return when every byte is there, for whatever stream is next. */
int go_upload(void *device, const void *host, size_t bytes);
int go_download(void *host, const void *device, size_t bytes);
int go_copy(void *to, const void *from, size_t bytes, go_stream stream);

/* Whether `memory` can be used by kernels on `device`: device or managed memory. */
int go_is_on_device(const void *memory, int device);

/* Streams: one of a model's own, that waits for no other; whether one is being captured. */
int go_stream_create(go_stream *stream);
void go_stream_destroy(go_stream stream);
int go_stream_wait(go_stream stream);
int go_is_capturing(go_stream stream);

/* Work that `enqueue(frame, stream)` puts on a stream, recorded to be launched as a whole. A second
   recording into the same graph updates it. `frame` is copied; nothing runs while recording. */
typedef struct go_graph go_graph;
typedef int (*go_enqueue)(const void *frame, go_stream stream);
int go_graph_record(go_graph **graph, go_stream own, go_enqueue enqueue, const void *frame,
                    size_t frame_bytes);
int go_graph_launch(const go_graph *graph, go_stream stream);
void go_graph_destroy(go_graph *graph);

/* Runs of one model on several streams follow each other: wait for the last run where it was on
   another stream, and mark the end of this one. */
typedef struct go_fence go_fence;
int go_fence_create(go_fence **fence);
int go_fence_wait(go_fence *fence, go_stream stream);
int go_fence_mark(go_fence *fence, go_stream stream);
void go_fence_destroy(go_fence *fence);

/* Times between `marks` points of a stream, put there one by one; reading waits for the last. */
typedef struct go_timer go_timer;
int go_timer_create(go_timer **timer, int marks);
int go_timer_mark(go_timer *timer, int i, go_stream stream);
int go_timer_read(const go_timer *timer, uint64_t *nanoseconds);
void go_timer_destroy(go_timer *timer);

/* A named range on the calling thread for Nsight (NVTX); nothing where no profiler listens. */
void go_range_begin(const char *name);
void go_range_end(void);

/* GO_OK, or GO_CUDA with a message that names the kernel; `error` is what its launch returned. */
int go_launched(int error, const char *kernel);

#endif
