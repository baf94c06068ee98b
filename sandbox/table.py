"""What each wall holds off, measured: the probe behind every wall alone, and behind the stacks that runs get.

Takes nothing; gives a table of attempts. `python -m sandbox.table` prints it for docs/SECURITY.md; it takes minutes.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from sandbox import bubblewrap
from sandbox.confined import Confined
from sandbox.limits import Exit
from sandbox.policy import Policy
from sandbox.proving import Errand, Result, bare, prove
from sandbox.seen import seen
from sandbox.walls import Stack, stack

# Nothing but this wall, on top of what always stands.
