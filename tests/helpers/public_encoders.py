"""Pictures as public encoders read them, and transformers' pair of encoders."""

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from transformers import Aimv2Config, Aimv2Model

from aimv2.objectives.contrastive import MAX_SCALE
from aimv2.tools.weights_layouts import ENCODER, TRANSFORMERS, to_theirs
from tests.helpers.labelled_digits import IMAGE_PX

PAIR_NAMES = {
    **{ours: f"vision_model.{theirs}" for ours, theirs in TRANSFORMERS.items()},
    "image_head.query": "vision_model.head.cls_token",
    "image_head.key_value": "vision_model.head.{k,v}_proj",
    "image_head.out": "vision_model.head.output_proj",
    "image_head.proj": "visual_projection",
    "text_tower.text_embed": "text_model.embeddings.token_embedding",
    "text_tower.text_pos_embed": "text_model.embeddings.position_embedding.weight",
    **{f"text_tower.{ours}": f"text_model.{theirs}" for ours, (theirs, _) in ENCODER.items() if "#" in ours},
    "text_tower.norm": "text_model.rms_norm",
    "text_tower.proj": "text_projection",
    "similarity.logit_scale": "logit_scale",
}


def network_inputs(pictures, crop):
    """Prepare pictures as torchvision does: the shorter side is resized, the centre cut out."""
    preprocess = transforms.Compose(
        [
            transforms.Resize(round(IMAGE_PX / crop), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(IMAGE_PX),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return torch.stack([preprocess(Image.fromarray(np.asarray(picture))) for picture in pictures])


def as_pair_of_transformers(network, model, *, end_id):
    """Return transformers' model with the tensors of our pair of encoders of these sizes."""

    def sizes(stack):
        values = {"hidden_size": stack.width, "num_hidden_layers": stack.depth, "num_attention_heads": stack.num_heads}
        return values | {"intermediate_size": stack.ffn_hidden}

    text = {"vocab_size": model.vocab_size, "max_position_embeddings": model.max_text_tokens, "eos_token_id": end_id}
    images = {"image_size": model.image_px, "patch_size": model.patch_px, "use_head": True}
    config = Aimv2Config(
        text_config=sizes(model.tower.stack) | text,
        vision_config=sizes(model.encoder) | images,
        projection_dim=model.tower.embed_dim,
        max_logit_scale=MAX_SCALE,
    )
    tensors = to_theirs(network.state_dict(), PAIR_NAMES)
    table = "vision_model.embeddings.position_embedding.weight"
    theirs = Aimv2Model(config).eval()
    theirs.load_state_dict(tensors | {table: tensors[table][0]}, strict=True)
    return theirs
