"""One campaign on machines of all kinds while everything that can go wrong with them does.

`boxes` are machines over ssh, `pods` the stand-in for RunPod whose pods are such boxes, `clocks` a clock that jumps,
`scene` the workspace, what is started in it and what it is told of the machines, `ledger` what must hold at every
instant and in the end, `storms` what goes wrong, one word each.
"""
