"""The part of a command's help that is about the values of a run."""

# Written out, because helps load faster without the configs (tests/aimv2/request/test_run_values.py).
SCALES = "demo, laptop, laptop_mix, tiny, small, vit_b, vit_l, vit_l_2b, vit_h, vit_1b, vit_3b"
OBJECTIVES = "aimv2, caption, image_only, cappa, clip, siglip, distill"
RECIPES = "high_res, native, lit, distill"

RUN_VALUES = f"""  scale=demo                   the scale to start from ({SCALES})
  objective.name=aimv2         the training objective ({OBJECTIVES})
  mixture=paper|public         weights and shares of dense captions of the paper's three sources
  start.weights=PATH           start from a finished run, with its config, or from a folder of: weights import
  recipe=NAME                  post-training that starts there ({RECIPES})
  config=FILE.yaml             keys with values from a file; those that are typed count
  budget.samples=4096          any other value, by its path in aimv2/config/run_config.py
  plugins=[FILE.py,FOLDER]     code of your own, such as a prefix-length distribution (docs/extend.md)
""".rstrip()
