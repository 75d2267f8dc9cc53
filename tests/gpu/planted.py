"""Objectives with a mistake that only a GPU shows."""

import torch

from aimv2.objectives.aimv2 import AIMv2


class OnTheHost(AIMv2):
    """A tensor that was left on the CPU."""

    def forward(self, batch):
        own = super().forward(batch)
        return own._replace(total=own.total + torch.ones(2).to(own.total.dtype).mul(batch.token_BT[0, :2]).sum())


class Waiting(AIMv2):
    """A value that the CPU waits for."""

    def forward(self, batch):
        own = super().forward(batch)
        return own._replace(total=own.total * (1.0 if own.total.item() < 1e9 else 0.5))


class OtherType(AIMv2):
    """A product of two types."""

    def forward(self, batch):
        own = super().forward(batch)
        weight = self.model.decoder.text_head.weight
        return own._replace(total=own.total + (weight.half() @ weight.T.float()).mean())
