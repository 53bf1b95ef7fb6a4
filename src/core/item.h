/* SPDX-License-Identifier: MIT
 *
 * item: one unit of work that waits for its turn on the loop.
 *
 * Layer: core, used by ring, inbox, timers and loop. The owner embeds it in
 * its own structure and finds that structure again from the item's address.
 * Owns: nothing. Whoever holds the item in a queue holds one reference to its
 * owner; `run` and `drop` consume that reference.
 */
#ifndef HOOP_CORE_ITEM_H
#define HOOP_CORE_ITEM_H

#include <stddef.h>

struct hoop_item;

struct hoop_item_type {
    /* Does the work. 0, or a negative value to leave the loop at once. */
    int (*run)(struct hoop_item *item);
    /* Lets go of the item unrun: the loop was closed. */
    void (*drop)(struct hoop_item *item);
};

struct hoop_item {
    const struct hoop_item_type *type;
    struct hoop_item *next; /* the inbox's link; NULL outside it */
};

/* The structure that holds `member` at `address`. */
#define HOOP_CONTAINER_OF(address, type, member)                                                   \
    ((type *)(void *)((char *)(address) - offsetof(type, member)))

#endif
