"""Upload of a finished folder: one repository, one commit, the token only from the environment or login."""

from __future__ import annotations

import logging
from pathlib import Path

from ..configs.errors import UserError
from ..configs.schema_publish import PushSettings
from .licence import Licence

log = logging.getLogger(__name__)


def check_push(push: PushSettings, licence: Licence | None) -> None:
    """Whether the upload could be made, before anything is written. Asks no server.

    Raises:
        UserError: with every problem found; nothing when no push is wanted.
    """
    if push.repo is None:
        return
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    problems = []
    try:
        validate_repo_id(push.repo)
        if "/" not in push.repo:
            problems.append(f"push.repo={push.repo}: not a repository id; give organisation/name")
    except HFValidationError as error:
        problems.append(f"push.repo={push.repo}: not a repository id; give organisation/name ({error})")
    if licence is None:
        problems.append(
            "the licence is unknown: neither the run nor the base model's card states it; "
            "find it out and set card.license=ID, such as apache-2.0"
        )
    if get_token() is None:
        problems.append("no token for the hub: set HF_TOKEN, or log in with `hf auth login`")
    if constants.HF_HUB_OFFLINE:
        problems.append("HF_HUB_OFFLINE is set; unset it to push")
    if problems:
        raise UserError(problems, advice="Leave out push.repo to publish into the folder only.")


def upload(folder: Path, push: PushSettings) -> str:
    """Create the repository if need be and upload the folder in one commit; returns its address.

    Raises:
        UserError: the hub refuses or cannot be reached; the local folder stays.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    assert push.repo is not None, "check_push comes first"
    api = HfApi()
    try:
        url = api.create_repo(push.repo, private=push.private, exist_ok=True, repo_type="model")
        api.upload_folder(repo_id=push.repo, folder_path=folder, commit_message="Publish with Uprank")
    except HfHubHTTPError as error:
        raise UserError(_refused(error, push.repo), advice=_again(folder, push.repo)) from error
    except (OfflineModeIsEnabled, OSError) as error:
        problem = f"push.repo={push.repo}: the hub cannot be reached ({type(error).__name__})"
        raise UserError(problem, advice=_again(folder, push.repo)) from error
    log.info("pushed to %s", url)
    return str(url)


def _refused(error: Exception, repo: str) -> str:
    """What the server said, without the address and headers that the client's message carries."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    reasons = {
        401: "the token is not valid; log in again with `hf auth login`",
        403: "the token may not write there; use one with write access to that organisation",
        404: "no such organisation, or the token may not see it",
    }
    message = getattr(error, "server_message", None) or "no reason given"
    return f"push.repo={repo}: the hub answered {status}: {reasons.get(status or 0, message)}"


def _again(folder: Path, repo: str) -> str:
    return f"The verified folder stays in {folder}; upload it later with: hf upload {repo} {folder}"
