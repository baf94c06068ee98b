"""Runs on machines that are reached over ssh.

`hosts` says which machines there are, `link` keeps the connection to one, `depot` sends it what it lacks, `machine`
is one that is ready for jobs, `errand` takes one job there and back, `mirror` is its folder here, and `runner` speaks
the Runner protocol. `far`, `attendant` and `judging` run on the machine itself.

Whoever rents machines uses `SshHost(name, address, port, user, key, ...)` as the provider gives them, a name that no
other machine ever has (its host key is pinned under it), and either `SshRunner(hosts, workspace, campaign, track)` or
`Machine` by itself: `ready`, `ask`, `send`, `lay`, `fetch`, `judge`, all in the event loop of a `Thread`.
`SshRunner.fence(name)` says that a machine was given back, so that what it had is lost at once.
"""
