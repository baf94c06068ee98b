"""How all tests run: where CI is set the same examples every time, elsewhere new ones."""

import os
import signal

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("person", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "person")

# A shell that starts a command in the background makes it deaf to interrupts, and so would be all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
