"""The command about language models: which are known, what they cost, and who said so."""

from typing import TYPE_CHECKING, Any

import typer

from agent import named
from agent.cli.printing import AsJson, emit

if TYPE_CHECKING:
    from agent.llm.config import Config


def models(as_json: AsJson = False) -> None:
    """Language models: prices, their date, and which file says so.

    Prices are dollars for a million tokens. ~/.config/caddie/models.toml and .caddie/models.toml of the
    workspace add models and override what is shipped.
    """
    import os
    from dataclasses import asdict

    from agent.llm.config import load, places

    root = named.here()
    config = load(root, os.environ)
    written = [str(place) for place in places(root, os.environ)]
    data = {**asdict(config), "places": written}
    emit(data, as_json, lambda: _words(config, written))


def _words(config: "Config", places: list[str]) -> str:
    from agent.words import plain, table

    header = (
        "model",
        "input",
        "output",
        "cache read",
        "cache write",
        "date",
        "context",
        "longest answer",
        "price from",
    )
    who = {"shipped": "shipped", places[0]: "your home", places[1]: "this workspace"}
    rows: list[tuple[Any, ...]] = []
    for one in config.models:
        chosen = " (default)" if config.default.get(one.provider) == one.id else ""
        price = one.price
        cells = (price.input, price.output, price.cache_read, price.cache_write, price.date) if price else (None,) * 5
        rows.append((f"{one.name}{chosen}", *cells, one.context, one.max_output, who.get(one.price_from, "nobody")))
    limits = config.limits
    return "\n".join(
        [
            table(header, rows),
            "",
            f"One conversation: at most {limits.turns} turns and {limits.repairs} repairs; one answer: at most "
            f"{limits.answer_s:g} s and {limits.output_share:.0%} of the model's longest.",
            f"Calls of one planner at once: {limits.parallel}.",
            plain(f"Yours go into {places[0]} (your home) or {places[1]} (this workspace)."),
        ]
    )


def register(app: typer.Typer) -> None:
    app.command()(models)
