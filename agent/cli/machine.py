"""Commands about this machine and this workspace: doctor, tracks, skills."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent import named
from agent.cli.printing import AsJson, emit
from agent.errors import MissingError, TrackError, UserError

if TYPE_CHECKING:
    from agent.track import Track


def doctor(
    probe: Annotated[
        bool, typer.Option(help="Try to get out of the walls, in every way that is known; takes some seconds.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """What this machine has and lacks.

    Software, disk, data, the walls around untrusted code and whether they hold, and which tracks can run here.
    """
    from agent.report import doctor as report

    checks = report.examine(named.here(), probe=probe)
    emit(checks, as_json, lambda: report.words(checks))
    broken = [check.what for check in checks if check.state == "bad"]
    if broken and as_json:  # what is broken is said already, and a second text would spoil the first
        raise typer.Exit(MissingError.exit_code)
    if broken:
        raise MissingError(f"not ready: {', '.join(broken)}")


def tracks(
    name: Annotated[str | None, typer.Argument(help="Explain this one: a name or a TOML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Which tracks there are; or all about one."""
    from agent import hardware, track
    from agent.report import tracks as report

    root = named.here()
    if name is not None:
        found, _ = track.load(track.from_here(name, Path.cwd(), root), root)
        missing = hardware.missing(found, root)
        row = {**found.model_dump(mode="json"), "missing": missing}
        emit(row, as_json, lambda: report.explain(found, missing))
        return
    loaded: list[tuple[Track, list[str]]] = []
    broken: dict[str, str] = {}
    for one in report.known(root):
        try:
            found, _ = track.load(one, root)
        except TrackError as error:  # of the others it says nothing
            broken[one] = str(error)
        else:
            loaded.append((found, hardware.missing(found, root)))
    rows = [{"track": t.name, "summary": " ".join(t.summary.split()), "missing": m} for t, m in loaded]
    rows += [{"track": name, "error": why} for name, why in broken.items()]
    emit(rows, as_json, lambda: report.listed(loaded, broken))
    if broken:
        raise typer.Exit(TrackError.exit_code)


def skills(
    name: Annotated[str | None, typer.Argument(help="Print this one.")] = None,
    lint: Annotated[
        bool, typer.Option("--lint", help="Say what is wrong with them; exit code 2 if anything is.")
    ] = False,
    folder: Annotated[Path | None, typer.Option(help="Default: skills/ of the workspace.")] = None,
    install: Annotated[
        str | None, typer.Option(help="Copy them to where a client finds them: claude, codex, or a folder.")
    ] = None,
    user: Annotated[bool, typer.Option("--user", help="Install for all your workspaces, not for this one.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Install over files that differ.")] = False,
    as_json: AsJson = False,
) -> None:
    """What a planner can read about the work; or one of them, whole.

    With --install they are copied for a client that is the researcher: Claude Code or Codex.
    """
    from agent import skills as known

    where = folder or known.folder_of(named.here())
    if install is not None:
        _install(where, install, user, force, as_json)
    elif lint:
        faults = known.lint(where)
        rows = [{"file": str(one.path), "fault": one.words} for one in faults]
        emit(rows, as_json, lambda: "\n".join(f"{one.path}: {one.words}" for one in faults) or "nothing is wrong")
        if faults:
            raise typer.Exit(UserError.exit_code)
    elif name is not None:
        skill = known.read(where, name)
        emit(skill, as_json, lambda: skill.body)
    else:
        found = known.load(where)
        rows = [{"name": one.name, "description": one.description, "file": str(one.path)} for one in found]
        emit(rows, as_json, lambda: known.index(found) or f"no skills in {where}")


def _install(source: Path, client: str, user: bool, force: bool, as_json: bool) -> None:
    from agent import clients

    into = clients.skills_folder(client, named.here(), user=user)
    copied = clients.install(source, into, force=force)
    kept = [one for one in copied if one.done == "kept"]
    count = {done: sum(one.done == done for one in copied) for done in ("new", "replaced", "same", "kept")}
    said = ", ".join(f"{n} {done}" for done, n in count.items() if n)
    lines = [f"{into}: {said}", *(f"  {one.path} differs and was left as it is (--force replaces it)" for one in kept)]
    rows = [{"file": str(one.path), "done": one.done} for one in copied]
    emit({"folder": str(into), "files": rows}, as_json, lambda: "\n".join(lines))
    if kept:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    for command in (doctor, tracks, skills):
        app.command()(command)
