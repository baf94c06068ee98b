"""The templates of prompts: which file counts, and what a template may use.

Takes a template's name and its values; gives text. A workspace's own `prompts/NAME` comes before the one that ships
with Caddie. A value that a template names and nobody gave is an error that says where. A workspace may be a stranger's,
so templates can't reach beyond the values they are given.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agent.context.fence import fence, visible
from agent.errors import UserError
from agent.words import line

FOLDER = "prompts"


def shipped() -> Path:
    """The templates that come with Caddie: beside the package, in a checkout and where it is installed."""
    return Path(str(resources.files("agent"))).parent / FOLDER


class Templates:
    """The templates as one workspace has them."""

    def __init__(self, workspace: Path | None = None) -> None:
        self._environment = _environment(None if workspace is None else workspace / FOLDER)

    def render(self, name: str, values: Mapping[str, object]) -> str:
        """One template with its values. Raises UserError."""
        try:
            return self._environment.get_template(name).render(values).strip() + "\n"
        except TemplateSyntaxError as error:
            raise UserError(f"{FOLDER}/{error.name}, line {error.lineno}: {error.message}") from error
        except TemplateError as error:
            raise UserError(f"{FOLDER}/{name}: {error.message}") from error


class _Own(FileSystemLoader):
    """A workspace's templates. A link in their place could name any file of the person's, so it is not followed."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        folder = Path(self.searchpath[0]).resolve()
        if (folder / template).resolve() != folder / template:
            raise TemplateNotFound(template)
        return super().get_source(environment, template)


@lru_cache(maxsize=8)
def _environment(own: Path | None) -> ImmutableSandboxedEnvironment:
    ours: BaseLoader = FileSystemLoader(shipped())
    environment = ImmutableSandboxedEnvironment(
        loader=ours if own is None else ChoiceLoader([_Own(own), ours]),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "fence": lambda text, label: fence(label, text),
        "line": lambda text, most: line(visible(text), most),
        "bpb": bpb,
        "gain": gain,
        "size": size,
    }
    environment.filters.update(filters)
    return environment


def bpb(value: float | None) -> str:
    """Five decimals: what tells two scripts apart may be in the fourth."""
    return "unknown" if value is None else f"{value:.5f}"


def gain(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.5f}"


def size(value: int | None) -> str:
    return "bytes unknown" if value is None else f"{value:,} bytes"
