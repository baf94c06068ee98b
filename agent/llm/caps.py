"""What language models may cost a campaign, where a person left it open: never without any bound.

Takes the person's caps and the models; gives the caps that hold, and says which were added.
"""

from collections.abc import Sequence
from dataclasses import replace

from agent.llm import Model
from agent.llm.config import Allowed, Config
from agent.records import Caps


def bounded(caps: Caps, models: Sequence[Model], limits: Allowed) -> tuple[Caps, tuple[str, ...]]:
    """Dollars bound what has a price; what has none, and takes no cap of its own, is bounded by tokens and calls."""
    said = []
    unpriced = [model.name for model in models if model.price is None and not model.takes_cap]
    if len(unpriced) < len(models) and caps.llm_usd is None:
        caps = replace(caps, llm_usd=limits.usd)
        said.append(f"Language models may cost {limits.usd:.2f} $; --llm-usd says otherwise.")
    if unpriced and caps.llm_tokens is None and caps.llm_calls is None:
        caps = replace(caps, llm_tokens=limits.tokens, llm_calls=limits.calls)
        said.append(
            f"No price is known of {', '.join(unpriced)}: bounded by {limits.tokens:,} tokens and {limits.calls:,} "
            "calls; --llm-tokens and --llm-calls say otherwise."
        )
    return caps, tuple(said)


def priced_here(models: Sequence[Model], told: Config, file: str) -> tuple[str, ...]:
    """Which prices a workspace's own file says: it may have come with somebody's repository, and dollars rest on it."""
    asked = {model.name.partition("@")[0] for model in models}
    return tuple(
        f"{file} says that {one.name} costs {one.price.input:g} $ to read a million tokens and {one.price.output:g} $ "
        "to write them; the bound in dollars rests on that."
        for one in told.models
        if one.price is not None and one.price_from == file and one.name in asked
    )
