/* Messages of failures, one per thread. */
#include <stdarg.h>
#include <stdio.h>

#include "go_runtime.h"

static thread_local char message[512];

int go_fail(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return code;
}

const char *go_message(void) { return message; }
