"""TensorBoard's own reader, as an oracle of events."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read_events(folder):
    """Return the scalars of a folder as lists of (step, value) by tag, and the wall times by step."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = found.Tags()
    scalars = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in tags["scalars"]}
    times = {event.step: event.wall_time for tag in tags["scalars"] for event in found.Scalars(tag)}
    return scalars, times
