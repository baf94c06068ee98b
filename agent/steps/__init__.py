"""The arrows of the loop, each named in the first line of its file, and what they go by.

A step takes a `Setting` and records, calls the stages on either end of its arrow, and writes to the store what it did
before the next side effect. Every step may be cut off at any instant and called again. What belongs to no arrow alone
has a file of its own: what is wanted next, how far ahead to plan, what a controller has to look at, when it is over.
"""
