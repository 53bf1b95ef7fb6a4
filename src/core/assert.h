/* SPDX-License-Identifier: MIT
 *
 * assert: HOOP_ASSERT states what only a bug in hoop could break. It is never
 * used on input, and it is compiled out of release builds.
 */
#ifndef HOOP_CORE_ASSERT_H
#define HOOP_CORE_ASSERT_H

#include <assert.h>

#define HOOP_ASSERT(condition) assert(condition)

#endif
