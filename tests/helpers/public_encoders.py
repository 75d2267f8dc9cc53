"""What transformers' models make of pictures and texts."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer
from torchvision import transforms

IMAGE_PX = 28


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


def their_texts(folder, model, texts):
    """Embed texts with transformers, one by one, without padding."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model.set_attn_implementation("eager")  # with SDPA a mask that hides nothing is dropped, and causality with it
    found = []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text).ids])
            pooled = model.text_model(input_ids=ids, attention_mask=torch.ones_like(ids)).pooler_output
            found.append(F.normalize(model.text_projection(pooled), dim=-1)[0])
    return torch.stack(found)
