"""What a request promises by its Idempotency-Key: the same key is the same request."""

import hashlib

from flask import request

from orchestrator.errors import BadRequest
from orchestrator.farm import Idempotency
from orchestrator.farm.accounts.keys import digest


def idempotency() -> Idempotency | None:
    """Return the client's Idempotency-Key with the digest of what it asks, or None."""
    key = request.headers.get("Idempotency-Key", "").strip()
    if not key:
        return None
    if len(key) > 200 or not key.isprintable():
        raise BadRequest("An Idempotency-Key has at most 200 characters, all of them visible.")
    return Idempotency(key=key, body_sha256=request_digest())


def request_digest() -> str:
    """Return the SHA-256 of what this request asks, whatever its form's boundary is."""
    asked = [request.method, request.path]
    if request.mimetype == "multipart/form-data":
        asked += [f"{name}={value}" for name, value in sorted(request.form.items(multi=True))]
        for name, file in sorted(request.files.items(multi=True)):
            file.seek(0)  # whoever kept it has read it to its end
            content = file.read()
            file.seek(0)
            asked.append(f"{name}:{hashlib.sha256(content).hexdigest()}")
    else:
        asked.append(request.get_data(as_text=True))
    return digest("\n".join(asked))
