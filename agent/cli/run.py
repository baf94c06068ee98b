"""Commands that make a campaign run: start, resume, stop.

Each opens a `Setting`, hands it to the loop and shows how it ended.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent import named
from agent.cli.opened import opened
from agent.cli.printing import AsJson, emit, say, width
from agent.errors import LeftError, UserError
from agent.report import heard

if TYPE_CHECKING:
    from agent.setting import Setting
    from agent.steps.ending import Ending

Track = Annotated[str, typer.Option(help="Name of a track (`agent tracks`) or a TOML file.")]
Budget = Annotated[
    float | None,
    typer.Option(help="GPU-hours that may be spent, never passed; on a CPU track an hour of one slot is a GPU-hour."),
]
Usd = Annotated[float | None, typer.Option("--usd", help="Dollars for machines, at most.")]
LlmUsd = Annotated[float | None, typer.Option("--llm-usd", help="Dollars for language models, at most.")]
LlmTokens = Annotated[int | None, typer.Option("--llm-tokens", help="Tokens of language models, at most.")]
LlmCalls = Annotated[int | None, typer.Option("--llm-calls", help="Calls of language models, at most.")]
PlannerName = Annotated[
    str | None,
    typer.Option(
        "--planner",
        help="Who has the ideas, several by commas: knobs, anthropic[:MODEL], openai[:MODEL], "
        "openai-compatible:MODEL, command:claude, command:codex, command:PROGRAM, mcp, scripted:FILE. Default: knobs.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", help="Where openai-compatible:MODEL is served, such as http://localhost:8000/v1."),
]
ReviewPolicy = Annotated[
    str | None, typer.Option("--review", help="Which diffs wait for a person: all, risky or none. Default: risky.")
]
Slots = Annotated[
    int | None,
    typer.Option(help="Runs at once. Default: two CPU cores, or all GPUs; only elsewhere, what may be rented."),
]
Name = Annotated[str | None, typer.Option("--campaign", help="Name of the campaign. Default: TRACK-N.")]
Target = Annotated[float | None, typer.Option(help="Stop when the head's fresh runs reach this BPB.")]
Base = Annotated[
    str | None,
    typer.Option(
        help="Where a new campaign starts: last (head of the last one), HEAD or worktree. Default: last where there is "
        "one, but HEAD where that has it and later changes of the script."
    ),
]
Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-sandbox",
        help="Where this machine has no walls for it, run a model's code all the same; such runs are never best valid.",
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of the campaign. Default: drawn.")]
RunnerNames = Annotated[
    str | None,
    typer.Option(
        "--runner",
        help="Where runs are, several by commas: local, or a table of runners.toml (docs/runners.md). Default: local.",
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Run in the background; `agent watch` shows it.")]


def start(
    track: Track = "tiny",
    budget: Budget = None,
    usd: Usd = None,
    llm_usd: LlmUsd = None,
    llm_tokens: LlmTokens = None,
    llm_calls: LlmCalls = None,
    planner: PlannerName = None,
    base_url: BaseUrl = None,
    review: ReviewPolicy = None,
    runner: RunnerNames = None,
    slots: Slots = None,
    campaign: Name = None,
    target: Target = None,
    base: Base = None,
    seed: Seed = None,
    unsafe: Unsafe = False,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Start research, or resume what is unfinished on this track.

    Ctrl-C once finishes what runs and stops; twice, or closing the terminal, cancels it, settles and exits.
    Either way `agent resume` goes on. With --json nothing is shown while it runs, and at the end what
    `agent status --json` prints.
    """
    from agent import campaign as campaigns
    from agent.options import Options

    options = Options(
        track=track,
        budget_hours=budget,
        usd=usd,
        llm_usd=llm_usd,
        llm_tokens=llm_tokens,
        llm_calls=llm_calls,
        planner=planner,
        base_url=base_url,
        review=review,
        slots=slots,
        name=campaign,
        target_bpb=target,
        base=base,
        seed=seed,
        unsafe=unsafe,
        runner=runner,
    )
    _work(campaigns.start(options, Path.cwd(), partial(say, err=as_json)), detach, as_json)


def resume(
    campaign: Annotated[
        str | None, typer.Argument(help="Which campaign. Default: the latest that is unfinished.")
    ] = None,
    detach: Detach = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="While another controller leads it, stand by, and take over when that one is gone."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a stopped or killed campaign: running experiments are adopted, nothing is paid twice."""
    from agent import campaign as campaigns

    tell = partial(say, err=as_json)
    if wait and detach:
        raise UserError("--wait and --detach: a controller that stands by stays in its terminal; say one of them")
    if wait:
        from agent.standby import stand_by

        def lead(name: str) -> None:
            _work(campaigns.resume(name, Path.cwd(), tell), False, as_json)

        stand_by(campaign, named.workspace(), lead, partial(_ended_elsewhere, as_json=as_json), tell)
        return
    _work(campaigns.resume(campaign, Path.cwd(), tell), detach, as_json)


def stop(
    campaign: Annotated[str | None, typer.Option(help="Which campaign. Default: the one that runs.")] = None,
    now: Annotated[bool, typer.Option("--now", help="Cancel what runs instead of letting it finish.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a campaign that runs in another terminal or in the background.

    What runs is finished first, or cancelled with --now; either way it is settled, and `agent resume` goes on.
    """
    from agent.store.lease import holder

    with opened(campaign, at_work=True) as found:
        name = found.campaign.name
        with found.store.write() as tx:
            who = holder(tx.connection, f"campaign {name}")
            if who is None:
                why = f": it is {found.campaign.state}" if found.campaign.state != "running" else ""
                raise UserError(f"nobody runs {name}{why}; `agent resume` goes on with a campaign that was cut off")
            tx.ask(found.campaign.id, asked := "cancel" if now else "drain")
    what = "cancels what runs and ends" if now else "finishes what runs and ends (--now cancels it)"
    row = {"campaign": name, "controller": who, "asked": asked}
    emit(row, as_json, lambda: f"{name} ({who}) {what}. `agent resume` goes on with it.")


def _work(setting: "Setting", detach: bool, as_json: bool) -> None:
    if detach:
        from agent.detach import detach as in_background

        begun = in_background(setting)
        emit(begun, as_json, begun.words)
    elif as_json:
        _silently(setting)
    else:
        _shown(setting)


def _ended_elsewhere(name: str, words: str, *, as_json: bool) -> None:
    """A campaign that another controller led to its end."""
    from agent.report.status import status

    with opened(name) as found, found.store.read() as reads:
        emit(status(reads, found.campaign.id), as_json, lambda: f"{name} has ended: {words}")


def _silently(setting: "Setting") -> None:
    from agent.loop import Loop
    from agent.report.points import picture
    from agent.report.status import status
    from agent.report.summary import plots

    ending = Loop(setting).run()
    with setting.store.read() as reads:
        now = status(reads, setting.campaign.id)
        drawn = picture(reads, setting.campaign.id)
    setting.store.close()
    try:
        plots(drawn, setting.folder)
    except UserError as error:  # no reason to hide how it ended
        say(str(error), err=True)
    heard.show(lambda: emit(now, True, str))
    _exit(ending)


def _shown(setting: "Setting") -> None:
    from agent.loop import Loop
    from agent.report.live import LiveView
    from agent.report.summary import summary

    with LiveView(setting.store, setting.campaign.id, setting.jobs, leads=True) as view:
        ending = Loop(setting, view.refresh).run()
    say(f"{setting.campaign.name} {ending.state}: {ending.reason}.")
    say(summary(setting.store, setting.campaign.id, setting.folder, width=width()))
    setting.store.close()
    _exit(ending)


def _exit(ending: "Ending") -> None:
    """A machine that is left takes nothing from how the campaign ended, and a script hears of it too."""
    if ending.left:
        say(ending.left, err=True)
    if ending.failed:
        raise typer.Exit(1)
    if ending.left:
        raise typer.Exit(LeftError.exit_code)


def register(app: typer.Typer) -> None:
    for command in (start, resume, stop):
        app.command()(command)
