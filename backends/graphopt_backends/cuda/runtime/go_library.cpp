/* Vendor libraries, opened at run time, on POSIX systems. */
#include "go_library.h"

#include "go_runtime.h"

#include <dlfcn.h>

static void *opened(const char *const *names) {
    void *library = NULL;
    while (library == NULL && *names != NULL) library = dlopen(*names++, RTLD_NOW | RTLD_LOCAL);
    return library;
}

int go_library_functions(const char *what, const char *files, const char *const *names,
                         const char *const *symbols, size_t count, void **functions) {
    void *const library = opened(names);
    if (library == NULL)
        return go_fail(GO_NO_LIBRARY, "the model calls %s: there is no %s", what, files);
    for (size_t i = 0; i < count; i++) {
        functions[i] = dlsym(library, symbols[i]);
        if (functions[i] == NULL)
            return go_fail(GO_NO_LIBRARY, "%s has no %s", what, symbols[i]);
    }
    return GO_OK;
}
