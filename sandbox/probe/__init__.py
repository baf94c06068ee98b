"""What a candidate might try in order to get out: a program that tries it, and says what came of it.

It runs alone (`python -I PATH/probe SPEC.json [MODE]`), with the standard library only, because it runs inside
the box. `sandbox/proving.py` starts it, and confirms from outside what it says.
"""
