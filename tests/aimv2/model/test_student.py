from dataclasses import replace

import torch

from aimv2.model.encoder import Encoder
from aimv2.model.initial import init_weights_
from aimv2.model.student import Student


def test_the_head_follows_the_encoder(tiny, images):
    student = Student(tiny.model, 24)
    init_weights_(student, seed=0)
    expected = student.encoder(images) @ student.head.weight.T
    torch.testing.assert_close(student(images), expected)
    assert expected.shape == (6, 16, 24)
    assert not student.head.bias.any()


def test_the_encoder_starts_as_in_every_other_network(tiny):
    deeper = replace(tiny.model, decoder=replace(tiny.model.decoder, depth=3))
    student = Student(deeper, 24)
    init_weights_(student, seed=0)
    alone = torch.nn.Module()
    alone.encoder = Encoder(tiny.model)
    init_weights_(alone, seed=0)
    for name, value in alone.state_dict().items():
        assert torch.equal(student.state_dict()[name], value)
