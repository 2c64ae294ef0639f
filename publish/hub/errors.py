"""Failures of the hub: retry those that may pass, put the others into words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from ...configs.errors import UserError

log = logging.getLogger(__name__)
Result = TypeVar("Result")

WAITS = (1.0, 2.0, 4.0)  # seconds before each further attempt
TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")  # the client changed twice
STALE = "push.repo={repo}: {revision} was changed by somebody else meanwhile; nothing was overwritten"
CONFLICT = (409, 412)
REASONS = {
    401: "the token is not valid; log in again with `hf auth login`",
    403: "the token may not write there; use one with write access to that organisation",
    404: "no such organisation, repository or branch, or the token may not see it",
}


def retry(call: Callable[[], Result]) -> Result:
    """Return the result of a call, repeated after a failure that may pass."""
    for wait in WAITS:
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            log.info("the hub: %s; trying again in %g s", type(error).__name__, wait)
            time.sleep(wait)
    return call()


def is_transient(error: BaseException) -> bool:
    """Return True for a lost connection, a busy or a broken server."""
    if isinstance(error, UserError):  # final, whatever led to it
        return False
    status = status_of(error)
    return is_unreachable(error) if status is None else status == 429 or status >= 500


def is_unreachable(error: BaseException) -> bool:
    """Return True if the HTTP library, or the system below it, failed."""
    return any(
        type(cause).__module__.partition(".")[0] in TRANSPORTS
        or isinstance(cause, (ConnectionError, TimeoutError))
        for cause in _causes(error)
    )


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the hub's answer, None if there was no answer."""
    codes = (getattr(getattr(cause, "response", None), "status_code", None) for cause in _causes(error))
    return next((int(code) for code in codes if code is not None), None)


def explain(error: BaseException, repo: str, revision: str | None) -> str:
    """Describe a failure without the client's addresses and headers.

    An upload address is itself a key, and a header may carry the token.
    """
    from huggingface_hub import get_token

    status, where = status_of(error), f"push.repo={repo}" + (f" push.revision={revision}" if revision else "")
    if status in CONFLICT:
        return STALE.format(repo=repo, revision=revision or "main")
    if status is None and is_unreachable(error):
        return f"{where}: the hub cannot be reached ({type(list(_causes(error))[-1]).__name__})"
    if status is None:
        words = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    else:
        messages = (getattr(cause, "server_message", None) for cause in _causes(error))
        reason = REASONS.get(status) or next(filter(None, messages), "no reason given")
        words = f"the hub answered {status}: {reason}"
    token = get_token()
    return f"{where}: {words.replace(token, '(token)') if token else words}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what led to it."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__
