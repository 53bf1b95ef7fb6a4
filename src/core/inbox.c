/* SPDX-License-Identifier: MIT */
#include "core/inbox.h"

#include <errno.h>

/* Never touched: its address is what says "closed". */
static const struct hoop_item closed_mark;

void hoop_inbox_init(struct hoop_inbox *inbox) {
    hoop_atomic_pointer_init(&inbox->head, NULL);
}

static struct hoop_item *reverse(struct hoop_item *newest) {
    struct hoop_item *oldest = NULL;
    while (newest != NULL) {
        struct hoop_item *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

struct hoop_item *hoop_inbox_close(struct hoop_inbox *inbox) {
    struct hoop_item *newest = hoop_atomic_pointer_exchange(&inbox->head, (void *)&closed_mark);
    return newest == &closed_mark ? NULL : reverse(newest);
}

int hoop_inbox_push_anythread(struct hoop_inbox *inbox, struct hoop_item *item) {
    void *head = hoop_atomic_pointer_load(&inbox->head);
    do {
        if (head == &closed_mark) {
            item->next = NULL;
            return -ESHUTDOWN;
        }
        item->next = head;
    } while (!hoop_atomic_pointer_replace(&inbox->head, &head, item));
    return 0;
}

struct hoop_item *hoop_inbox_take_all(struct hoop_inbox *inbox) {
    if (hoop_inbox_peek(inbox) == NULL)
        return NULL;
    return reverse(hoop_atomic_pointer_exchange(&inbox->head, NULL));
}

void hoop_inbox_put_back(struct hoop_inbox *inbox, struct hoop_item *oldest) {
    struct hoop_item *newest = reverse(oldest);
    void *head = NULL;
    while (!hoop_atomic_pointer_replace(&inbox->head, &head, newest)) {
        if (head == NULL) /* failed for no reason, as a weak exchange may */
            continue;
        struct hoop_item *pushed = hoop_atomic_pointer_exchange(&inbox->head, NULL);
        struct hoop_item *last = pushed;
        while (last->next != NULL)
            last = last->next;
        last->next = newest;
        newest = pushed;
        head = NULL;
    }
}

struct hoop_item *hoop_inbox_peek(struct hoop_inbox *inbox) {
    struct hoop_item *newest = hoop_atomic_pointer_load_ordered(&inbox->head);
    return newest == &closed_mark ? NULL : newest;
}
