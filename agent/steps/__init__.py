"""The arrows of the loop, one file each.

A step takes a `Setting` and records, calls the stages on either end of its arrow, and writes to the store what it did
before the next side effect. Every step may be cut off at any instant and called again.
"""
