"""Made-up measurements of a cost study."""

from aimv2.analysis.costs.measurements import (
    ARCHITECTURES,
    EncoderCost,
    EncoderSetting,
    Machine,
    Measurements,
    ObjectiveCost,
    TrainingSetting,
)

ROUNDS = (1.0, 2.0, 3.0, 1.5, 2.5, 2.0)  # seconds of AIMv2, on a machine of changing speed
SLOWER = {"aimv2": 1.0, "clip": 1.25, "siglip": 0.5, "dinov2": 2.0}  # times AIMv2, in every round
STEPS = {"aimv2": 1.0, "clip": 0.5}


def setting(patches, precision, batch_size, models=tuple(SLOWER)):
    return EncoderSetting(
        patches=patches,
        precision=precision,
        batch_size=batch_size,
        product_flops=10**9,
        product_seconds=[0.25] * 6,
        cpu_share=0.5,
        encoders=[
            EncoderCost(
                encoder=name,
                image_px=ARCHITECTURES[name].patch_px * 16,
                num_tokens=patches + ARCHITECTURES[name].class_tokens,
                seconds=[SLOWER[name] * value for value in ROUNDS],
                parameters=3 * 10**8,
                parameter_bytes=12 * 10**8,
                peak_bytes=10**7,
                flops=4 * 10**9,
                closed_form=4 * 10**9 if name == "aimv2" else None,
            )
            for name in models
        ],
    )


def training(scale, *, is_timed=True):
    return TrainingSetting(
        scale=scale,
        description="made up",
        batch_size=4,
        text_tokens=16,
        cpu_share=0.75 if is_timed else None,
        objectives=[
            ObjectiveCost(
                objective=name,
                parameters=10**6,
                flops=round(2e9 * share),
                seconds=[share * value for value in ROUNDS] if is_timed else [],
                peak_bytes=5 * 10**6 if is_timed else 0,
            )
            for name, share in STEPS.items()
        ],
    )


def measurements(models=tuple(SLOWER), clock="wall"):
    return Measurements(
        command="python -m benchmarks costs",
        machine=Machine(
            name="A_machine", device="cpu", threads=2, packages={"torch": "2.13.0", "timm": "1.0"}, load=1.5
        ),
        clock=clock,
        depth=24,
        encoders=[setting(patches, "bfloat16", size, models) for patches in (256, 576) for size in (1, 4)],
        training=[training("demo"), training("vit_l", is_timed=False)],
    )
