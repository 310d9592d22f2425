/* A program that has nothing but a model: what loading and running it cost.

   host WEIGHTS RUNS: one JSON object of nanoseconds and bytes; `empty` is the memory before. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model.h"

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static long peak_bytes(void) {
    char line[256];
    long kib = -1;
    FILE *const status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmHWM: %ld kB", &kib) == 1) break;
    if (status != NULL) fclose(status);
    return kib * 1024;
}

static int by_size(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void *buffer(size_t bytes) {
    void *const memory = malloc(bytes + 64);
    if (memory == NULL) exit(3);
    memset(memory, 0, bytes + 64);
    return (void *)(((uintptr_t)memory + 63) / 64 * 64);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const int runs = atoi(argv[2]);
    const void *inputs[GO_MODEL_INPUTS + 1];
    void *outputs[GO_MODEL_OUTPUTS + 1];
    size_t ports = 0;
    for (int i = 0; i < GO_MODEL_INPUTS; i++) {
        inputs[i] = buffer(go_model_input(i)->bytes);
        ports += go_model_input(i)->bytes;
    }
    for (int i = 0; i < GO_MODEL_OUTPUTS; i++) {
        outputs[i] = buffer(go_model_output(i)->bytes);
        ports += go_model_output(i)->bytes;
    }
    uint64_t *const times = buffer(sizeof *times * (size_t)(runs + 1));
    const long empty = peak_bytes();

    go_model *model = NULL;
    const uint64_t start = now();
    const int error = go_model_open(argv[1], 1, &model);
    const uint64_t opened = now();
    if (error != GO_MODEL_OK) return fprintf(stderr, "%s\n", go_model_error(error)), 1;
    for (int i = 0; i <= runs; i++) {
        const uint64_t before = now();
        go_model_run(model, inputs, outputs);
        times[i] = now() - before;
    }
    const uint64_t first = times[0];
    qsort(times + 1, (size_t)runs, sizeof *times, by_size);
    printf("{\"empty\": %ld, \"peak\": %ld, \"ports\": %zu, \"weights\": %zu, \"arena\": %zu, "
           "\"scratch\": %zu, \"open_ns\": %" PRIu64 ", \"first_ns\": %" PRIu64
           ", \"steady_ns\": %" PRIu64 "}\n",
           empty, peak_bytes(), ports, go_model_weights_bytes(), go_model_arena_bytes(),
           go_model_scratch_bytes(), opened - start, first, times[1 + runs / 2]);
    go_model_close(model);
    return 0;
}
