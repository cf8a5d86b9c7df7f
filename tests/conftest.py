"""What all tests need: a process to which SIGINT means something."""

from __future__ import annotations

import signal

# A shell starts a background job with SIGINT ignored, and whatever that starts inherits it: a test that
# interrupts a command would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
