"""Spot checks of a machine before it is paid to work: what it shows of itself, and whether it is taken.

`python -m agent.admission` runs there and prints a `Record` (seen.py); `gate.decide` takes that text here, compares it
with what the track wants and what other machines of the class showed, and remembers it. Nothing of CUDA in it has run
on a GPU yet: the formats of nvidia-smi are read from recordings.
"""
