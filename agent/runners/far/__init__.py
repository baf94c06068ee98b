"""What runs elsewhere have in common, whichever way their machine is reached.

`mirror` is the job folder here of a run that is elsewhere; `code` is what is sent for it; `environment` is what a
machine is sent to have the packages that a person has pinned.
"""
