import pytest
import torch

from aimv2.model.masks import continued_mask, padded_text_mask, parallel_text_mask, prefix_mask


@pytest.mark.parametrize("num_patches", [2, 5, 16])
def test_prefix_mask_matches_the_obvious_loop(num_patches):
    patches, prefixes = range(num_patches), range(1, num_patches + 1)
    expected_BLL = torch.tensor([[[k <= q or k < m for k in patches] for q in patches] for m in prefixes])
    mask = prefix_mask(torch.tensor(prefixes), num_patches)
    torch.testing.assert_close(mask[:, 0], expected_BLL)
    assert mask[-1].all(), "a prefix as long as the image is full attention"


@pytest.mark.parametrize(("num_tokens", "num_patches"), [(1, 2), (4, 3), (6, 9)])
def test_padded_text_mask_hides_padding_from_patches(num_tokens, num_patches):
    lengths = range(1, num_tokens + 1)
    positions = [("text", t) for t in range(-1, num_tokens)] + [("patch", i) for i in range(num_patches)]  # -1 is BOS

    def may_see(query, key, length):
        is_padding = positions[key][0] == "text" and positions[key][1] >= length
        return key <= query and not (positions[query][0] == "patch" and is_padding)

    places = range(len(positions))
    expected_BLL = torch.tensor([[[may_see(q, k, length) for k in places] for q in places] for length in lengths])
    torch.testing.assert_close(padded_text_mask(torch.tensor(lengths), num_tokens, num_patches)[:, 0], expected_BLL)


@pytest.mark.parametrize(("num_tokens", "num_patches"), [(1, 2), (4, 3), (6, 9)])
def test_parallel_text_mask_is_full_within_parallel_captions(num_tokens, num_patches):
    places = range(num_patches + 1 + num_tokens)

    def may_see(query, key, is_parallel):
        return key <= query or (is_parallel and query >= num_patches and key >= num_patches)

    expected_BLL = torch.tensor([[[may_see(q, k, p) for k in places] for q in places] for p in (True, False)])
    mask = parallel_text_mask(torch.tensor([True, False]), num_tokens, num_patches)
    torch.testing.assert_close(mask[:, 0], expected_BLL)


@pytest.mark.parametrize(("num_seen", "length"), [(0, 4), (3, 1), (3, 5)])
def test_continued_mask_shows_everything_before(num_seen, length):
    expected_LL = [[key <= num_seen + query for key in range(num_seen + length)] for query in range(length)]
    assert continued_mask(num_seen, length, torch.device("cpu"))[0, 0].tolist() == expected_LL
