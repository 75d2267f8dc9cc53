"""The specification of every objective: all that configs, plans and checks need. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from aimv2.base.errors import UsageError, short
from aimv2.base.plugins import Registry
from aimv2.config.prefix import PrefixDistribution
from aimv2.cost import Part, dual_encoder_cost, encoder_decoder_cost

if TYPE_CHECKING:
    from aimv2.config.run_config import RunConfig  # which imports this module to check objective.name


Report = Literal["captions", "pixels", "retrieval"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """An objective: the network that it trains, its requirements and its reports.

    Attributes:
        implementation: its network and losses (``aimv2.objectives.base.Implementation``): one of ours by its name in
            ``aimv2.objectives.build``, or a plug-in's as ``module:class`` or a function that returns the class, so that
            nothing else imports torch.
        attention: the encoder's attention in training, unless the config sets it.
        reports: what the network can be evaluated on besides the encoder's features. The first is the held-out curve;
            without any there is none.
        reads: the fields of ``ObjectiveConfig`` that it reads.
        cost: maps a config to the cost of a forward pass, part by part. With ``area``, that of an image of so many
            patches.
        requirements: checks of a config, each of which raises UsageError.
        reads_captions: True if it trains on captions; ``data.captions`` has no effect on the others.
        is_native: True if it can be trained at native resolution: its masks hide what comes later in a sequence, and so
            the padding.
    """

    implementation: str | Callable[[], type[Any]]
    attention: Literal["prefix", "bidirectional"]
    reports: tuple[Report, ...]
    reads: tuple[str, ...]
    cost: Callable[..., list[Part]]
    requirements: tuple[Callable[[RunConfig], None], ...] = ()
    reads_captions: bool = True
    is_native: bool = False

    def check(self, config: RunConfig) -> None:
        """Refuse values that this objective does not allow, and values that it ignores: each run has one name."""
        default = type(config.objective)()
        for field in fields(default):
            is_read = field.name in ("name", *self.reads)
            if not is_read and getattr(config.objective, field.name) != getattr(default, field.name):
                readers = [name for name, other in OBJECTIVES.items() if field.name in other.reads]
                raise UsageError(
                    f"objective.name={config.objective.name} has no {field.name};"
                    f" objective.{field.name} belongs to objective.name={' or '.join(readers)}"
                )
        attention = config.model.encoder.attention
        if attention != "prefix" and "pixels" not in self.reports and config.prefix != PrefixDistribution():
            raise UsageError(
                f"prefix.law={config.prefix.law!r} has no effect with attention={attention!r} in the encoder and no"
                " pixel loss, where nothing reads prefix lengths; remove the prefix overrides"
            )
        config.prefix.check(config.model.num_patches)
        if not self.reads_captions:
            _only(config, "data.captions", "own", ", which reads no captions")
        for requirement in (*self.requirements, self._native):
            requirement(config)

    def _native(self, config: RunConfig) -> None:
        if not config.native.areas:
            return
        why = " at native resolution (native.areas)"
        _only(config, "model.encoder.positions", "sincos", why)
        _only(config, "model.patch_order", "raster", why)
        _only(config, "model.decoder.order", "image_first", why)
        _only(config, "model.decoder.image_positions", False, why)
        _only(config, "augment.hidden_fraction", 0, why)
        _only(config, "data.pixels", "own", why)
        name, attention = config.objective.name, config.model.encoder.attention
        if not self.is_native or attention == "bidirectional":
            names = " or ".join(name for name, other in OBJECTIVES.items() if other.is_native)
            raise UsageError(
                f"native.areas with objective.name={name!r} and attention={attention!r} in the encoder: patches would"
                f" see the padding of smaller images; use objective.name={names} with attention=prefix or causal"
            )


def _only(config: RunConfig, key: str, allowed: object, why: str = "") -> None:
    if (value := attrgetter(key)(config)) != allowed:
        name = config.objective.name
        raise UsageError(f"{key}={value!r} with objective.name={name!r}{why}: only {allowed!r} is possible")


def _joint_and_image_first(config: RunConfig) -> None:
    _only(config, "model.decoder.sharing", "joint")
    _only(config, "model.decoder.order", "image_first")


def _no_separate_text_first(config: RunConfig) -> None:
    decoder = config.model.decoder
    if decoder.sharing == "separate" and decoder.order == "text_first":
        raise UsageError(
            "model.decoder.sharing='separate' with order='text_first': neither decoder would read what comes first;"
            " choose 'joint' or 'image_first'"
        )


def _patches_to_predict(config: RunConfig) -> None:
    _only(config, "prefix.full_attention", 0, ", where full attention leaves no patch to predict")


RIVALS = ("clip", "siglip", "cappa")  # the paper's, with which AIMv2 as a whole is compared

BUILT_IN: dict[str, Objective] = {
    "aimv2": Objective(
        implementation="aimv2",
        attention="prefix",
        reports=("captions", "pixels"),
        reads=("pixel_weight", "pixel_values", "pixel_patches", "pixel_targets", "text_tokens", "supervise_eos"),
        cost=partial(encoder_decoder_cost, predicts=("pixels", "tokens")),
        requirements=(_no_separate_text_first,),
        is_native=True,
    ),
    "caption": Objective(
        implementation="caption",
        attention="prefix",
        reports=("captions",),
        reads=("text_tokens", "supervise_eos"),
        cost=partial(encoder_decoder_cost, predicts=("tokens",)),
        requirements=(_joint_and_image_first,),
        is_native=True,
    ),
    "image_only": Objective(
        implementation="image_only",
        attention="prefix",
        reports=("pixels",),
        reads=("pixel_values", "pixel_patches", "pixel_targets"),
        cost=partial(encoder_decoder_cost, predicts=("pixels",)),
        requirements=(_joint_and_image_first, _patches_to_predict),
        reads_captions=False,
        is_native=True,
    ),
    "cappa": Objective(
        implementation="cappa",
        attention="bidirectional",
        reports=("captions",),
        reads=("text_tokens", "supervise_eos", "parallel_fraction"),
        cost=partial(encoder_decoder_cost, predicts=("tokens",), is_parallel=True),
        requirements=(_joint_and_image_first,),
    ),
    "clip": Objective(
        implementation="clip",
        attention="bidirectional",
        reports=("retrieval",),
        reads=("temperature",),
        cost=partial(dual_encoder_cost, has_bias=False),
    ),
    "siglip": Objective(
        implementation="siglip",
        attention="bidirectional",
        reports=("retrieval",),
        reads=("temperature", "bias"),
        cost=partial(dual_encoder_cost, has_bias=True),
    ),
}


def _check(name: str, item: Objective) -> None:
    if not isinstance(item, Objective):
        raise UsageError(f"{short(item)} is not an Objective")


OBJECTIVES: Registry[Objective] = Registry("objective.name", BUILT_IN, _check)


def add_objective(name: str, item: Objective) -> Objective:
    """Add an objective of a plug-in, and return it."""
    return OBJECTIVES.add(name, item)


def objective(name: str) -> Objective:
    """Return the objective of this name; an unknown name is a UsageError."""
    return OBJECTIVES.get_known(name)
