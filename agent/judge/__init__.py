"""The judge: measures what a run left behind, and says what becomes of the idea.

`session` scores an artifact in a trusted process, `measure` makes a `Measurement` of a finished job, `rules`
looks for broken rules, `noise` and `verdict` do the statistics.
"""

JUDGE_VERSION = 1
