"""A part of a network with its cost, and the FLOPs and parameters of all parts together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

BACKWARD_PER_FORWARD = 2  # a gradient for the weights and one for the inputs


class Blocks(NamedTuple):
    """A stack of blocks."""

    number: int  # of blocks
    parameters: int  # weights of one block
    input: float  # float32 values per image that a block reads
    saved: float  # values per image of one block, as ``Part.saved``
    working: float  # values per image that the backward pass of one block holds at once, besides the saved ones
    released: float  # values per image of a block that its backward pass releases before it holds the most
    after: float  # values per image that the part saves after the blocks


@dataclass(frozen=True, kw_only=True)
class Part:
    """FLOPs, parameters and activation memory of one part of the network.

    Attributes:
        products: FLOPs per image of products with weights and of similarities, forward. Those of the pixel head count
            every patch, although training computes only the patches after the prefixes: runs whose samples were matched
            by these FLOPs keep them.
        of_input: the part of ``products`` with the run's input, or with features of a frozen encoder, which need no
            gradient.
        saved: float32 values per image saved for the backward pass by torch's CPU kernels. Fused kernels and lower
            precision save less.
        working: values per image that the backward pass outside the blocks holds at once, besides the saved ones.
        is_of_batch: ``saved`` and ``working`` are held for each image of the whole batch, however it is cut into
            micro-batches.
    """

    name: str
    module: str  # dotted name of the part in the run's network
    parameters: int  # weights of the module without those of other parts within it
    products: float
    attention: float = 0  # FLOPs per image of scores and mixing, forward, for every query with every key
    useful_attention: float = 0  # the part of ``attention`` that the mask lets through, averaged over prefix lengths
    per_token: float = 0  # FLOPs for each supervised token, forward; only these are projected to the vocabulary
    of_input: float = 0
    saved: float = 0
    saved_in_product: float = 0  # the part of ``saved`` outside of the blocks that has the precision of matrix products
    saved_per_token: float = 0  # as ``saved``, for each supervised token
    is_frozen: bool = False  # True if the part is not trained, and so has no backward pass, gradients or moments
    working: float = 0
    working_per_token: float = 0  # the same for each supervised token
    is_of_batch: bool = False
    blocks: Blocks | None = None  # the part's stack of blocks, which ``saved`` and ``parameters`` include
    is_in_network: bool = True  # False for a teacher, which is in memory but not among the run's own weights


def forward_flops(parts: Iterable[Part], num_images: int, num_tokens: int) -> int:
    """Return the FLOPs of a forward pass with this many supervised tokens in all."""
    return round(sum(num_images * (part.products + part.attention) + num_tokens * part.per_token for part in parts))


def train_flops(parts: Sequence[Part], num_images: int, num_tokens: int) -> int:
    """Return the FLOPs of a forward and a backward pass with this many supervised tokens in all."""
    trained = [part for part in parts if not part.is_frozen]
    of_input = round(num_images * sum(part.of_input for part in trained))
    backward = BACKWARD_PER_FORWARD * forward_flops(trained, num_images, num_tokens) - of_input
    return forward_flops(parts, num_images, num_tokens) + backward


def train_flops_by_area(parts: Mapping[int, Sequence[Part]], num_images: Mapping[int, int], num_tokens: int) -> int:
    """Return the FLOPs of training on images of several areas, with this many supervised tokens in all."""
    total, rest = 0, num_tokens  # a token costs as much with every area
    for area, count in num_images.items():
        total, rest = total + train_flops(parts[area], count, rest), 0
    return total


def num_parameters(parts: Iterable[Part]) -> int:
    """Return the number of weights in all parts."""
    return sum(part.parameters for part in parts)
