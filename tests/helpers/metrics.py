"""Plug-ins of one metric each, good and bad."""

from pathlib import Path

BODIES = {
    "spread": "return model.features().float().mean(dim=1).std()",
    "late": "return 0.5",
    "ratio": "return Items.of(model.items, model.features().float().mean(dim=(1, 2)), 2.0)",
    "work": "seen = []\n    model.network.encoder.register_forward_hook(lambda *call: seen.append(len(call[1][0])))"
    "\n    model.features(), model.features()\n    return sum(seen)",
    "labels": "return sum(len(one.tasks) for one in model.labelled())",
    "graph": "return float(model.network.encoder(torch.zeros(1, 3, 16, 16)).requires_grad)",
    "raises": "raise ValueError('no such layer')",
    "nothing": "return None",
    "text": "return '0.5'",
    "many": "return torch.ones(2)",
    "nan": "return float('nan')",
    "inf": "return torch.tensor(float('inf'))",
    "decoder": "return model.network.text_tower.width",
}
PLUGIN = """import torch

from aimv2.definitions.items import Items
from aimv2.definitions.metrics import metric


@metric("share", lower_is_better=False)
def {name}(model):
    {body}
{more}"""


def metric_file(folder: Path, name: str, more: str = "") -> Path:
    """Write a plug-in with one of these metrics, and further text; return its path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(PLUGIN.format(name=name, body=BODIES[name], more=more))
    return path
