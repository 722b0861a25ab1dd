/* engine/model/fields.h -- Shorthand for descriptor tables. Included by the .c files that hold them, nowhere else. */
#pragma once
#include "base/desc.h"

/* One field of the struct that STRUCT names at the point of use; further initialisers follow the documentation. */
#define FIELD(type_, member, doc_, ...)                                                                                \
    { .name = #member, .type = type_, .offset = offsetof(STRUCT, member), .doc = doc_, __VA_ARGS__ }
#define FLAGS(flags_) .flags = (flags_)
#define BOUNDS(min_, max_) .min = (double)(min_), .max = (double)(max_)
#define OF(desc_) .desc = &(desc_)
#define WORDS(words_) .values = (words_)
#define DEFAULT(text_) .fallback = (text_)

/* Defines cp_<name>_desc over the array <name>_fields; present: offset of the bit set, or CP_NONE. */
#define DESC(name_, present_, ...)                                                                                     \
    const cp_desc cp_##name_##_desc = {.name = #name_,                                                                 \
                                       .size = sizeof(STRUCT),                                                         \
                                       .fields = name_##_fields,                                                       \
                                       .count = CP_COUNT(name_##_fields),                                              \
                                       .present = present_,                                                            \
                                       __VA_ARGS__}
