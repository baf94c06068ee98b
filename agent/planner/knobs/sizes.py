"""How many bytes a configuration will take: a formula for small GPTs, put right by what was measured.

Takes configurations with their measured sizes; gives a prediction with its spread. Where the formula knows
none of the track's knobs, all is learnt from the measurements.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from agent.planner.knobs.space import Config, Space, of
from agent.planner.knobs.surrogate import Additive, Point, Prior
from agent.script.literals import KnobValue
from agent.tables import Knob

# Bytes per weight after compression, measured on 152,000 weights of the tiny track.
PER_WEIGHT: dict[str, dict[int, float]] = {
    "zlib": {8: 0.969, 6: 0.732, 5: 0.638, 4: 0.517},
    "zstd": {8: 0.956, 6: 0.705, 5: 0.585, 4: 0.480},
    "lzma": {8: 0.955, 6: 0.695, 5: 0.571, 4: 0.466},
    "brotli": {8: 0.945, 6: 0.683, 5: 0.555, 4: 0.429},
}
CODE_BYTES = 12_000
TOKENIZER_BYTES_PER_PIECE = 6
SHAPE = ("vocab_size", "model_dim", "num_layers")
SAVINGS = ("weight_bits", "embed_bits", "compressor")
COUNTED = frozenset({*SHAPE, *SAVINGS, "num_kv_heads", "num_heads", "mlp_mult"})
# Spread of what the formula gets wrong per step of a knob, in logarithms.
KNOWN_TAU, UNKNOWN_TAU, OTHER_TAU = 0.012, 0.25, 0.003
RUN_SD = 0.003
MOST = 2**62  # bytes; numbers of any size can be written into a script
FORMULA_SD = 0.05  # before anything was measured


class Size(NamedTuple):
    bytes: int
    log_sd: float

    def surely_below(self, limit: int, z: float = 1.28) -> bool:
        return math.log(self.bytes) + z * self.log_sd <= math.log(limit)


class Sizes:
    """Predicts sizes; rebuilt from the trials at each question."""

    def __init__(
        self,
        space: Space,
        settings: Mapping[str, KnobValue],
        reference: tuple[int, ...],
        measured: Sequence[tuple[Config, int]],
    ) -> None:
        self._space, self._settings = space, settings
        self._formula = _understood((axis.key for axis in space.axes), settings)
        self.known = self._formula or bool(measured)
        points = []
        for config, total in measured:
            at = space.point(config)
            if at is not None and total > 0:
                points.append(Point(at, math.log(total) - self._log_formula(config), RUN_SD))
        priors = [Prior(self._tau(axis.group, axis.key), {}) for axis in space.axes]
        trust = FORMULA_SD if self._formula and not points else 1.0
        self._model = Additive(space, reference, priors, points, trust)

    def predict(self, config: Config) -> Size:
        at = self._space.point(config)
        if at is None or not self.known:
            return Size(1, 10.0)
        rest = self._model.value(at)
        # Without a formula nothing is sure, and the only way to learn is to try.
        log = min(self._log_formula(config) + rest.mean, math.log(MOST))
        return Size(round(math.exp(log)), rest.sd if self._formula else 0.0)

    def _tau(self, group: str, key: str) -> float:
        if not self._formula:
            return UNKNOWN_TAU if group in ("bytes", "shape", "tokenizer") else OTHER_TAU
        return KNOWN_TAU if key in COUNTED else OTHER_TAU

    def _log_formula(self, config: Config) -> float:
        if not self._formula:
            return 0.0
        values = {**self._settings, **{a.key: config[a.name] for a in self._space.axes if a.name in config}}
        embedding, matrices = weights(values)
        compressor = str(values.get("compressor", "zlib"))
        total = embedding * _per_weight(values, "embed_bits", compressor)
        total += matrices * _per_weight(values, "weight_bits", compressor)
        total += CODE_BYTES + TOKENIZER_BYTES_PER_PIECE * _number(values, "vocab_size", 0)
        return math.log(min(max(1.0, total), MOST))


def understood(knobs: Iterable[Knob], settings: Mapping[str, KnobValue]) -> bool:
    """Whether the formula knows what these knobs do to the size of a script with these settings."""
    return _understood((knob.key for knob in knobs), settings)


def _understood(keys: Iterable[str], settings: Mapping[str, KnobValue]) -> bool:
    return any(key in COUNTED for key in keys) and all(key in settings for key in SHAPE)


def estimate(
    knobs: Iterable[Knob], settings: Mapping[str, KnobValue], config: Config, measured: Sequence[tuple[Config, int]]
) -> int | None:
    """The bytes of a script with these settings, by measured ones; None: none of them can be compared with it."""
    space = of(knobs, [config, *(other for other, _ in measured)])
    points = (space.point(other) for other, _ in measured)
    reference = next((at for at in points if at is not None), None)
    return Sizes(space, settings, reference, measured).predict(config).bytes if reference is not None else None


def weights(values: Mapping[str, KnobValue]) -> tuple[float, float]:
    """Weights of the embedding and of all matrices of a GPT with these settings."""
    width, heads = _number(values, "model_dim", 64), _number(values, "num_heads", 4)
    kv_heads, layers = _number(values, "num_kv_heads", heads), _number(values, "num_layers", 1)
    embedding = _number(values, "vocab_size", 1024) * width
    attention = width * width * (2 + 2 * kv_heads / max(heads, 1))
    perceptron = 2 * width * width * _number(values, "mlp_mult", 2)
    return embedding, layers * (attention + perceptron)


def _per_weight(values: Mapping[str, KnobValue], key: str, compressor: str) -> float:
    ratios = PER_WEIGHT.get(compressor, PER_WEIGHT["zlib"])
    bits = _number(values, key, 8)
    return ratios.get(int(bits), bits / 8)


def _number(values: Mapping[str, KnobValue], key: str, default: float) -> float:
    value = values.get(key, default)
    return float(value) if isinstance(value, int | float) else default
