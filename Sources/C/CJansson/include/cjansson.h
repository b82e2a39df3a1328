// jansson, with functions in place of the macros that Swift can't import.
#pragma once

#include <jansson.h>

/// json_typeof as a number.
static inline int cj_type(const json_t *value) { return (int)json_typeof(value); }

static inline int cj_is_true(const json_t *value) { return json_is_true(value); }

/// The flags all our parsing uses: any top-level value, duplicate names refused. JSON_ALLOW_NUL stays
/// off, so that no string holds U+0000, and json_string_value is its whole text.
static inline json_t *cj_parse(const char *bytes, size_t count, json_error_t *error) {
    return json_loadb(bytes, count, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, error);
}

static inline void cj_release(json_t *value) { json_decref(value); }

/// The message of a failure; it may quote a piece of the input.
static inline const char *cj_error_text(const json_error_t *error) { return error->text; }

/// enum json_error_code as a number.
static inline int cj_error_code(const json_error_t *error) { return (int)json_error_code(error); }
