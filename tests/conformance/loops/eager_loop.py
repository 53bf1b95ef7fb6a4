# SPDX-License-Identifier: MIT
"""hoop polling in every round, so that descriptors are served at the earliest moment they can be.

What depends on a callback running before the next event goes wrong every time, not now and then.
"""

import hoop

new_event_loop = hoop.loop_factory(poll_every_round=True)
