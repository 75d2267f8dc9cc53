"""A run as an export reads it: interrupted, and later resumed and done."""

import io

from PIL import Image

from sweeps.export import Record

NAME = "v2-0123456789ab"
FINAL = {"content_loss": 0.75, "pixel_loss_0.25": 0.5}


def rows(number, loss=4.0):
    first = {"step": 0, "samples": 0, "train_flops": 0, "seconds": 0.5, "held_out_caption_loss": 6.0}
    more = [
        {"step": n, "samples": 8 * n, "train_flops": 100 * n, "seconds": 0.5 + n, "text_loss": loss / n,
         "gradient_norm": loss + n, "images_per_second": 8.0}
        for n in range(1, number)
    ]  # fmt: skip
    return [first, *more]


def record(number, *, state="done", loss=4.0, name=NAME, **changes):
    """Return a record of so many rows."""
    values = {
        "name": name, "arm": "uniform", "seed": 3, "state": state, "config": {"seed": 3, "model.image_px": 32},
        "rows": rows(number, loss), "metrics": FINAL if state == "done" else {}, "started": 1_800_000_000.0,
    }  # fmt: skip
    return Record(**(values | changes))


def picture(folder, step):
    """Write a picture of a step, and return it by its step."""
    path = folder / f"step_{step:08d}.png"
    Image.new("RGB", (6, 4), (step, 0, 0)).save(stream := io.BytesIO(), "png")
    path.write_bytes(stream.getvalue())
    return {step: path}
