"""Failures of the hub: which pass by themselves, and what the others mean in words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from ...configs.errors import UserError

log = logging.getLogger(__name__)
Result = TypeVar("Result")

WAITS = (1.0, 2.0, 4.0)  # seconds before each further attempt
# Which HTTP library the hub's client uses is its own affair, and has changed twice.
TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
STALE = "push.repo={repo}: {revision} was changed by somebody else meanwhile; nothing was overwritten"
REASONS = {
    401: "the token is not valid; log in again with `hf auth login`",
    403: "the token may not write there; use one with write access to that organisation",
    404: "no such organisation, repository or branch, or the token may not see it",
}
CONFLICT = (409, 412)


def patiently(call: Callable[[], Result]) -> Result:
    """Call, and again after each failure that may pass."""
    for wait in WAITS:
        try:
            return call()
        except Exception as error:
            if not passes(error):
                raise
            log.info("the hub: %s, once more in %g s", type(error).__name__, wait)
            time.sleep(wait)
    return call()


def passes(error: BaseException) -> bool:
    """Whether it may go well in a moment: no connection, a busy or a broken server."""
    if isinstance(error, UserError):  # said already
        return False
    status = status_of(error)
    if status is not None:
        return status == 429 or status >= 500
    return _unreachable(error)


def status_of(error: BaseException) -> int | None:
    """HTTP status that the hub answered; None when it answered nothing."""
    for cause in _causes(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status is not None:
            return int(status)
    return None


def told(error: BaseException, repo: str, *, revision: str | None = None) -> str:
    """What happened, without the addresses and headers that the client's message carries.

    An address for an upload is itself a key, and a header may carry the token.
    """
    status = status_of(error)
    where = f"push.repo={repo}" + (f" push.revision={revision}" if revision else "")
    if status in CONFLICT:
        return STALE.format(repo=repo, revision=revision or "main")
    if status is not None:
        said = next(
            (m for c in _causes(error) if (m := getattr(c, "server_message", None))), "no reason given"
        )
        return f"{where}: the hub answered {status}: {REASONS.get(status, without_token(str(said)))}"
    if _unreachable(error):
        return f"{where}: the hub cannot be reached ({type(list(_causes(error))[-1]).__name__})"
    return (
        f"{where}: {type(error).__name__}: {without_token(str(error).splitlines()[0] if str(error) else '')}"
    )


def without_token(text: str) -> str:
    """The text with the token, if it has it, taken out."""
    from huggingface_hub import get_token

    token = get_token()
    return text.replace(token, "(token)") if token else text


def _unreachable(error: BaseException) -> bool:
    return any(
        type(cause).__module__.partition(".")[0] in TRANSPORTS
        or isinstance(cause, (ConnectionError, TimeoutError))
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__
