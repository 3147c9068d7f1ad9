"""Something schemathesis must not do to itself: end the key it asks with."""

import os
from typing import Any

import schemathesis

OWN_KEY = os.environ.get("SCHEMATHESIS_OWN_KEY", "")  # noqa: TID251 - given by the test


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Spare the caller's own key: revoked or rotated, nothing after it would say anything."""
    if OWN_KEY and (case.path_parameters or {}).get("key_id") == OWN_KEY:
        case.path_parameters["key_id"] = "key_spared"
