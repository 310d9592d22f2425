/* Files mapped for reading, on POSIX systems. */
#include "go_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

const void *go_map_file(const char *path, size_t *bytes) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return NULL;
    const off_t size = lseek(file, 0, SEEK_END);
    void *const memory =
        size > 0 ? mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
    close(file);
    if (memory == MAP_FAILED) return NULL;
    *bytes = (size_t)size;
    return memory;
}

void go_unmap_file(const void *memory, size_t bytes) { munmap(const_cast<void *>(memory), bytes); }
