"""The judge: measures what a run left behind, and says what becomes of the idea.

`session` scores an artifact in a trusted process, `measure` makes a `Measurement` of a finished job, `gates`
ask what bars an idea before any statistics, `noise` and `verdict` do those. `rules` are the contest's, asked of
whatever is known (`exhibits`) of a run, a submission or a log.
"""

JUDGE_VERSION = 2
