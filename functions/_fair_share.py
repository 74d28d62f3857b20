"""A limited number of bytes, shared by several feeds: none of them, however much it has, keeps the others out."""

import json
from collections.abc import Sequence


def fair_share(room: int, sizes: Sequence[Sequence[int]]) -> list[int]:
    """How many of the first items of each sequence fit into ``room`` together, if each takes one in turn.

    A sequence whose next item does not fit gets no more.
    """
    fitting = [0] * len(sizes)
    for rank in range(max(map(len, sizes), default=0)):
        for index, each in enumerate(sizes):
            if fitting[index] == rank < len(each) and each[rank] <= room:
                fitting[index] += 1
                room -= each[rank]
    return fitting


def size_as_json(value: object) -> int:
    """The bytes of ``value`` in a recorded result."""
    return len(json.dumps(value, ensure_ascii=False).encode())
