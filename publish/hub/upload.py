"""Upload a finished folder to the hub: one commit or none.

The token comes only from the environment or the login. The commit names its parent, so that the hub refuses
it if the branch changed meanwhile. Afterwards the files on the hub are compared with the folder.

Not by `HfApi.upload_folder`: with hf_xet it may make several commits, and only the first names its parent.
`create_commit` uploads in the same way, with the same retries, and makes one commit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError
from ...configs.schema_publish import PushSettings
from ..evidence import Source, refuse_links
from ..folder import files_of
from .errors import CONFLICT, STALE, explain, is_transient, retry, status_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

RECORD = "uprank.json"
MAIN = "main"
BRANCH = re.compile(r"(?![0-9a-f]{40}$)(?!.*(\.\.|//|@\{|\.lock$|[/.]$))[\w][\w./@{}+=-]*")  # no commit


def check_push(push: PushSettings, source: Source) -> None:
    """Refuse an upload that cannot succeed or must not be made, before anything is written. Asks no server.

    Raises:
        UserError: with every problem; never without push settings.
    """
    given = [f"push.revision={push.revision}"] if push.revision else []
    given += ["push.pr=true"] if push.pr else []
    if push.repo is None:
        problems = [f"{' and '.join(given)}: push.repo=organisation/name is missing"] if given else []
    else:
        problems = _repository_problems(push.repo, source)
        if len(given) == 2:
            problems.append(f"{' and '.join(given)}: a pull request goes to {MAIN}; give one of them")
        if push.revision is not None and not BRANCH.fullmatch(push.revision):
            problems.append(f"push.revision={push.revision}: allowed is the name of a branch")
    if problems:
        raise UserError(problems, advice="Leave out push.repo to publish into the folder only.")


def _repository_problems(repo: str, source: Source) -> list[str]:
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    problems = []
    if source.data_licence is None:
        names = ", ".join(source.train_names) or "no run tells which"
        problems.append(
            f"the licence of the training data is unknown ({names}): no README.md beside it states one; "
            "find it out and set card.data_license=ID, such as cc-by-4.0"
        )
    try:
        validate_repo_id(repo)
        reason = None if "/" in repo else ""
    except HFValidationError as error:
        reason = f" ({error})"
    if reason is not None:
        problems.append(f"push.repo={repo}: not a repository id; give organisation/name{reason}")
    if source.licence is None:
        problems.append(
            "the licence is unknown: neither the run nor the base model's card states it; "
            "find it out and set card.license=ID, such as apache-2.0"
        )
    if get_token() is None:
        problems.append("no token for the hub: set HF_TOKEN, or log in with `hf auth login`")
    if constants.HF_HUB_OFFLINE:
        problems.append("HF_HUB_OFFLINE is set; unset it to push")
    return problems


def push_folder(folder: Path, push: PushSettings) -> str:
    """Create or update the repository by one commit, or open a pull request; return its address.

    The commit also removes files that an earlier publication left and this one lacks; files of others stay.

    Raises:
        UserError: the folder holds a link out of it; the hub refuses, cannot be reached, or was changed
            meanwhile; the local folder stays.
    """
    from huggingface_hub import HfApi

    assert push.repo is not None, "check_push comes first"
    refuse_links(folder)
    api, repo = HfApi(), push.repo
    try:
        parent, old = retry(lambda: _prepare(api, repo, push))
        commit, url = _commit(api, folder, push, parent, old)
    except UserError:
        raise
    except Exception as error:  # classes of the client and of its HTTP library
        raise UserError(explain(error, repo, push.revision), advice=_again(folder, push)) from error
    made = f"push.repo={repo}: commit {commit[:12]}"
    try:
        wrong = retry(lambda: _differences(api, folder, repo, commit))
    except Exception as error:
        raise UserError(
            f"{made} was made, but the hub could not be asked for it", advice="Look at the repository."
        ) from error
    if wrong:
        raise UserError(
            f"{made} is not the folder: {'; '.join(wrong[:5])}",
            advice="Look whether a .gitignore of the repository leaves it out, and push again.",
        )
    if not push.pr:
        url = f"{api.endpoint}/{repo}" + (
            f"/tree/{push.revision}" if push.revision not in (None, MAIN) else ""
        )
    log.info("pushed to %s", url)
    return url


def _prepare(api: HfApi, repo: str, push: PushSettings) -> tuple[str, set[str]]:
    """Make what is missing of repository and branch.

    Returns:
        The branch's last commit, and the files that an earlier publication put there.
    """
    from huggingface_hub.errors import RevisionNotFoundError

    revision = push.revision or MAIN
    api.create_repo(repo, private=push.private, exist_ok=True, repo_type="model")
    try:
        info = api.model_info(repo, revision=revision)
    except RevisionNotFoundError:
        if revision == MAIN or revision.startswith("refs/"):
            raise
        api.create_branch(repo, branch=revision, exist_ok=True)
        info = api.model_info(repo, revision=revision)
    assert info.sha is not None, "a repository that was made has a commit"
    there = {sibling.rfilename for sibling in info.siblings or ()}
    if RECORD not in there:
        return info.sha, set()
    with TemporaryDirectory(prefix="uprank-") as place:
        path = api.hf_hub_download(repo, RECORD, revision=info.sha, local_dir=place)
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError:  # edited by hand: no file is known to be ours
            record = None
    files = record.get("files") if isinstance(record, dict) else None
    return info.sha, set(files or ()) & there


def _commit(api: HfApi, folder: Path, push: PushSettings, parent: str, old: set[str]) -> tuple[str, str]:
    """Make one commit on `parent`, or a pull request with it; return its id and the request's address."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    assert push.repo is not None, "check_push comes first"
    repo, files = push.repo, files_of(folder)
    mark = f"{RECORD} sha256:{hashlib.sha256((folder / RECORD).read_bytes()).hexdigest()}"
    title = f"Publish with Uprank ({mark[:29]})"  # by this a commit is found if its answer is lost
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files]
    operations: list[Any] = [*additions, *(CommitOperationDelete(name) for name in sorted(old - set(files)))]
    where: dict[str, Any] = {"revision": push.revision or MAIN, "create_pr": push.pr}
    # Large files first, with the client's own retries; only the commit is tried again below.
    api.preupload_lfs_files(repo, additions, **where, free_memory=False)

    def commit() -> tuple[str, str]:
        try:
            done = api.create_commit(
                repo,
                operations,
                commit_message=title,
                commit_description=mark,
                parent_commit=parent,
                **where,
            )
        except Exception as error:
            if not is_transient(error) and status_of(error) not in CONFLICT:
                raise
            if (made := _find_commit(api, push, title, parent)) is None:
                raise
            return made
        return done.oid, done.pr_url or ""

    return retry(commit)


def _find_commit(api: HfApi, push: PushSettings, title: str, parent: str) -> tuple[str, str] | None:
    """Return the commit that was made although its answer was lost, None if there is none.

    Raises:
        UserError: somebody else's commit is there instead, or the hub no longer answers.
    """
    assert push.repo is not None, "check_push comes first"
    repo, revision, url = push.repo, push.revision or MAIN, ""
    try:
        if push.pr:
            opened = retry(lambda: list(api.get_repo_discussions(repo, discussion_type="pull_request")))
            number = next((one.num for one in opened if one.title == title and one.status == "open"), None)
            if number is None:
                return None
            revision, url = f"refs/pr/{number}", f"{api.endpoint}/{repo}/discussions/{number}"
        newest = retry(lambda: api.list_repo_commits(repo, revision=revision)[0])
    except Exception as error:
        raise UserError(
            f"push.repo={repo}: the connection was lost while the commit was made",
            advice="Look at the repository: either the whole commit is there or none; push again if none.",
        ) from error
    if newest.commit_id == parent:
        return None
    if newest.title != title:
        raise UserError(STALE.format(repo=repo, revision=revision), advice="Look at the change, push again.")
    return newest.commit_id, url


def _differences(api: HfApi, folder: Path, repo: str, commit: str) -> list[str]:
    """Describe files of the folder that the commit lacks or holds in another size."""
    info = api.model_info(repo, revision=commit, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or ()}
    wrong = [f"{name} is missing" for name in files_of(folder) if name not in sizes]
    for name in files_of(folder):
        size = (folder / name).stat().st_size
        if sizes.get(name) not in (None, size):
            wrong.append(f"{name} has {sizes[name]} bytes instead of {size}")
    return wrong


def _again(folder: Path, push: PushSettings) -> str:
    command = ["hf upload", str(push.repo), str(folder), *(["--private"] if push.private else [])]
    command += ["--create-pr"] if push.pr else []
    command += [f"--revision {push.revision}"] if push.revision else []
    return (
        f"Nothing was committed. The verified folder stays in {folder}; when the cause is mended, upload it "
        f"with: {' '.join(command)}"
    )
