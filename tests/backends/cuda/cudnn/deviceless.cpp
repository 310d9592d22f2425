// What calls of cuDNN need of the runtime where there is no CUDA: messages.
#include <stdarg.h>
#include <stdio.h>

#include "go_runtime.h"

static char message[512];

int go_fail(int code, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    return code;
}

extern "C" const char *deviceless_message() { return message; }

int go_allocate(void **, size_t, const char *) { return go_fail(GO_NO_MEMORY, "no device"); }
void go_release(void *) {}
int go_upload(void *, const void *, size_t) { return go_fail(GO_NO_MEMORY, "no device"); }
