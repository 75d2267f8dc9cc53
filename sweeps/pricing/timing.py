"""How long a run takes on this machine. Of an evaluation each kind of work is timed on a few images, and counted."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from aimv2.config.run_config import RunConfig
from aimv2.hardware import hardware
from sweeps.pricing.calibrate import (
    file_of,
    fits,
    images_per_second,
    measured_batch,
    once,
    random_batch,
    recorded,
    speed_file,
    threads,
)
from sweeps.pricing.price import RunSeconds

MAX_IMAGES = 256  # of a measurement
PROBE_STEPS = 3
REPEATS = 2  # of which the faster counts: the first warms up


def run_seconds(config: RunConfig, *, keep: bool) -> RunSeconds | None:
    """What a run takes one worker: training, the held-out curve on the way, and evaluation; an untrained one the last.

    Measured once per machine and shape; None if the model is too large to train here.

    Args:
        keep: write measurements to the cache folder, for the next time.
    """
    speed = images_per_second(config, keep=keep) if config.budget.samples else 1.0
    evaluation = None if speed is None else once(_file(config), lambda: _measured_evaluation(config), keep=keep)
    return None if speed is None or evaluation is None else _seconds(config, speed, evaluation)


def known_run_seconds(config: RunConfig) -> RunSeconds | None:
    """The same, if all of it was measured on this machine before."""
    speed = recorded(speed_file(config)) if config.budget.samples else {"images_per_second": 1.0}
    evaluation = recorded(_file(config))
    return None if speed is None or evaluation is None else _seconds(config, speed["images_per_second"], evaluation)


def _seconds(config: RunConfig, images_per_second: float, evaluation: Mapping[str, Any]) -> RunSeconds:
    at_end, samples = float(evaluation["seconds"]), config.budget.samples
    if not samples:
        return RunSeconds(0.0, at_end)
    on_the_way = config.evaluation.curve_points * min(config.evaluation.curve_pairs, evaluation["held_out_pairs"])
    curve = on_the_way * float(evaluation["curve_seconds_per_pair"])
    return RunSeconds(samples / images_per_second, curve + at_end)


def _file(config: RunConfig) -> Path:
    return file_of(config, _shape(config))


def _shape(config: RunConfig) -> list[Any]:
    """What the time depends on. The encoder's attention in training is not in it, nor the curve, which is priced by its
    points; so an untrained run shares the measurement of its trained ones."""
    model, evaluation = asdict(config.model), asdict(config.evaluation)
    del model["encoder"]["attention"], evaluation["curve_points"], evaluation["curve_pairs"]
    return [
        "evaluation",
        model,
        config.objective.name,
        evaluation,
        [config.data.sources, config.data.held_out_fraction, config.data.render_px, config.data.fingerprint],
        config.precision,
        hardware(config.device),
        config.threads,
    ]


def _measured_evaluation(config: RunConfig) -> dict[str, Any] | None:
    """``seconds`` of everything at the end of a run, ``curve_seconds_per_pair`` of a held-out pair in one point of the
    curve, ``held_out_pairs`` that there are, and what they were added up from."""
    from aimv2.data.pairs import labels_alone, split
    from aimv2.data.transfer import task_sizes

    part = measured_batch(config, MAX_IMAGES)
    if not fits(part):
        return None
    train, held_out = split(labels_alone(config.data), config.data.held_out_fraction)
    with threads(config.threads):
        by = _unit_seconds(part)
    num_pairs = min(config.evaluation.num_pairs, len(held_out))
    num_images, num_steps = 0, 0
    for task in task_sizes(train, held_out):
        num_images += task.train + task.validation + task.test
        num_steps += config.evaluation.probe.epochs * -(-task.train // config.evaluation.probe.batch_size)
    counted = {
        "report of a pair": num_pairs,
        "encoded image": num_images,
        "probe step": num_steps,
        "written caption": min(config.evaluation.num_examples, len(held_out)),
    }
    return {
        "seconds": sum(number * by[what] for what, number in counted.items()),
        "curve_seconds_per_pair": by["curve of a pair"],
        "held_out_pairs": len(held_out),
        "seconds_by_unit": by,
        "units": counted,
        "measured_images": part.budget.batch_size,
        "shape": _shape(config),
    }


def _unit_seconds(config: RunConfig) -> dict[str, float]:
    """Seconds of each kind of work, by one unit of it; the run's batch says on how many images it is measured."""
    import numpy as np
    import torch

    from aimv2.data.batches import centred_images
    from aimv2.data.transfer import Labelled
    from aimv2.evaluation.captions import greedy
    from aimv2.evaluation.evaluate import CAPTIONS, REPORTS, encode
    from aimv2.evaluation.losses import HeldOut
    from aimv2.evaluation.probe import Features, attentive_probe
    from aimv2.model.encoder_decoder import EncoderDecoder
    from aimv2.model.network import build
    from aimv2.objectives import objective

    batch, size, evaluation = random_batch(config), config.budget.batch_size, config.evaluation
    model, goal = build(config).to(config.device), objective(config.objective.name)
    pairs = HeldOut(
        image=batch.image,
        token_NT=batch.token_BT,
        supervised_NT=torch.arange(batch.token_BT.numel()).view_as(batch.token_BT) % 2 == 0,
        text_len_N=batch.text_len_B,
        num_bytes=batch.token_BT.numel(),
    )
    data = dict.fromkeys(CAPTIONS, pairs)

    side = config.data.render_px
    images = Labelled(np.zeros((size, side, side, 3), np.uint8), np.zeros(size, np.int64))

    def reports() -> None:
        for _ in CAPTIONS:
            centred_images(images.images, config.model.image_px)
        for report in goal.reports:
            REPORTS[report].final(model, data, config)

    rows = evaluation.probe.batch_size
    feature_NID = encode(model.encoder, images, config).feature_NID
    features = Features(
        feature_NID[torch.arange(rows, device=feature_NID.device) % size],  # a whole batch, whatever was encoded
        torch.zeros(rows, dtype=torch.int64, device=feature_NID.device),
    )
    one = Features(features.feature_NID[:1], features.label_N[:1])
    few_steps = replace(evaluation.probe, epochs=PROBE_STEPS)

    by = {
        "report of a pair": _fastest(reports, config) / size,
        "curve of a pair": _fastest(lambda: REPORTS[goal.reports[0]].curve(model, data, config), config) / size,
        "encoded image": _fastest(lambda: encode(model.encoder, images, config), config) / size,
        "probe step": _fastest(lambda: attentive_probe(features, one, one, 2, few_steps, seed=0), config) / PROBE_STEPS,
        "written caption": 0.0,
    }
    if isinstance(model, EncoderDecoder) and hasattr(model.decoder, "text_head"):
        few = min(max(evaluation.num_examples, 1), size)
        image, num_tokens = batch.image[:few].to(config.device), config.model.max_text_tokens - 1
        by["written caption"] = _fastest(lambda: greedy(model, image, num_tokens), config) / few
    return by


def _fastest(work: Callable[[], object], config: RunConfig) -> float:
    import torch

    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        if config.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
