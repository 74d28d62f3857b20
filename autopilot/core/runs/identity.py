"""What makes two triggers the same: run ids from identities, digests of payloads."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def run_id_of(workflow_id: str, identity: str) -> str:
    """The id of the run that a trigger with this identity starts: the same each time it is delivered.

    A digest, so that it spreads evenly (Firestore slows down on document ids that rise with time).
    """
    return hashlib.sha256(f"{workflow_id}\n{identity}".encode(errors="backslashreplace")).hexdigest()[:32]


def payload_hash(payload: Mapping[Any, Any]) -> str:
    """A digest of a payload as it was sent, whatever the order of its keys.

    Of what was sent and not of what validation made of it, so that a delivery repeated after a deployment that
    changed a default is still the same.

    Raises:
        ValueError: the payload is not JSON.
    """
    # By way of its JSON, in which every key is text: keys that are not could not be sorted.
    as_sent = json.loads(json.dumps(dict(payload), allow_nan=False))
    text = json.dumps(as_sent, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
