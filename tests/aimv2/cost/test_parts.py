"""Sums over parts, against sums by hand."""

from aimv2.cost.parts import Part, forward_flops, num_parameters, train_flops, train_flops_by_area

ENCODER = Part(name="encoder", module="encoder", parameters=7, products=100, attention=20, of_input=10)
HEAD = Part(name="head", module="head", parameters=5, products=30, per_token=2)


def test_forward_pass_costs_images_and_tokens():
    assert forward_flops([ENCODER, HEAD], num_images=3, num_tokens=11) == 3 * (100 + 20 + 30) + 11 * 2


def test_backward_pass_costs_twice_the_forward_pass_without_gradients_of_the_input():
    assert train_flops([ENCODER, HEAD], num_images=3, num_tokens=11) == 3 * (450 + 22) - 3 * 10


def test_frozen_part_has_no_backward_pass():
    frozen = Part(name="teacher", module="teacher", parameters=7, products=100, of_input=10, is_frozen=True)
    assert train_flops([frozen, HEAD], num_images=3, num_tokens=11) == 3 * 100 + 3 * (3 * 30 + 11 * 2)


def test_tokens_are_counted_once_over_all_areas():
    by_area = {4: [ENCODER, HEAD], 9: [HEAD]}
    expected = train_flops(by_area[4], 3, 0) + train_flops(by_area[9], 2, 11)
    assert train_flops_by_area(by_area, {4: 3, 9: 2}, num_tokens=11) == expected


def test_parameters_are_those_of_all_parts():
    assert num_parameters([ENCODER, HEAD]) == 12
