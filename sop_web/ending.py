"""The end of the web process, also when requests are under way.

A request in a thread waits for the event loop between two middlewares (asgiref's AsyncToSync).
When the loop has ended it waits for ever, and Python waits for the thread before it exits.
Nothing is lost with such a request: what was committed is durable, what was not gets no answer
and is sent again.
"""

import os
import threading

# From the end of the event loop; most requests need milliseconds.
GRACE_S = 3.0


def end_with_the_loop() -> None:
    """Exit `GRACE_S` after Daphne's event loop ended, whatever threads still wait for."""
    from twisted.internet import reactor

    def leave() -> None:
        timer = threading.Timer(GRACE_S, os._exit, (0,))
        timer.daemon = True
        timer.start()

    reactor.addSystemEventTrigger("after", "shutdown", leave)  # type: ignore[attr-defined]
