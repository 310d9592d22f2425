/* Vendor libraries, opened at run time. */
#ifndef GO_LIBRARY_H
#define GO_LIBRARY_H

#include <stddef.h>

/* Open the first library of `names` (ended by NULL) that is there, for good, and look up `count`
 * symbols of it. Returns GO_OK, or GO_NO_LIBRARY with a message: `what` the model calls, and of
 * which `files` there is none; or which symbol is missing. */
int go_library_functions(const char *what, const char *files, const char *const *names,
                         const char *const *symbols, size_t count, void **functions);

#endif
