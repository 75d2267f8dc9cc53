"""An objective with a mistake that only a GPU shows."""

from aimv2.objectives.aimv2 import AIMv2


class Waiting(AIMv2):
    """A value that the CPU waits for."""

    def forward(self, batch):
        losses = super().forward(batch)
        return losses._replace(total=losses.total * (1.0 if losses.total.item() < 1e9 else 0.5))
