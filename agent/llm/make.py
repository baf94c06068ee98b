"""A model from its name: `anthropic[:MODEL]`, `openai[:MODEL]`, `openai-compatible:MODEL@URL`, `command:...`.

Takes the name, the workspace and the environment, which holds keys and addresses; gives a `Model`. Nothing is asked
yet, and what is missing is a `UserError` that says what to do.
"""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from agent.errors import MissingError, UserError, did_you_mean, to_install
from agent.llm import Model
from agent.llm.config import PROVIDERS, Config, Described, Provider, load, unknown
from agent.llm.wire import Server

KINDS = ("anthropic", "openai", "openai-compatible", "command")


class _Names(NamedTuple):
    """How a provider's settings are called."""

    key: str
    url: str
    address: str
    """Where it is, unless the environment says otherwise."""


NAMES: dict[Provider, _Names] = {
    "anthropic": _Names("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "openai": _Names("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "openai-compatible": _Names("CADDIE_API_KEY", "the address after the @", ""),
}


def make_model(spec: str, workspace: Path, environ: Mapping[str, str]) -> Model:
    """The model that a person named."""
    kind, _, argument = spec.partition(":")
    config = load(workspace, environ)
    if kind == "command":
        from agent.llm.command import make

        return make(argument, workspace=workspace, environ=environ, timeout_s=config.limits.answer_s)
    if kind == "anthropic":
        return _anthropic(spec, argument, config, workspace, environ)
    if kind == "openai":
        return _openai(spec, argument, config, workspace, environ)
    if kind == "openai-compatible":
        return _compatible(spec, argument, config, environ)
    raise UserError(f"no model {spec!r}.{did_you_mean(kind, KINDS)} There are {', '.join(KINDS)}.")


def window(spec: str, config: Config) -> int | None:
    """Tokens that a model takes, question and answer together; None of a program, whose model nobody named."""
    kind, _, argument = spec.partition(":")
    provider = next((one for one in PROVIDERS if one == kind), None)
    if provider is None:
        return None
    id_ = argument.rpartition("@")[0] if provider == "openai-compatible" else argument or config.default[provider]
    return (config.model(provider, id_) or Described(provider, id_)).context


def _anthropic(spec: str, id_: str, config: Config, workspace: Path, environ: Mapping[str, str]) -> Model:
    from agent.llm.anthropic import Anthropic

    told = _known("anthropic", id_, config, workspace, environ)
    server = _server("anthropic", told, spec, config, environ)
    return Anthropic(server, told.price, told.max_output, told.thinking, told.adaptive, told.cached_from)


def _openai(spec: str, id_: str, config: Config, workspace: Path, environ: Mapping[str, str]) -> Model:
    from agent.llm.openai import OpenAI

    told = _known("openai", id_, config, workspace, environ)
    server = _server("openai", told, spec, config, environ)
    return OpenAI(server, told.price, told.max_output, told.thinking)


def _compatible(spec: str, argument: str, config: Config, environ: Mapping[str, str]) -> Model:
    from agent.llm.compatible import Compatible

    named = re.fullmatch(r"(.+?)@([a-z]+://.+)", argument)
    if named is None:
        raise UserError(
            f"{spec}: say which model and where, as openai-compatible:MODEL@URL, "
            "such as openai-compatible:qwen3@http://127.0.0.1:8080/v1"
        )
    id_, url = named.groups()
    told = config.model("openai-compatible", id_) or Described("openai-compatible", id_)
    server = _server("openai-compatible", told, spec, config, environ, url)
    return Compatible(server, told.price, told.max_output, told.tools, told.json_schema)


def _known(provider: Provider, id_: str, config: Config, workspace: Path, environ: Mapping[str, str]) -> Described:
    wanted = id_ or config.default[provider]
    told = config.model(provider, wanted)
    if told is None or told.price is None:
        raise unknown(config, provider, wanted, workspace, environ)
    return told


def _server(
    provider: Provider, told: Described, spec: str, config: Config, environ: Mapping[str, str], url: str = ""
) -> Server:
    names = NAMES[provider]
    key = environ.get(names.key, "").strip()
    if not key and provider != "openai-compatible":
        raise UserError(f"--planner {spec} needs a key: put yours into the environment variable {names.key}")
    library = "anthropic" if provider == "anthropic" else "openai"
    if find_spec(library) is None:
        raise MissingError(f"--planner {spec} needs the library {library}: {to_install(library)}")
    address = _address(url or environ.get(names.url, "").strip() or names.address, names.url)
    return Server(provider, told.id, address, key, names.key, names.url, answer_s=config.limits.answer_s)


def _address(url: str, name: str) -> str:
    """A base URL that can be shown: what is secret has a place of its own."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        right, parts = False, urlsplit("")
    if right and (parts.username or parts.password or parts.query):
        raise UserError(f"{name} holds more than an address: put the key into its own environment variable")
    if not right or not url.isprintable() or " " in url:
        raise UserError(f"{name}: must be an address such as http://127.0.0.1:8080/v1")
    return url
