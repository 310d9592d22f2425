/* Memory, files, time and threads for compiled models, on POSIX and C11 atomics.

   Only functions that every libc has under one version are called: the shared library is linked
   without symbol versions, and glibc would bind pthread_cond_* to their oldest. Sleeping is by futex.
   Define GO_NO_THREADS to leave threads out. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "go_runtime.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if defined(__STDC_NO_ATOMICS__) || (!defined(__STDC_VERSION__)) || __STDC_VERSION__ < 201112L
#undef GO_NO_THREADS
#define GO_NO_THREADS
#endif

enum { HUGE_PAGE = 2 << 20, MANY_PAGES = 1 << 18 /* more than a first-level TLB holds */ };

void *go_allocate(size_t bytes) {
    void *memory = NULL;
    const int huge = bytes >= MANY_PAGES;
    const size_t alignment = huge ? HUGE_PAGE : 64;
    const size_t size = huge ? (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE : bytes;
    if (posix_memalign(&memory, alignment, size ? size : 64) != 0) return NULL;
#ifdef MADV_HUGEPAGE
    if (huge) madvise(memory, size, MADV_HUGEPAGE); /* a failure costs speed alone */
#endif
    memset(memory, 0, bytes);
    return memory;
}

void go_release(void *memory, size_t bytes) {
    (void)bytes;
    free(memory);
}

const void *go_map_file(const char *path, size_t *bytes) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return NULL;
    const off_t size = lseek(file, 0, SEEK_END); /* older glibc has no symbol fstat */
    void *memory = MAP_FAILED;
    if (size > 0) memory = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    madvise(memory, (size_t)size, MADV_HUGEPAGE); /* what is read from disk now comes in them */
#endif
#ifdef MADV_WILLNEED
    madvise(memory, (size_t)size, MADV_WILLNEED); /* the disk starts now; nobody waits for it here */
#endif
    *bytes = (size_t)size;
    return memory;
}

void go_unmap_file(const void *memory, size_t bytes) { munmap((void *)(uintptr_t)memory, bytes); }

uint64_t go_nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#ifdef GO_NO_THREADS

go_pool *go_pool_create(int threads) {
    (void)threads;
    return NULL;
}
void go_pool_destroy(go_pool *pool) { (void)pool; }

void go_parallel(go_pool *pool, go_parallel_for host, void *host_state, int threads, go_body body,
                 const void *frame, char *scratch, size_t scratch_bytes, int64_t extent,
                 int64_t run) {
    (void)pool, (void)host, (void)host_state, (void)threads, (void)scratch_bytes, (void)run;
    body(frame, scratch, 0, extent);
}

#else

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

/* What is left of a thread's own part of a job, in a cache line of its own. */
typedef struct {
    _Alignas(64) _Atomic int64_t next;
    int64_t end;
} range;

/* What is being shared. Neighbouring iterations of one kernel and the next read and write the same
   memory, so every thread begins with the part that it always has; then it helps the others. One
   that starts late or is held up thus has less to do, and all end together. */
typedef struct {
    go_body body;
    const void *frame;
    char *scratch;
    size_t scratch_bytes;
    int64_t least; /* iterations; pieces are multiples of it */
    int threads;
    range *ranges;
} job;

static void divide(job *j, int64_t extent) {
    const int64_t units = (extent + j->least - 1) / j->least;
    for (int i = 0; i < j->threads; i++) {
        const int64_t end = units * (i + 1) / j->threads * j->least;
        atomic_store_explicit(&j->ranges[i].next, units * i / j->threads * j->least,
                              memory_order_relaxed);
        j->ranges[i].end = end < extent ? end : extent;
    }
}

/* Take a piece: half of what is left. Returns where it begins, `*end` when there is none. */
static int64_t take(range *r, int64_t least, int64_t *end) {
    int64_t begin = atomic_load_explicit(&r->next, memory_order_relaxed);
    do {
        const int64_t half = (r->end - begin) / 2;
        const int64_t piece = half > least ? half - half % least : least;
        *end = begin + piece < r->end ? begin + piece : r->end;
        if (begin >= *end) return *end;
    } while (!atomic_compare_exchange_weak_explicit(&r->next, &begin, *end, memory_order_relaxed,
                                                    memory_order_relaxed));
    return begin;
}

static void work(job *j, int64_t thread) {
    char *const scratch = j->scratch + (size_t)thread * j->scratch_bytes;
    for (int i = 0; i < j->threads; i++) {
        range *const r = &j->ranges[(thread + i) % j->threads];
        int64_t end;
        for (int64_t begin; (begin = take(r, j->least, &end)) < end;) {
            j->body(j->frame, scratch, begin, end);
        }
    }
}

static void work_as_task(void *state, int64_t index) { work(state, index); }

/* The gate holds the number of the job (upper 16 bits), whether it may still be entered, and how
   many workers are inside. A worker enters by compare-and-swap, so one that wakes late finds the
   gate closed and nobody waits for it; the job's fields change only while the gate is closed and
   nobody is inside. */
enum { OPEN = 1 << 15, INSIDE = OPEN - 1, NUMBER = 1 << 16 };

typedef struct {
    go_pool *pool;
    pthread_t thread;
    int index;
} worker;

struct go_pool {
    _Alignas(64) _Atomic uint32_t gate;
    _Alignas(64) _Atomic uint32_t sleepers;
    _Atomic int stop;
    _Alignas(64) job job;
    int threads, running;
    pid_t owner;
    worker *workers;
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void sleep_while(_Atomic uint32_t *word, uint32_t value) {
#ifdef __linux__
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
#else
    const struct timespec pause = {0, 50000};
    if (atomic_load(word) == value) nanosleep(&pause, NULL);
#endif
}

static void wake_all(_Atomic uint32_t *word) {
#ifdef __linux__
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 0x7fffffff, NULL, NULL, 0);
#else
    (void)word;
#endif
}

/* Workers pause PAUSES times (some 50 us), then let others run for YIELDING, then sleep. */
enum { PAUSES = 2000, YIELDING = 1000000 /* ns */ };

static int waits(go_pool *p, uint32_t seen, uint32_t *gate) {
    *gate = atomic_load_explicit(&p->gate, memory_order_acquire);
    return *gate / NUMBER == seen && !atomic_load_explicit(&p->stop, memory_order_relaxed);
}

/* Wait until the gate shows another job than `seen`, or the pool stops. Kernels of one model follow
   each other within microseconds and its runs often within a millisecond; to wake a thread that
   sleeps costs tens of microseconds. */
static uint32_t next_gate(go_pool *p, uint32_t seen) {
    uint32_t gate;
    for (int i = 0; i < PAUSES; i++) {
        if (!waits(p, seen, &gate)) return gate;
        relax();
    }
    for (const uint64_t until = go_nanoseconds() + YIELDING; go_nanoseconds() < until;) {
        if (!waits(p, seen, &gate)) return gate;
        sched_yield();
    }
    atomic_fetch_add(&p->sleepers, 1);
    gate = atomic_load(&p->gate);
    while (gate / NUMBER == seen && !atomic_load(&p->stop)) {
        sleep_while(&p->gate, gate);
        gate = atomic_load(&p->gate);
    }
    atomic_fetch_sub(&p->sleepers, 1);
    return gate;
}

static void *serve(void *argument) {
    const worker *const w = argument;
    go_pool *const p = w->pool;
    uint32_t seen = 0;
    for (;;) {
        uint32_t gate = next_gate(p, seen);
        if (atomic_load(&p->stop)) return NULL;
        seen = gate / NUMBER;
        int entered = 0;
        while (gate / NUMBER == seen && (gate & OPEN) && !entered) {
            entered = atomic_compare_exchange_weak_explicit(
                &p->gate, &gate, gate + 1, memory_order_acquire, memory_order_acquire);
        }
        if (!entered) continue;
        work(&p->job, w->index);
        atomic_fetch_sub_explicit(&p->gate, 1, memory_order_release);
    }
}

static void start(go_pool *p) {
    p->owner = getpid();
    p->running = 1;
    atomic_store(&p->gate, 0);
    atomic_store(&p->sleepers, 0);
    for (int i = 1; i < p->threads; i++) {
        worker *const w = &p->workers[i];
        w->pool = p;
        w->index = i;
        if (pthread_create(&w->thread, NULL, serve, w) != 0) break; /* fewer threads, same result */
        p->running++;
    }
}

static void release(go_pool *p) {
    free(p->workers);
    go_release(p->job.ranges, (size_t)p->threads * sizeof *p->job.ranges);
    go_release(p, sizeof *p);
}

go_pool *go_pool_create(int threads) {
    go_pool *const p = go_allocate(sizeof *p);
    if (p == NULL) return NULL;
    p->threads = threads;
    p->workers = calloc((size_t)threads, sizeof *p->workers);
    p->job.ranges = go_allocate((size_t)threads * sizeof *p->job.ranges);
    if (p->workers == NULL || p->job.ranges == NULL) {
        release(p);
        return NULL;
    }
    return p; /* threads start with the first job: a process that forks before pays nothing */
}

void go_pool_destroy(go_pool *p) {
    if (p == NULL) return;
    if (p->owner == getpid()) {
        atomic_store(&p->stop, 1);
        atomic_fetch_add(&p->gate, NUMBER); /* the word they sleep on must change */
        wake_all(&p->gate);
        for (int i = 1; i < p->running; i++) pthread_join(p->workers[i].thread, NULL);
    }
    release(p);
}

static void run_on_pool(go_pool *p) {
    /* After a fork the child has the pool's memory and none of its threads. */
    if (p->owner != getpid()) start(p);
    atomic_fetch_add(&p->gate, NUMBER + OPEN);
    if (atomic_load(&p->sleepers) != 0) wake_all(&p->gate);
    work(&p->job, 0);
    uint32_t gate = atomic_fetch_sub(&p->gate, OPEN) - OPEN;
    for (int spin = 0; gate & INSIDE; spin++) {
        if (spin < 20000) relax();
        else sched_yield(); /* more threads than cores: let the worker finish */
        gate = atomic_load_explicit(&p->gate, memory_order_acquire);
    }
}

void go_parallel(go_pool *pool, go_parallel_for host, void *host_state, int threads, go_body body,
                 const void *frame, char *scratch, size_t scratch_bytes, int64_t extent,
                 int64_t run) {
    if (threads < 2 || (pool == NULL && host == NULL)) {
        body(frame, scratch, 0, extent);
        return;
    }
    range own[host != NULL ? threads : 1];
    job on_stack = {.ranges = own};
    job *const j = host != NULL ? &on_stack : &pool->job;
    j->body = body;
    j->frame = frame;
    j->scratch = scratch;
    j->scratch_bytes = scratch_bytes;
    j->threads = threads;
    /* Whole runs where there are several for each thread; else each prepares once. */
    const int whole = run == 1 || extent / run >= 4 * (int64_t)threads;
    j->least = whole ? run : (extent + threads - 1) / threads;
    divide(j, extent);
    if (host != NULL) host(host_state, threads, work_as_task, j);
    else run_on_pool(pool);
}

#endif
