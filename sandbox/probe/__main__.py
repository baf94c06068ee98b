"""Try the escapes of one mode and print one JSON object: attempt -> {"got", "why"}.

python -I PATH/probe SPEC.json [all | leave | find | bomb NAME]
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: its folder is a package all the same
    _folder = Path(__file__).resolve().parent
    sys.path.insert(0, str(_folder.parent))
    __import__(_folder.name)
    __package__ = _folder.name

from .running import main

if __name__ == "__main__":
    main(sys.argv[1:])
