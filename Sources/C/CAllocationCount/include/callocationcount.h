// How often a program asks the C library for memory. Whoever links this room has malloc and its kin counted,
// by thread; everything that is allocated comes through them, Swift's objects and arrays, too.
#pragma once

#include <stdint.h>

struct ca_count {
    uint64_t calls;  // of malloc, calloc, realloc, posix_memalign, aligned_alloc and memalign
    uint64_t bytes;  // that they were asked for
};

/// Of the thread that asks, since it began. All zeros where a sanitizer has its own allocator.
struct ca_count ca_of_this_thread(void);
