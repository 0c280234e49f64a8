"""A hash of a config, the same on every machine."""

import hashlib
import json
import re
from typing import Any


def digest(value: Any) -> str:
    """A hash of plain values; of an absolute path only the last two parts count."""
    text = json.dumps(value, sort_keys=True, default=str)
    text = re.sub(r'"/[^"]*"', lambda found: '/'.join(found[0].split('/')[-2:]), text)
    return hashlib.sha256(text.encode()).hexdigest()
