"""Values of the demo recipe."""

from aimv2.config.recipes.scales import demo


def changed(key, value):
    """The demo recipe as a dict, with one value replaced or added."""
    values = demo().to_dict()
    *groups, name = key.split(".")
    owner = values
    for group in groups:
        owner = owner[group]
    owner[name] = value
    return values
