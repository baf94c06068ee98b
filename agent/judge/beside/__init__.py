"""Looks at a measurement beside others of its campaign: what shows only by comparison with the base and the baseline.

Takes the store's reads, a run and its measurement; gives the measurement with what was found. Writes nothing.
"""
