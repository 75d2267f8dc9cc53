"""Seconds that runs take: those of finished runs, of a short run that measures this machine, and estimates from them.

The cache folder has a file for each effort that was timed: seconds in closed form, of which only ratios count. The time
of another run is that of the nearest one, times the ratio of their efforts. torch is imported to measure only.
"""

import contextlib
import hashlib
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from rich.console import Console

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, writable_folder, write_json
from aimv2.config.program import KIND, Program
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import BudgetConfig, LogConfig, OptimizerConfig
from aimv2.cost import decoder_cost, encoder_part, forward_flops, text_head_cost, train_flops
from aimv2.definitions.objectives import objective
from aimv2.definitions.programs import max_train_flops
from aimv2.memory.machine import available_memory, hardware, total_memory
from aimv2.memory.setup import choose
from aimv2.run.price import RunSeconds
from aimv2.runs.lease import attempt_folder
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import last_rows, rows_at

TIMES = "times"  # a folder of the cache
SPEED_BYTES = 65536  # of a run's metrics, about two hundred rows
STEPS = 8  # of the short run
# Training FLOPs. A batch is cut until a step takes no more than the first. A model whose samples take more than the
# second is not measured, since its evaluation would take minutes.
MAX_STEP_FLOPS = {"cpu": 5e9, "cuda": 1e14}
MAX_SAMPLE_FLOPS = {"cpu": 1e9, "cuda": 1e12}
MAX_EVALUATION_EFFORT = 0.8  # of the part of the evaluation that is measured
FEWEST = 8  # pairs or images of each kind, if the run has as many

Part = Literal["training", "evaluation"]
# How much more or less effort than a measured run one may take that is estimated from it. A short run is evaluated on
# a small part of the data.
MAX_RATIO: dict[Part, float] = {"training": 8.0, "evaluation": 100.0}


# One core of an AMD EPYC with models of demo and laptop (docs/cost.md). Those of CUDA were not measured.
FLOPS = {"cpu": 5.2e10, "cuda": 2e13}  # a second
BLOCK_SECONDS = 1.5e-3  # of a step, besides its FLOPs
PIXEL_SECONDS = 4e-7  # of rendering a picture and reading its captions
PROBE_SECONDS = 1e-5  # of an image in an epoch of a probe, for each setting
START_SECONDS = 0.6
CURVE_SHARE = 0.5  # of a training sample's seconds: a pair of the held-out curve
DIGITS = 1797  # images of a set on which every run is probed
SCENE_PROBES = 6


def training_effort(config: RunConfig) -> float:
    """Return the seconds of a training sample."""
    parts = objective(config.objective.name).cost(config)
    blocks = sum(part.blocks.number for part in parts if part.blocks is not None)
    flops = train_flops(parts, 1, config.model.max_text_tokens)
    return flops / FLOPS[config.device] + blocks * BLOCK_SECONDS / config.budget.batch_size


def evaluation_effort(config: RunConfig) -> float:
    """Return the seconds of the start and of the evaluation at the end, without the curve."""
    model, options, goal = config.model, config.evaluation, objective(config.objective.name)
    encoded_once = forward_flops([encoder_part(model, model.encoder, useful_share=1.0)], 1, 0)
    reader, probe, text = options.reader, options.probe, model.max_text_tokens
    scenes = options.num_probe_scenes * config.data.has_scenes
    read = reader.pairs * bool(reader.samples)
    labelled = DIGITS + options.set_images * len(options.sets)

    passes = {"captions": 3 * options.num_items, "pixels": len(options.prefix_fractions) * options.num_pairs}
    decoded = sum(passes.get(report, options.num_pairs) for report in goal.reports)
    others = [part for part in goal.cost(config) if part.module != "encoder"]
    flops = decoded * forward_flops(others, 1, text)
    encoded = 2 * options.num_items + options.num_pairs + read + 2 * scenes + labelled
    flops += encoded * encoded_once
    steps = 0.0
    if reader.samples:
        as_reader = replace(config, model=replace(model, decoder=reader.decoder))
        parts = [decoder_cost(as_reader, "reader", "", reads_text=True), text_head_cost(as_reader, "")]
        trained = reader.samples * reader.readers + reader.questions
        flops += train_flops(parts, trained, trained * text) + passes["captions"] * forward_flops(parts, 1, text)
        steps = trained / reader.batch_size * reader.depth

    probed = probe.epochs * len(probe.learning_rates) * len(probe.weight_decays) * (SCENE_PROBES * scenes + labelled)
    flops += probed * 2 * model.num_patches * model.encoder.width**2
    pixels = config.data.render_px**2 * (options.num_items + options.num_pairs + read + scenes)
    seconds = START_SECONDS + steps * BLOCK_SECONDS + pixels * PIXEL_SECONDS + probed * PROBE_SECONDS
    return float(seconds + flops / FLOPS[config.device])


EFFORTS = {"training": training_effort, "evaluation": evaluation_effort}


class RecordedTime(NamedTuple):
    """Seconds that a part of a run took: a training sample, or the start and the evaluation at the end."""

    part: Part
    setting: str  # as of ``setting_of``
    effort: float  # seconds in closed form
    seconds: float
    hardware: str
    run: str  # its name; empty for a short one, of which nothing else is kept


def setting_of(run: Program) -> str:
    """Return what no effort can be scaled by: device, threads and precision, and data in files; of another model than
    AIMv2 all values but the seed."""
    setting = f"{run.device}, {run.threads} threads, {run.precision}"
    if not isinstance(run, RunConfig):
        return f"{setting}, {_hash(run.with_seed(0).to_dict())}"
    setting += f", {run.data.kind}"
    if run.data.kind == "files":  # small pictures and large ones take other times
        setting += f" {_hash(run.data.sources, run.data.fingerprint)}"
    return setting


def parts_of(config: Program) -> list[Part]:
    """Return the parts of a run whose times are recorded; that of another model than AIMv2 is one."""
    is_trained = isinstance(config, RunConfig) and config.budget.samples
    return ["evaluation", "training"] if is_trained else ["evaluation"]


def seconds_of(run: Path, *, of_cpu: bool = False) -> dict[Part, float]:
    """Return the seconds of the evaluation of a finished run and, if it was trained, of a sample of its steps; those of
    the CPU or on the clock."""
    config, result = read_json(run / "config.json"), read_json(run / "result.json")
    if KIND in config or not config["budget"]["samples"]:
        return {"evaluation": result["cpu_seconds" if of_cpu else "seconds"]}
    attempt = attempt_folder(run, result["attempt"])
    if of_cpu:
        steps = [row["step_cpu_seconds"] for row in last_rows(attempt, SPEED_BYTES) if "step_cpu_seconds" in row]
        return {
            "training": statistics.median(steps) / config["budget"]["batch_size"],
            "evaluation": result["cpu_seconds"] - result["train_cpu_seconds"],
        }
    speeds = [row["images_per_second"] for row in last_rows(attempt, SPEED_BYTES) if "images_per_second" in row]
    start = rows_at(attempt, [0])[0]["seconds"]
    return {
        "training": 1 / statistics.median(speeds),
        "evaluation": start + result["seconds"] - result["train_seconds"],
    }


def remember(config: Program, run: Path, *, is_short: bool = False) -> list[RecordedTime]:
    """Write the times of a finished run of this process to the table, in place of older ones of its effort, and return
    them; none if the run's record is incomplete.

    If one thread did all of a short run and waited for no disk, its CPU time counts: one busy moment of the machine
    would make every later plan longer.
    """
    try:
        is_alone = (config.device, config.threads) == ("cpu", 1) and not config.loaders
        of_cpu = is_short and is_alone and isinstance(config, RunConfig) and config.data.kind != "files"
        seconds = seconds_of(run, of_cpu=of_cpu)
    except (UsageError, OSError, ValueError, KeyError, TypeError, ZeroDivisionError):  # such as a run of no step
        return []
    here, setting, name, times = hardware(config.device), setting_of(config), run.name, []
    for part in parts_of(config):
        measured = RecordedTime(part, setting, _effort(config, part), seconds[part], here, "" if is_short else name)
        times.append(measured)
        with contextlib.suppress(OSError):  # a full disk, or one that is not ours
            folder = config.cache_dir / TIMES
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / f"{_hash(part, setting, measured.effort, here)}.json", measured._asdict())
    return times


def recorded(cache_dir: Path) -> list[RecordedTime]:
    """Return the table of a cache folder, without files that are broken."""
    times = []
    for path in sorted((cache_dir / TIMES).glob("*.json")):
        with contextlib.suppress(UsageError, TypeError):
            time = RecordedTime(**read_json(path))
            if 0 < time.effort < math.inf and 0 <= time.seconds < math.inf:
                times.append(time)
    return times


def nearest(config: Program, part: Part, table: Sequence[RecordedTime]) -> tuple[float, RecordedTime] | None:
    """Return the seconds of a part of a run, and the measurement of the nearest effort that they follow from; None if
    none is like it."""
    setting, effort = setting_of(config), _effort(config, part)
    alike = [time for time in table if (time.part, time.setting) == (part, setting)]
    if not alike:
        return None
    best = min(alike, key=lambda time: abs(math.log(effort / time.effort)))
    is_near = abs(math.log(effort / best.effort)) <= math.log(MAX_RATIO[part])
    return (best.seconds * effort / best.effort, best) if is_near else None


def _effort(config: Program, part: Part) -> float:
    return EFFORTS[part](config) if isinstance(config, RunConfig) else 1.0


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def calibrate(config: RunConfig, *, memory: Callable[[], float] = available_memory) -> list[RecordedTime]:
    """Train the run for a few steps, evaluate it on a part of the data, and remember its times; none if it is too large
    for this machine, or fails."""
    if max_train_flops(config, 1) > MAX_SAMPLE_FLOPS[config.device]:
        return []
    short = _short(config, STEPS, MAX_EVALUATION_EFFORT)
    if config.device == "cpu" and choose(short, total_memory()).needed > memory():
        return []
    from aimv2.run.execute import execute  # here, since torch takes seconds to load

    with TemporaryDirectory() as folder:
        try:
            writable_folder(config.data.cache_dir, "data.cache_dir")
        except UsageError:  # a plan needs no folder
            config = replace(config, data=replace(config.data, cache_dir=folder))
        # What a process does once, such as imports, is done by the first of the two.
        for short in (_short(config, 1, 0.0), _short(config, STEPS, MAX_EVALUATION_EFFORT)):
            run = RunFolder(Path(folder), short.name)
            attempt = run.acquire(short)
            assert attempt is not None, "the folder is new"
            with Console(stderr=True).status(f"measuring the speed of this machine: {STEPS} training steps"):
                failure = execute(attempt, short)
            if failure is not None:
                note = f"note: the speed of this model could not be measured: {failure.message}"
                Console(stderr=True).print(note, highlight=False, soft_wrap=True, markup=False)
                return []
        return remember(short, run.path, is_short=True)


def _short(config: RunConfig, steps: int, effort: float) -> RunConfig:
    """Return the run with a few steps, on batches as large as MAX_STEP_FLOPS allows, and an evaluation of about this
    effort."""
    config = replace(config, ranks=1)
    if config.budget.samples:
        size = int(MAX_STEP_FLOPS[config.device] / max_train_flops(config, 1))
        size = min(max(size // config.batch_multiple, 1) * config.batch_multiple, config.budget.batch_size)
        config = replace(config, budget=BudgetConfig(samples=steps * size, batch_size=size))
    options, share = config.evaluation, effort / evaluation_effort(config)

    def some(number: int) -> int:
        return min(max(int(share * number), FEWEST), number)

    reader, names = options.reader, ("num_items", "num_pairs", "num_other_images", "num_probe_scenes", "set_images")
    few: dict[str, Any] = {name: some(getattr(options, name)) for name in names}
    read: dict[str, Any] = {name: some(getattr(reader, name)) for name in ("samples", "pairs", "questions")}
    return replace(
        config,
        optimizer=OptimizerConfig(name=config.optimizer.name),  # a learning rate that diverges would end the run
        log=LogConfig(every_steps=1, tensorboard=False),
        evaluation=replace(options, **few, reader=replace(reader, **read), curve_points=2, curve_pairs=FEWEST),
    )


class RecordedClock:
    """Time of a run, from the nearest ones in the table of its cache folder.

    ``measure`` measures a run if nothing like it is in the table. If runs are executed on other machines (``is_here``),
    any that were recorded count.
    """

    def __init__(
        self, *, measure: Callable[[RunConfig], list[RecordedTime]] | None = calibrate, is_here: bool = True
    ) -> None:
        self._measure, self._is_here = measure, is_here
        self._tables: dict[Path, list[RecordedTime]] = {}
        self._tried = set[tuple[str, Part, float]]()

    def __call__(self, config: Program) -> RunSeconds | None:
        """Return the time of a run, or None if it is not known and cannot be measured here: the model is too large, or
        none of ours."""
        folder = config.cache_dir
        if folder not in self._tables:
            self._tables[folder] = recorded(folder)
        efforts = {part: _effort(config, part) for part in parts_of(config)}
        times = self._nearest(config)
        if not isinstance(config, RunConfig):
            return None if times is None else RunSeconds(0.0, times["evaluation"][0])
        wanted = {(setting_of(config), part, effort) for part, effort in efforts.items()}
        if times is None and self._measure is not None and self._tried.isdisjoint(wanted):
            self._tried |= wanted
            self._tables[folder] += self._measure(config)
            times = self._nearest(config)
        if times is None:
            return None
        samples = config.budget.samples
        pairs = config.evaluation.curve_points * config.evaluation.curve_pairs * bool(samples)
        a_sample = times["training"][0] if samples else 0.0
        sources = [source for part, (_, source) in times.items() if not self._is_here or source.effort != efforts[part]]
        return RunSeconds(
            training=samples * a_sample,
            evaluation=times["evaluation"][0] + CURVE_SHARE * pairs * a_sample,
            estimated_from=frozenset(
                (f"run {source.run}" if source.run else "a short run") + f" on {source.hardware}" * (not self._is_here)
                for source in sources
            ),
        )

    def _nearest(self, config: Program) -> dict[Part, tuple[float, RecordedTime]] | None:
        """Return the seconds of each part of a run and where they are from; None if one is not known."""
        table, parts = self._tables[config.cache_dir], parts_of(config)
        if self._is_here:
            table = [time for time in table if time.hardware == hardware(config.device)]
        times = {part: near for part in parts if (near := nearest(config, part, table))}
        return times if len(times) == len(parts) else None


class EvaluationTimes:
    """Seconds of the evaluation of each arm of a sweep.

    They are those of a finished run of the arm, of the nearest recorded run, or the median of other arms' runs.
    """

    def __init__(self) -> None:
        self._finished: dict[str, float | None] = {}
        self._recorded: dict[str, float | None] = {}

    def learn(self, arm: str, run: Path) -> None:
        """Read the time of a finished run of an arm, unless one of the arm was read before."""
        if arm not in self._finished:
            self._finished[arm] = None
            with contextlib.suppress(UsageError, OSError, ValueError, KeyError, TypeError):  # its record is incomplete
                self._finished[arm] = seconds_of(run)["evaluation"]

    def of(self, arm: str, config: Program) -> float | None:
        """Return the seconds of an arm's evaluation; None if nothing like it was measured."""
        if self._finished.get(arm) is not None:
            return self._finished[arm]
        if arm not in self._recorded:
            near = nearest(config, "evaluation", recorded(config.cache_dir))
            self._recorded[arm] = None if near is None else near[0]
        if self._recorded[arm] is not None:
            return self._recorded[arm]
        others = [seconds for seconds in self._finished.values() if seconds is not None]
        return statistics.median(others) if others else None


def training_left(config: Program, samples: int, images_per_second: float) -> float:
    """Return the seconds of training that are left after so many samples, with those of the held-out curve."""
    left, pairs = config.num_samples - samples, 0.0
    if isinstance(config, RunConfig):
        curve = config.evaluation.curve_points * config.evaluation.curve_pairs
        pairs = curve * left / max(config.num_samples, 1)
    return (left + CURVE_SHARE * pairs) / images_per_second
