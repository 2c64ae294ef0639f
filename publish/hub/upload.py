"""Upload of a finished folder: one commit or none, the token only from the environment or login.

What is large goes up first, by the hub's own client; nobody sees it before the commit that names it. The
commit states the state of the repository that it follows, so that a change in between is refused by the hub
and not overwritten. After it, what the hub has is compared with the folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError, collect
from ...configs.schema_publish import PushSettings
from ..evidence import Licence, Source, data_names
from ..folder import files_of
from .errors import CONFLICT, STALE, passes, patiently, status_of, told

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi


def check_push(push: PushSettings, source: Source) -> None:
    """Whether the upload could be made and may be, before anything is written. Asks no server.

    Raises:
        UserError: with every problem found; nothing when no push is wanted.
    """
    problems: list[str] = []
    if push.repo is not None and source.data_licence is None:
        names = ", ".join(data_names(source.train_paths)) or "no run tells which"
        problems.append(
            f"the licence of the training data is unknown ({names}): no README.md beside it states one; "
            "find it out and set card.data_license=ID, such as cc-by-4.0"
        )
    collect(problems, check_repository, push, source.licence)
    if problems:
        raise UserError(problems, advice="Leave out push.repo to publish into the folder only.")


log = logging.getLogger(__name__)

RECORD = "uprank.json"
MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")
BRANCH = re.compile(r"(?!.*(\.\.|//|@\{|\.lock$|[/.]$))[\w][\w./@{}+=-]*")


def check_repository(push: PushSettings, licence: Licence | None) -> None:
    """Whether the upload could be made, before anything is written. Asks no server.

    Raises:
        UserError: with every problem found; nothing when no push is wanted.
    """
    problems = _combinations(push)
    if push.repo is None:
        if problems:
            raise UserError(problems)
        return
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

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


def push_folder(folder: Path, push: PushSettings) -> str:
    """Create or update the repository by one commit, or open a pull request; returns its address.

    Files of an earlier publication that this one has not are removed by the same commit, files of others
    stay. What fails in passing (no connection, 5xx) is tried again; the commit only where the hub says that
    it was not made.

    Raises:
        UserError: the hub refuses, cannot be reached, or was changed meanwhile; the local folder stays.
    """
    from huggingface_hub import HfApi

    assert push.repo is not None, "check_repository comes first"
    api, repo = HfApi(), push.repo
    try:
        patiently(lambda: api.create_repo(repo, private=push.private, exist_ok=True, repo_type="model"))
        revision = push.revision or MAIN
        parent = _head(api, push.repo, revision)
        done = _commit(api, folder, push, parent)
    except UserError:
        raise
    except Exception as error:  # classes of the client and of whatever it sends HTTP with
        raise UserError(
            told(error, push.repo, revision=push.revision), advice=_again(folder, push)
        ) from error
    try:
        wrong = _differences(api, folder, push.repo, done.oid)
    except Exception as error:
        problem = (
            f"push.repo={push.repo}: commit {done.oid[:12]} was made, but the hub could not be asked for it"
        )
        raise UserError(problem, advice="Look at the repository.") from error
    if wrong:
        raise UserError(
            f"push.repo={push.repo}: commit {done.oid[:12]} is not the folder: {'; '.join(wrong[:5])}",
            advice="Look whether a .gitignore of the repository leaves it out, and push again.",
        )
    address = f"{api.endpoint}/{push.repo}"
    url = done.pr_url if push.pr else address + (f"/tree/{revision}" if revision != MAIN else "")
    log.info("pushed to %s", url)
    return str(url)


def _combinations(push: PushSettings) -> list[str]:
    problems = []
    if push.repo is None:
        given = [f"push.revision={push.revision}"] if push.revision else []
        given += ["push.pr=true"] if push.pr else []
        return [f"{' and '.join(given)}: push.repo=organisation/name is missing"] if given else []
    if push.revision is not None and push.pr:
        problems.append(
            f"push.revision={push.revision} and push.pr=true: a pull request goes to {MAIN}; give one of them"
        )
    if push.revision is not None and (COMMIT.fullmatch(push.revision) or not BRANCH.fullmatch(push.revision)):
        problems.append(f"push.revision={push.revision}: allowed is the name of a branch")
    return problems


def _head(api: HfApi, repo: str, revision: str) -> str:
    """The commit that a branch ends in; a branch that is not there is made of the main one."""
    from huggingface_hub.errors import RevisionNotFoundError

    def find() -> str:
        sha = api.model_info(repo, revision=revision).sha
        assert sha is not None, "a repository that was made has a commit"
        return sha

    try:
        return patiently(find)
    except RevisionNotFoundError:
        if revision == MAIN or revision.startswith("refs/"):
            raise
    patiently(lambda: api.create_branch(repo, branch=revision, exist_ok=True))
    return patiently(find)


def _commit(api: HfApi, folder: Path, push: PushSettings, parent: str) -> CommitInfo:
    """One commit behind `parent`, or a pull request with it."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    assert push.repo is not None, "check_repository comes first"
    repo, revision = push.repo, push.revision or MAIN
    files = files_of(folder)
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files]
    old = _published_before(api, repo, parent)
    operations: list[Any] = [*additions, *(CommitOperationDelete(name) for name in sorted(old - set(files)))]
    # Large files first; this part tries again by itself, and what is up need not go up anew.
    api.preupload_lfs_files(repo, additions, revision=revision, create_pr=push.pr, free_memory=False)
    record = (folder / RECORD).read_bytes()
    mark = f"{RECORD} sha256:{hashlib.sha256(record).hexdigest()}"
    title = f"Publish with Uprank ({mark[:29]})"  # of one folder, so that a lost answer can be found again

    def commit() -> CommitInfo:
        try:
            return api.create_commit(
                repo,
                operations,
                commit_message=title,
                commit_description=mark,
                revision=revision,
                create_pr=push.pr,
                parent_commit=parent,
            )
        except Exception as error:
            if not passes(error) and status_of(error) not in CONFLICT:
                raise
            done = _find(api, push, title, parent)
            if done is None:
                raise
            return done

    return patiently(commit)


def _published_before(api: HfApi, repo: str, commit: str) -> set[str]:
    """Files that the last publication put there, and which are still there."""
    there = set(patiently(lambda: api.list_repo_files(repo, revision=commit)))
    if RECORD not in there:
        return set()
    with TemporaryDirectory(prefix="uprank-") as place:
        path = patiently(lambda: api.hf_hub_download(repo, RECORD, revision=commit, local_dir=place))
        try:
            stated: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError:  # edited by hand: then nothing is known to be ours
            return set()
    files = stated.get("files") if isinstance(stated, dict) else None
    return set(files or ()) & there


def _find(api: HfApi, push: PushSettings, title: str, parent: str) -> CommitInfo | None:
    """The commit that was made although its answer was lost; None if there is none.

    Raises:
        UserError: somebody else's commit is there instead; or the hub does not say any more.
    """
    try:
        return patiently(lambda: _made(api, push, title, parent))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"push.repo={push.repo}: the connection was lost while the commit was made",
            advice="Look at the repository: either the whole commit is there or none; push again if none.",
        ) from error


def _made(api: HfApi, push: PushSettings, title: str, parent: str) -> CommitInfo | None:
    from huggingface_hub import CommitInfo

    assert push.repo is not None, "check_repository comes first"
    repo, revision = push.repo, push.revision or MAIN
    number = None
    if push.pr:
        opened = api.get_repo_discussions(repo, discussion_type="pull_request", discussion_status="open")
        number = next((found.num for found in opened if found.title == title), None)
        if number is None:
            return None
        revision = f"refs/pr/{number}"
    newest = api.list_repo_commits(repo, revision=revision)[0]
    if newest.commit_id == parent:
        return None
    if newest.title != title:
        raise UserError(STALE.format(repo=repo, revision=revision), advice="Look at the change, push again.")
    url = f"{api.endpoint}/{repo}"
    return CommitInfo(
        commit_url=f"{url}/commit/{newest.commit_id}",
        commit_message=title,
        commit_description="",
        oid=newest.commit_id,
        pr_url=f"{url}/discussions/{number}" if number else None,
    )


def _differences(api: HfApi, folder: Path, repo: str, commit: str) -> list[str]:
    """Files of the folder that the commit has not, or has otherwise."""
    info = patiently(lambda: api.model_info(repo, revision=commit, files_metadata=True))
    found = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    wrong = [f"{name} is missing" for name in files_of(folder) if name not in found]
    for name in files_of(folder):
        size = (folder / name).stat().st_size
        if name in found and found[name].size not in (None, size):
            wrong.append(f"{name} has {found[name].size} bytes instead of {size}")
    return wrong


def _again(folder: Path, push: PushSettings) -> str:
    asked = [*(["--private"] if push.private else []), *(["--create-pr"] if push.pr else [])]
    asked += [f"--revision {push.revision}"] if push.revision else []
    return (
        f"Nothing was committed. The verified folder stays in {folder}; when the cause is mended, upload it "
        f"with: {' '.join(['hf upload', str(push.repo), str(folder), *asked])}"
    )
