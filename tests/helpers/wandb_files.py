"""The records in the file of an offline run of W&B."""

import json
import struct

BLOCK, HEADER = 32768, 7  # bytes of LevelDB's log format, after a header of W&B's own


def wandb_records(folder):
    """Return the records of an offline run."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    data, place, found, part = path.read_bytes(), HEADER, [], b""
    while place < len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        part += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(part))
            part = b""
    return found


def values_of(items):
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(found):
    """Return the logged values by step."""
    values = {}
    for one in found:
        if items := values_of(one.history.item):
            assert one.history.step.num not in values
            values[one.history.step.num] = items
    return values
