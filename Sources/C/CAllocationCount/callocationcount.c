#include "callocationcount.h"

#include <errno.h>
#include <stddef.h>

static __thread struct ca_count count __attribute__((tls_model("initial-exec")));

struct ca_count ca_of_this_thread(void) { return count; }

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define CA_HAS_OTHER_ALLOCATOR 1
#endif
#endif
#else
#define CA_HAS_OTHER_ALLOCATOR 1
#endif

#ifndef CA_HAS_OTHER_ALLOCATOR
// The C library lets a program define these and reaches its own by these names ("Replacing malloc" in its
// manual). What they give is freed by its own free, which needs no counting.
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t items, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static void note(size_t size) {
    count.calls++;
    count.bytes += size;
}

void *malloc(size_t size) {
    note(size);
    return __libc_malloc(size);
}

void *calloc(size_t items, size_t size) {
    note(items * size);
    return __libc_calloc(items, size);
}

void *realloc(void *old, size_t size) {
    note(size);
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
    note(size);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size) {
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) return EINVAL;
    void *made = memalign(alignment, size);
    if (made == NULL) return ENOMEM;
    *memory = made;
    return 0;
}
#endif
