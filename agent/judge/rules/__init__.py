"""Legality as code: the contest's rules, each as a function of what is known of a run or of a submission.

`static` finds signs in the text of a script, `payload` unpacks what a script executes of its own literals, `signs` says
how much a sign says.
"""
