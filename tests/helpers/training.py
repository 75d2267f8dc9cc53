"""Training without a record, and runs with other values."""

from aimv2.config.program import replaced
from aimv2.data.batches.training import TrainBatches
from aimv2.definitions.objectives import objective
from aimv2.objectives.aimv2 import AIMv2
from aimv2.objectives.build import build, implementation_of
from aimv2.request.resolve import with_attention
from aimv2.training.loop import train

SMALL = (
    *("budget.samples=16", "budget.batch_size=8"),
    *("data.sources=[openmoji_scenes,fontawesome_scenes]", "data.render_px=24"),
    *("data.scenes.num_scenes=400", "data.scenes.num_objects=5", "data.scenes.num_unseen=4"),
    *("model.image_px=16", "model.patch_px=4", "model.vocab_size=512", "model.max_text_tokens=12"),
    *("model.encoder.width=32", "model.encoder.num_heads=2", "model.encoder.depth=1"),
    *("model.decoder.width=32", "model.decoder.num_heads=2", "model.decoder.depth=1"),
    *("evaluation.num_items=48", "evaluation.num_pairs=32", "evaluation.num_probe_scenes=40"),
    *("evaluation.curve_pairs=16", "evaluation.curve_points=2"),
    *("evaluation.probe.epochs=1", "evaluation.probe.learning_rates=[0.001]", "evaluation.probe.weight_decays=[0.05]"),
)  # fmt: skip


def small_run(cache_dir, *arguments):
    """Return the arguments of ``train`` for a small run with the given ones."""
    keys = {argument.partition("=")[0] for argument in arguments}
    small = [argument for argument in SMALL if argument.partition("=")[0] not in keys]
    return [f"data.cache_dir={cache_dir}", *small, *arguments]


def losses_of(model, batch, config):
    """Return the losses of the objective that the config names."""
    return implementation_of(objective(config.objective.name))(model, config)(batch)


class Rows:
    """An attempt's record in memory, with a clock that advances by a second at every reading."""

    def __init__(self):
        self.rows, self.bad = [], []
        self._seconds = 0.0

    @property
    def seconds(self):
        self._seconds += 1.0
        return self._seconds

    @property
    def cpu_seconds(self):
        return self._seconds / 2

    def advance(self, seconds):
        self._seconds += seconds

    def write_rows(self, rows):
        self.rows += rows

    def write_bad(self, samples):
        self.bad += samples


def run(config, pairs, *, held_out=lambda model: {"held_out_caption_loss": 1.5}, record=None, goal=None):
    """Train on the pairs and return the model, its metric rows and the training FLOPs."""
    train_pairs, tokenizer = pairs.train, pairs.tokenizer
    model, record = build(config), record or Rows()
    batches = TrainBatches(config, train_pairs, tokenizer)
    goal = goal or objective(config.objective.name)
    trained = train(config, goal, model, batches, attempt=record, held_out=held_out)
    return model, record.rows, trained.flops


class Clock:
    """Seconds that advance by one with every step, if it is called with the step's rows, and when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self, rows=()):
        self.now += len(rows)
        return self.now


class Unshared(AIMv2):
    """AIMv2's objective without shared parameters, so that no gradient balance is measured."""

    def shared_parameters(self):
        return []


def changed(config, changes):
    """Return the run with other values, by their paths; ``auto`` attention becomes the objective's."""
    return with_attention(replaced(config, {"model.encoder.attention": "auto"} | changes))
