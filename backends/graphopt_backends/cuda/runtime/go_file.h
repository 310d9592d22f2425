/* A file mapped for reading. Internal. */
#ifndef GO_FILE_H
#define GO_FILE_H

#include <stddef.h>

/* NULL when it cannot be opened, or is empty. */
const void *go_map_file(const char *path, size_t *bytes);
void go_unmap_file(const void *memory, size_t bytes);

#endif
