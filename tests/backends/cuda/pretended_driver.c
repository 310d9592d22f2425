/* As much of the NVIDIA driver as graphopt asks from Python, pretended: device memory is the host's.
   `pretended` is what a test says it finds, and what it then sees. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct {
    int devices, major, minor, full; /* of the machine; full: no memory is left */
    int alive;                       /* allocations */
} pretended = {1, 9, 0, 0, 0};

enum { INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100 };

int cuInit(unsigned flags) { return flags ? INVALID : pretended.devices ? 0 : NO_DEVICE; }
int cuDeviceGetCount(int *count) { return *count = pretended.devices, 0; }
int cuDeviceGet(int *device, int i) { return *device = i, 0; }
int cuDriverGetVersion(int *version) { return *version = 13000, 0; }
int cuDeviceGetName(char *name, int size, int device) {
    (void)device;
    return strncpy(name, "Pretended GPU", (size_t)size), 0;
}
int cuDeviceGetAttribute(int *value, int which, int device) {
    (void)device;
    *value = which == 16 ? 132 : which == 38 ? 1 << 20 : which == 75 ? pretended.major
           : which == 76 ? pretended.minor : -1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)device;
    return *context = &pretended, 0;
}
int cuCtxSetCurrent(void *context) { return context == &pretended ? 0 : INVALID; }
int cuMemAlloc_v2(uint64_t *memory, size_t bytes) {
    if (pretended.full || bytes == 0) return pretended.full ? OUT_OF_MEMORY : INVALID;
    void *const made = aligned_alloc(256, (bytes + 255) / 256 * 256);
    pretended.alive++;
    return *memory = (uint64_t)(uintptr_t)made, 0;
}
int cuMemFree_v2(uint64_t memory) {
    pretended.alive--;
    return free((void *)(uintptr_t)memory), 0;
}
int cuMemsetD8Async(uint64_t to, unsigned char byte, size_t bytes, void *stream) {
    if (stream != NULL || bytes == 0) return INVALID;
    return memset((void *)(uintptr_t)to, byte, bytes), 0;
}
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    return memcpy((void *)(uintptr_t)to, from, bytes), 0;
}
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    return memcpy(to, (const void *)(uintptr_t)from, bytes), 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    if (stream != NULL || bytes == 0) return INVALID;
    return memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes), 0;
}
int cuGetErrorString(int code, const char **text) {
    return *text = code == OUT_OF_MEMORY ? "out of memory" : "an error", 0;
}
