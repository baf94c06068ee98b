"""Which lines a regular expression finds, in a process of its own: a pattern may need years or all memory.

`python -I search_lines.py` takes JSON on its input, {"pattern": ..., "lines": [...]}; prints a JSON list of positions,
or {"wrong": words} for a pattern that is none. Standard library only: it starts in a blink and knows nothing of us.
"""

import json
import re
import resource
import sys

SECONDS = 2
MEMORY = 1 << 30
WIDTH = 2000  # characters of a line that are looked at


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    asked = json.load(sys.stdin)
    try:
        pattern = re.compile(asked["pattern"], re.IGNORECASE)
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        json.dump({"wrong": f"{error}"}, sys.stdout)
        return
    json.dump([at for at, line in enumerate(asked["lines"]) if pattern.search(line[:WIDTH])], sys.stdout)


if __name__ == "__main__":
    main()
