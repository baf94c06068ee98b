"""Runs on machines that are rented for them, whoever rents them out.

A provider's package hands two things to this one: a `Provider` (agent/machines/records.py), which makes machines, looks
at them, ends them and has their bill, and a `Rental` (`rental.py`), which is what one table of runners.toml rents of
him: kinds of GPU, `terms`, candidates, how a machine is reached. `runner` then speaks the Runner protocol: each slot
has a `keeper`, which has a machine while there is work; `desk` is what they share, `slots` are their names, `spot`
looks at a new machine, `deadman` ends one by itself, `ending` all when the campaign stops, `avoided` is where one was
no good lately, and `keys` are what opens it.

    rental.py in agent/runners/KIND     rental(name, settings, workspace, environ) -> Rental
    __init__.py there                   Settings, and make(...) -> RentingRunner(name, rental(...), ...)
"""
