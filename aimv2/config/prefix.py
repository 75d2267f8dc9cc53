"""The prefix-length distribution: how many of an image's first patches attend to each other bidirectionally.

Letters: I patches per image, M prefix length in patches, M in 1..I. M = I is full attention, which leaves no patch to
predict.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from aimv2.base import address
from aimv2.base.errors import RunFailedError, UsageError, unknown
from aimv2.base.plugins import Registry
from aimv2.config.data_config import CHECKED

Parameter = float | str
Function = TypeVar("Function", bound=Callable[..., Any])
TOLERANCE = 1e-6  # of the sum of a plug-in's probabilities
NUM_AVERAGED = 64  # points of a curriculum that its average over training is taken of
CHECKED_AT = (0.0, 0.5, 1.0)  # progress at which a curriculum is checked before it is planned


class Frozen(dict[str, Any]):
    """A mapping that is not changed after it is made, so that a config with it can be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


@plain_dataclass(frozen=True)
class Law:
    """A family of prefix-length distributions.

    Attributes:
        pmf: returns the probabilities of M = 1..I-1, float64 [I-1], given I, the progress of the training if it is a
            curriculum, and its parameters by their names.
        names: of its parameters.
        defaults: of those parameters that have one.
        is_curriculum: True if it depends on the share of the training that is done, in [0, 1].
    """

    pmf: Callable[..., np.ndarray]
    names: tuple[str, ...] = ()
    defaults: Mapping[str, Parameter] = field(default_factory=dict)
    is_curriculum: bool = False

    @classmethod
    def of(cls, function: Callable[..., np.ndarray]) -> "Law":
        """Return the distributions of a plug-in's function, as ``prefix_distribution`` describes it."""
        arguments = list(inspect.signature(function).parameters.values())
        kinds = {argument.kind for argument in arguments}
        allowed = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
        if not arguments or arguments[0].name != "num_patches" or not kinds <= allowed:
            raise UsageError(
                f"the arguments of {function.__name__} are num_patches, then progress if it is a curriculum, then"
                " parameters"
            )
        defaults = {argument.name: argument.default for argument in arguments[1:]}
        names = tuple(name for name in defaults if name != "progress")
        given = {name: defaults[name] for name in names if defaults[name] is not inspect.Parameter.empty}
        converted = {name: value if isinstance(value, str) else float(value) for name, value in given.items()}
        return cls(function, names, converted, is_curriculum="progress" in defaults)


def _uniform(num_patches: int) -> np.ndarray:
    return np.full(num_patches - 1, 1 / (num_patches - 1))


def _uniform_figure1(num_patches: int) -> np.ndarray:
    pmf = np.full(num_patches - 1, 1 / num_patches)
    pmf[0] = 2 / num_patches
    return pmf


def _fixed(num_patches: int, fraction: float) -> np.ndarray:
    return _between(num_patches, prefix_len_at(fraction, num_patches), prefix_len_at(fraction, num_patches))


def _beta(num_patches: int, alpha: float, beta: float) -> np.ndarray:
    from scipy.special import betainc  # here, so that studies load fast

    pmf: np.ndarray = np.diff(betainc(alpha, beta, np.linspace(0, 1, num_patches)))
    return pmf


def _truncated(num_patches: int, low: float, high: float) -> np.ndarray:
    return _between(num_patches, prefix_len_at(low, num_patches), prefix_len_at(high, num_patches))


def _causal(num_patches: int) -> np.ndarray:
    return _between(num_patches, 1, 1)


def _between(num_patches: int, first: int, last: int) -> np.ndarray:
    pmf = np.zeros(num_patches - 1)
    pmf[first - 1 : last] = 1 / (last - first + 1)
    return pmf


LAWS: Registry[Law] = Registry(
    "prefix.law",
    {
        "uniform": Law(_uniform),
        "uniform_figure1": Law(_uniform_figure1),
        "fixed": Law(_fixed, ("fraction",)),
        "beta": Law(_beta, ("alpha", "beta")),
        "truncated": Law(_truncated, ("low", "high")),
        "causal": Law(_causal),
    },
)
OWN_FIELDS = {name: law for law in ("fixed", "beta", "truncated") for name in LAWS[law].names}


def prefix_distribution(function: Function) -> Function:
    """Add the function below as a prefix-length distribution; ``prefix.law`` is its name.

    The function gets ``num_patches``, I, and returns the probabilities of the prefix lengths 1..I-1, float [I-1], which
    sum to 1. If it has an argument ``progress``, it is a curriculum: ``progress`` is the share of the training steps
    that are done, from 0 to 1. Any other argument is a parameter, ``prefix.parameters.NAME``, a number or text; those
    without a default must be given.
    """
    LAWS.add(function.__name__, Law.of(function))
    return function


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PrefixDistribution:
    """The prefix-length distribution, that of M.

    Attributes:
        law: ``uniform`` on {1..I-1} (the paper's); ``uniform_figure1`` on {0..I-1}, as in the pseudo-code of Figure 1,
            where 0 is equivalent to 1, because the first patch sees only itself and is never predicted; ``fixed``,
            M = fraction x I; ``beta``, a Beta distribution cut into I-1 equal bins, skewed to short prefixes if
            alpha < beta and to long ones if alpha > beta; ``truncated``, uniform from low x I to high x I; ``causal``,
            M = 1, a plain causal mask; or that of a plug-in (``prefix_distribution``).
        fraction: share of the image's patches, in (0, 1); for ``fixed`` only.
        alpha, beta: above 0; for ``beta`` only.
        low, high: shares of the image's patches, 0 <= low <= high <= 1; for ``truncated`` only.
        parameters: those of a plug-in's distribution, by their names; ``aimv2.request.resolve`` fills defaults in.
        full_attention: probability of M = I instead, an image with full attention and no pixel loss.
        per: ``image``, M is drawn for each image (the paper's); ``batch``, once for all images of a step.

    Source: AIMv2 section 2.2 and ml-l3m ``prefix_range: [1, 255]``, which the default follows; Figure 1 differs. The
    paper does not ablate any of this.
    """

    law: str = "uniform"
    fraction: float | None = Field(default=None, gt=0, lt=1)
    alpha: float | None = Field(default=None, gt=0)
    beta: float | None = Field(default=None, gt=0)
    low: float | None = Field(default=None, ge=0, le=1)
    high: float | None = Field(default=None, ge=0, le=1)
    parameters: Annotated[Mapping[str, Parameter], AfterValidator(Frozen)] = Frozen()
    full_attention: float = Field(default=0.0, ge=0, lt=1)
    per: Literal["image", "batch"] = "image"

    def __post_init__(self) -> None:
        """Check the values that all distributions share, and those of ours.

        A plug-in's are checked before a run is planned (``check``), so that records can be read without it.
        """
        needed = LAWS[self.law].names if self.is_ours else ()
        if missing := [f"prefix.{name}" for name in needed if getattr(self, name) is None]:
            raise ValueError(f"prefix.law={self.law} needs {' and '.join(missing)}")
        for name, law in OWN_FIELDS.items():
            if name not in needed and getattr(self, name) is not None:
                raise ValueError(f"prefix.law={self.law} has no {name}; prefix.{name} belongs to prefix.law={law}")
        if self.is_ours and self.parameters:
            raise ValueError(f"prefix.law={self.law} has no prefix.parameters.{next(iter(self.parameters))}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low={self.low} must not exceed high={self.high}")

    @property
    def is_ours(self) -> bool:
        """True if the distribution is built in."""
        return self.law in LAWS.built_in

    @property
    def is_curriculum(self) -> bool:
        """True if the distribution changes while a run trains; an unknown one is a UsageError."""
        return LAWS.get_known(self.law).is_curriculum

    def all_parameters(self) -> dict[str, Parameter]:
        """Return the parameters of a plug-in's distribution, defaults included; wrong ones are a UsageError."""
        law = LAWS.get_known(self.law)
        if self.is_ours:
            return {}
        for name, value in self.parameters.items():
            if name not in law.names:
                raise unknown(f"parameter of prefix.law={self.law}", name, law.names)
            default = law.defaults.get(name, value)
            if isinstance(value, str) != isinstance(default, str):
                kind = "text" if isinstance(default, str) else "a number"
                raise UsageError(f"prefix.parameters.{name}={value!r} is not {kind}")
        values = {**law.defaults, **self.parameters}
        if missing := [f"prefix.parameters.{name}" for name in law.names if name not in values]:
            raise UsageError(f"prefix.law={self.law} needs {' and '.join(missing)}")
        return {name: values[name] for name in law.names}

    def check(self, num_patches: int) -> None:
        """Refuse an unknown distribution, or one whose probabilities are none at the start, middle or end."""
        if self.is_ours:
            return
        for progress in CHECKED_AT if self.is_curriculum else CHECKED_AT[:1]:
            self.pmf(num_patches, progress)

    def pmf(self, num_patches: int, progress: float | None = None) -> np.ndarray:
        """Return the probability of each prefix length 1..I: float64 [I], entry m-1 for M = m.

        For a curriculum ``progress`` is the share of the training that is done; None is the average over the training.
        """
        if num_patches < 2:
            raise ValueError(f"num_patches={num_patches} must be at least 2 to leave a patch to predict")
        law, pmf = LAWS.get_known(self.law), np.zeros(num_patches)
        if self.is_ours:
            pmf[:-1] = law.pmf(num_patches, **{name: getattr(self, name) for name in law.names})
        else:
            values = self.all_parameters()
            if not law.is_curriculum:
                pmf[:-1] = self._checked(law, num_patches, values)
            elif progress is not None:
                pmf[:-1] = self._checked(law, num_patches, values | {"progress": progress})
            else:
                points = (np.arange(NUM_AVERAGED) + 0.5) / NUM_AVERAGED
                parts = [self._checked(law, num_patches, values | {"progress": float(point)}) for point in points]
                pmf[:-1] = np.mean(parts, axis=0)
        if self.full_attention:
            pmf[:-1] *= 1 - self.full_attention
            pmf[-1] = self.full_attention
        return pmf

    def _checked(self, law: Law, num_patches: int, values: Mapping[str, Any]) -> np.ndarray:
        """Return the probabilities that a plug-in's function gives for M = 1..I-1."""
        given = ", ".join(f"{name}={value!r}" for name, value in {"num_patches": num_patches, **values}.items())
        try:
            found = np.asarray(law.pmf(num_patches, **values), dtype=np.float64)
        except Exception as error:  # of another author's code
            raise UsageError(f"prefix.law={self.law} fails at {given}: {type(error).__name__}: {error}") from error
        if found.shape != (num_patches - 1,):
            why = f"an array of shape {list(found.shape)} instead of [{num_patches - 1}], one for each prefix length"
        elif not np.isfinite(found).all():
            why = "probabilities that are not finite"
        elif (found < 0).any():
            why = f"the negative probability {found.min():.3g}"
        elif abs(found.sum() - 1) > TOLERANCE:
            why = f"probabilities that sum to {found.sum():.6g} instead of 1"
        else:
            return found
        raise UsageError(f"prefix.law={self.law} returns {why}, at {given}")

    def draw(
        self,
        *,
        seed: int,
        epoch_B: np.ndarray,
        sample_id_B: np.ndarray,
        step: int,
        num_steps: int,
        num_patches: int | np.ndarray,
    ) -> np.ndarray:
        """Draw the prefix lengths of a batch: int64 [B], each in 1..I.

        The cumulative distribution is inverted at one uniform number, from the address of each sample or of the step.
        Arms with different distributions share these numbers, so they stay paired. ``num_patches``, I, may be of
        each image: int64 [B].
        """
        if self.per == "batch":
            uniform = address.generator(seed=seed, purpose="prefix of a batch", sample_id=step).random()
            uniform_B = np.full(len(sample_id_B), uniform)
        else:
            uniform_B = address.uniforms(
                seed=seed, purpose="prefix", epoch_B=epoch_B, sample_id_B=sample_id_B, num_draws=1
            )[:, 0]
        progress = step / num_steps
        try:
            length_B = np.empty(len(uniform_B), dtype=np.int64)
            for own_patches in np.unique(num_patches).tolist():
                is_own_B = np.broadcast_to(num_patches == own_patches, len(uniform_B))
                length_B[is_own_B] = self._at(uniform_B[is_own_B], own_patches, progress)
            return length_B
        except UsageError as error:
            raise RunFailedError("bug", str(error)) from error

    def _at(self, uniform_B: np.ndarray, num_patches: int, progress: float) -> np.ndarray:
        """Invert the cumulative distribution."""
        pmf = self.pmf(num_patches, progress)
        longest = np.flatnonzero(pmf)[-1] + 1
        # The last cumulative sum may round to just below 1; the minimum keeps M possible there.
        length_B: np.ndarray = np.minimum(np.searchsorted(np.cumsum(pmf), uniform_B, side="right") + 1, longest)
        return length_B


def prefix_len_at(fraction: float, num_patches: int) -> int:
    """Return the prefix length closest to a share of the image, within 1..I-1."""
    return min(max(round(fraction * num_patches), 1), num_patches - 1)
