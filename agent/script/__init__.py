"""The text of a candidate's script: parsed, compared, its knobs read and written, two edits of it merged; never run.

Knows texts and what a track says of them; nothing of stores, runs or git.
"""
