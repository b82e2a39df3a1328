// What the connections of one endpoint share, so that those that are idle don't each hold it.
#include <stdlib.h>

#include "internal.h"

// The library decrypts each packet into a buffer of the connection that grows with the packets and is freed with
// the connection. Nothing in it is looked at after the packet has been read, and one thread reads the packets of
// all connections of an endpoint: so they are given the same one.
enum {
    // What the library begins with; all else that it reallocates begins with less.
    LEAST_PLAINTEXT = 2048,
    MOST_PLAINTEXT = 65536,
};

/// Whether the library reallocates nothing else from so large a size: that is known of its versions 0.12 to 1.16.
static bool shares_plaintext(void) {
    const ngtcp2_info *library = ngtcp2_version(0);
    return library->version_num >= 0x000c00 && library->version_num < 0x011100;
}

static void *take(size_t count, void *user_data) {
    (void)user_data;
    return malloc(count);
}

static void *take_zeroed(size_t count, size_t size, void *user_data) {
    (void)user_data;
    return calloc(count, size);
}

static void *take_again(void *bytes, size_t count, void *user_data) {
    cq_workspace *workspace = user_data;
    bool is_plaintext = bytes == NULL ? count >= LEAST_PLAINTEXT : bytes == workspace->plaintext;
    if (!is_plaintext) return realloc(bytes, count);
    if (count > MOST_PLAINTEXT) return NULL;
    if (workspace->plaintext == NULL) workspace->plaintext = malloc(MOST_PLAINTEXT);
    return workspace->plaintext;
}

static void give_back(void *bytes, void *user_data) {
    const cq_workspace *workspace = user_data;
    if (bytes != workspace->plaintext) free(bytes);
}

cq_workspace *cq_workspace_new(void) {
    cq_workspace *workspace = calloc(1, sizeof *workspace);
    if (workspace == NULL) return NULL;
    workspace->holders = 1;
    ngtcp2_path_storage_zero(&workspace->packet_path);
    workspace->memory = (ngtcp2_mem){
        .user_data = workspace,
        .malloc = take,
        .free = give_back,
        .calloc = take_zeroed,
        .realloc = take_again,
    };
    workspace->has_memory = shares_plaintext();
    return workspace;
}

cq_workspace *cq_workspace_hold(cq_workspace *workspace) {
    workspace->holders++;
    return workspace;
}

void cq_workspace_free(cq_workspace *workspace) {
    if (--workspace->holders > 0) return;
    cq_free_key_tables(workspace->key_tables);
    free(workspace->plaintext);
    free(workspace);
}

const ngtcp2_mem *cq_memory(cq_workspace *workspace) {
    return workspace->has_memory ? &workspace->memory : NULL;
}
