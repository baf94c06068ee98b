"""Pods as a table of runners.toml rents them: what to ask RunPod for, how a pod is reached, and how its time is moved.

Takes settings, the workspace and the environment. The key is read when it is needed, and stays in memory.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from agent.machines.homes import home
from agent.machines.records import Candidate, Machine, NoCapacity
from agent.machines.renting import Renter
from agent.runners.rented import deadman
from agent.runners.rented.avoided import avoided
from agent.runners.rented.keys import private_key, public_key
from agent.runners.rented.rental import Shell
from agent.runners.runpod.client import Client, key_of
from agent.runners.runpod.pods import Pods, candidates
from agent.runners.runpod.settings import Settings
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Link
from agent.runners.ssh.pins import Pins
from agent.store import Store


class PodRental:
    fixed = False

    def __init__(self, name: str, settings: Settings, workspace: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.terms, self.kinds = settings, settings.gpu
        self.note = f"{name}: pods are rented from RunPod as they are needed, and cost money."
        self._name, self._workspace, self._environ = name, workspace, environ

    def device(self, kind: str) -> str:
        """RunPod calls a GPU as it calls itself."""
        return kind

    def price(self, kind: str, gpus: int) -> None:
        """The catalogue says."""

    def renter(self, store: Store) -> Renter:
        settings = self.terms
        client = Client(key_of(self._environ), settings.url)
        pods = Pods(client, settings, public_key(settings.ssh_key, self._workspace))
        return Renter(store, pods, self._name, home(store), settings.limits)

    def key(self) -> Path:
        return private_key(self.terms.ssh_key, self._workspace)

    def candidates(self, one: Renter, kind: str, gpus: int) -> list[Candidate]:
        """Wherever it is to be had. A track without GPUs gets a pod with one: RunPod has none without."""
        pods, gpus = one.provider, max(1, gpus)
        assert isinstance(pods, Pods)
        catalogue = pods.client.gpus(gpus, self.terms.cloud, self.terms.gpu)
        volumes = pods.client.volumes() if self.terms.volume else []
        everything = candidates(self.terms, gpus, catalogue, volumes, avoided(one))
        mine = [candidate for candidate in everything if candidate.kind == kind]
        if not mine:
            raise NoCapacity(f"no {kind} with {gpus} GPUs")
        return mine

    def link(self, host: SshHost, pins: Pins) -> Link:
        return Link(host, pins)

    def rearm(self, machine: Machine, seconds: float, shell: Shell) -> None:
        deadman.tell(machine.name, seconds, shell)

    def hurry(self) -> None:
        """RunPod says at once what it makes."""

    def close(self) -> None:
        """Nothing is held open."""


def rental(name: str, settings: Settings, workspace: Path, environ: Mapping[str, str] = os.environ) -> PodRental:
    return PodRental(name, settings, workspace, environ)
