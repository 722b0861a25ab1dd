/* engine/base/log.h -- The engine's own log: one line per message on stderr, or to a hook.
 * Library code returns errors; only the plane and the binary log. */
#pragma once
#include <stdarg.h>

typedef enum cp_log_level { CP_LOG_DEBUG, CP_LOG_INFO, CP_LOG_WARN, CP_LOG_ERROR } cp_log_level;
void cp_log(cp_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cp_log_set_level(cp_log_level level); /* default: warn; CP_LOG=debug|info|warn|error|none overrides */
