"""python -m tests.gpu.evaluated SCALE OBJECTIVE: evaluate a new network on the fake GPU, and print what it holds.

Without a cache of the allocator (PYTORCH_NO_CUDA_MEMORY_CACHING=1), all memory that kernels would write is 0, so every
value is finite, and the fake GPU counts the bytes itself.
"""

import json
import sys

from aimv2.config.program import replaced
from aimv2.config.recipes.scales import SCALES
from aimv2.data.prepare import prepare
from aimv2.definitions.objectives import objective
from aimv2.evaluation.evaluate import evaluate
from aimv2.memory.evaluation import predict_evaluation
from aimv2.memory.training import PROCESS_BYTES
from aimv2.objectives.build import build
from aimv2.request.resolve import with_attention
from aimv2.training.device import hold_half_
from tests.gpu.fake_gpu import counter

FEW = {
    "evaluation.num_items": 512,
    "evaluation.num_pairs": 300,
    "evaluation.num_probe_scenes": 600,
    "evaluation.num_other_images": 64,
    "evaluation.probe.epochs": 1,
}
READER = {"evaluation.reader.samples": 256, "evaluation.reader.pairs": 256, "evaluation.reader.questions": 64}


def main(scale, name, cache_dir):
    own = {"device": "cuda", "precision": "bfloat16", "objective.name": name, "data.cache_dir": cache_dir}
    config = SCALES[scale]()
    own |= FEW | (READER if config.evaluation.reader.samples and name != "clip" else {})
    config = with_attention(replaced(config, own))
    data = prepare(config.data, config.model.vocab_size)
    model = build(config).to("cuda")
    hold_half_(model, config)
    most = counter("most_bytes_held")
    most.value = 0
    evaluate(model, objective(name), data, config)
    print(json.dumps({"held": most.value, "predicted": predict_evaluation(config).device - PROCESS_BYTES}))


if __name__ == "__main__":
    main(*sys.argv[1:])
