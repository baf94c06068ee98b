"""Who rents machines out to this workspace: whoever the book or runners.toml names.

Takes the store, the workspace and the environment; gives a `Renter` for each, and why some can't be asked. A provider
is a package of agent/runners/ with `rental(name, settings, workspace, environ)` and `Settings` in its `rental` and
`settings`.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from agent.errors import CaddieError, UserError
from agent.fields import Table, explained, frozen
from agent.machines import book
from agent.machines.renting import Renter
from agent.runners import configured
from agent.store import Store

KINDS = ("runpod", "modal", "sky")


def renters(store: Store, workspace: Path, environ: Mapping[str, str]) -> tuple[list[Renter], list[str]]:
    """The second says who could not be asked, and why."""
    tables = _tables(workspace, environ)
    with store.read() as reads:
        rented = {one.backend: one.provider for one in book.everyone(reads)}
        rented |= {one.backend: one.provider for kind in KINDS for one in book.unsettled(reads, kind)}
    kinds = {name: str(table["kind"]) for name, table in tables.items()} | rented
    found, failed = [], []
    for name, kind in kinds.items():
        if kind not in KINDS:
            continue
        try:
            found.append(_renter(name, kind, tables.get(name, {}), store, workspace, environ))
        except CaddieError as error:
            failed.append(f"{name}: {error}")
    return found, failed


def _renter(
    name: str,
    kind: str,
    table: Mapping[str, object],
    store: Store,
    workspace: Path,
    environ: Mapping[str, str],
) -> Renter:
    package = f"agent.runners.{kind}"
    model: type[Table] = importlib.import_module(f"{package}.settings").Settings
    given = {key: frozen(value) for key, value in table.items() if key != "kind"}
    try:
        settings = model.model_validate(given)
    except ValidationError as error:
        raise UserError(f"[{name}] of runners.toml:\n{explained(error, lambda loc: model.model_fields)}") from error
    made: Renter = importlib.import_module(f"{package}.rental").rental(name, settings, workspace, environ).renter(store)
    return made


def _tables(workspace: Path, environ: Mapping[str, str]) -> dict[str, Mapping[str, object]]:
    """Those of kinds that rent."""
    said, _ = configured.read(workspace, environ)
    named = {name: {"kind": name, **table} for name, table in said.items() if isinstance(table, dict)}
    return {name: table for name, table in named.items() if table["kind"] in KINDS}
