/* SPDX-License-Identifier: MIT
 *
 * inbox: the one door through which other threads hand items to the loop.
 *
 * Owns: nothing. An item that was accepted is either taken by the loop or
 *   handed back by hoop_inbox_close (item.h has the references).
 * Threads: push from any; everything else only from the loop's thread.
 * Order: what one thread pushes comes out in the order it was pushed.
 * Errors: -ESHUTDOWN to a push once it is closed.
 * Cost: one compare-and-swap to push, one load to see that it is empty.
 *
 * `head` links the items, newest first; NULL is empty, the closed mark is for
 * ever. The loop takes the whole list by one exchange and reverses it.
 */
#ifndef HOOP_CORE_INBOX_H
#define HOOP_CORE_INBOX_H

#include <stdbool.h>

#include "core/atomic.h"
#include "core/item.h"

struct hoop_inbox {
    struct hoop_atomic_pointer head;
};

void hoop_inbox_init(struct hoop_inbox *inbox);

/* Refuses every later push. Returns what was still in it, as take_all does. */
struct hoop_item *hoop_inbox_close(struct hoop_inbox *inbox);

/* Takes over a reference to `item`; on error the caller keeps it. */
int hoop_inbox_push_anythread(struct hoop_inbox *inbox, struct hoop_item *item);

/* All that has been pushed, oldest first, linked by `next`; NULL if nothing. */
struct hoop_item *hoop_inbox_take_all(struct hoop_inbox *inbox);

/* Undoes take_all for the rest of its list, which comes out again before all
 * that was pushed since. Not on a closed inbox. */
void hoop_inbox_put_back(struct hoop_inbox *inbox, struct hoop_item *oldest);

static inline bool hoop_inbox_is_empty(struct hoop_inbox *inbox) {
    return hoop_atomic_pointer_load(&inbox->head) == NULL;
}

/* The newest item still inside, or NULL; follow `next` to the older ones. For a
 * look at a moment when no other thread can push. */
struct hoop_item *hoop_inbox_peek(struct hoop_inbox *inbox);

#endif
