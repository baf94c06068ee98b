"""The fields of a proposal as somebody else writes them: a language model, a client of ours, a line of a file.

Takes their JSON; gives a `Draft`. What a model reads of them is their JSON schema, so descriptions are for it;
prompts/reply.md.j2 lists them for models without tools.
"""

from typing import TYPE_CHECKING, Annotated, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from agent.errors import did_you_mean
from agent.records import Amount, Draft, Kind

if TYPE_CHECKING:
    from agent.records import Mode


Line = Annotated[str, Field(max_length=500)]

FREE = Amount()
CLAIMED = "its author: "  # before each risk that it names itself: no other is taken for one that was found


def _no_base(kind: Kind) -> Kind:
    if kind == "base":
        raise ValueError("a campaign has one base, and it is there already")
    return kind


KINDS = [kind for kind in get_args(Kind) if kind != "base"]
Sort = Annotated[Kind, AfterValidator(_no_base), WithJsonSchema({"type": "string", "enum": KINDS})]


class Idea(BaseModel):
    """One atomic idea as a change of the script."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    title: str = Field(min_length=1, max_length=200, description="What is changed, in one line, as a commit says it.")
    hypothesis: str = Field(default="", max_length=20_000, description="Why it should help, and how one would see it.")
    edits: str = Field(min_length=1, max_length=400_000, description="Search/replace blocks, or a unified diff.")
    kind: Sort = Field(default="architecture", description="What sort of idea it is.")
    expected_gain: float = Field(default=0.0, ge=-10, le=10, description="BPB it should lower, if it works.")
    confidence: float = Field(default=0.5, ge=0, le=1, description="How likely it is to work.")
    expected_bytes: int | None = Field(default=None, gt=0, lt=1 << 62, description="Bytes of artifact and code.")
    expected_step: float | None = Field(
        default=None, gt=0, le=100, description="Time of one step as a multiple of the head's; 1.0: the same."
    )
    risk: list[Line] = Field(default=[], max_length=20, description="What may go wrong, what to look at.")
    evidence: list[Line] = Field(
        default=[], max_length=50, description="What it rests on: runs (r12), proposals (p7), skills (muon)."
    )
    rung: str = Field(default="", max_length=60, description="A cheaper rung to try it at first; empty: none.")

    def draft(
        self, *, planner: str, mode: "Mode", source_id: int, cost: Amount = FREE, conversation_id: int | None = None
    ) -> Draft:
        return Draft(
            title=self.title,
            hypothesis=self.hypothesis,
            edits=self.edits,
            planner=planner,
            mode=mode,
            kind=self.kind,
            source_id=source_id,
            expected_gain=self.expected_gain,
            confidence=self.confidence,
            expected_bytes=self.expected_bytes,
            risk=tuple(f"{CLAIMED}{text}" for text in self.risk),
            evidence=tuple(self.evidence),
            cost=cost,
            expected_step=self.expected_step,
            rung=self.rung,
            conversation_id=conversation_id,
        )


def explained(error: ValueError) -> str:
    """What is wrong with an idea's JSON, by field."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(_fault(item["loc"], item["type"], item["msg"]) for item in error.errors()[:5])


def _fault(loc: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ".".join(str(part) for part in loc) or "the proposal"
    if kind == "extra_forbidden":
        message = f"no such key.{did_you_mean(key, Idea.model_fields)}"
    elif kind == "missing":
        message = "is missing"
    return f"{key}: {message}"
