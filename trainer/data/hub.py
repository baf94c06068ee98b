"""Files of a public dataset on the Hugging Face hub: what there is, and downloads that can be resumed.

Takes a repository; gives the size and checksum of its files, and the files. Whoever sets HF_ENDPOINT
chooses the hub. No token is sent: the data are public.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from agent.errors import MissingError, to_install
from trainer.data.manifest import sha_of

# The hub answers for so many paths at once.
PATHS_AT_ONCE = 50


@dataclass(frozen=True)
class Remote:
    """One file, as the hub describes it."""

    path: str
    size: int
    sha256: str | None
    """Of files in large-file storage; others have their git name only."""
    git_sha1: str

    def is_at(self, path: Path) -> bool:
        """Whether a local file is this one."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return sha_of(path) == self.sha256
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == self.git_sha1


class Hub:
    """A dataset at one commit, so that all files belong together even if it changes meanwhile."""

    def __init__(self, repository: str, commit: str | None = None) -> None:
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.errors import HfHubHTTPError
        except ImportError as error:
            words = f"downloading needs the package huggingface_hub: {to_install('golf')}"
            raise MissingError(words) from error
        # Its errors derive from those of the HTTP library, whichever one this version uses.
        self._network_errors: tuple[type[BaseException], ...] = (
            OSError,
            HfHubHTTPError,
            *HfHubHTTPError.__bases__,
        )
        self._api = HfApi(token=False)
        self.repository = repository
        try:
            self.commit = commit or str(self._api.dataset_info(repository).sha)
        except self._network_errors as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException) -> MissingError:
        what = str(error).strip() or type(error).__name__
        return MissingError(
            f"can't get {self.repository} from {self._api.endpoint}: {what}\n"
            "What arrived is kept. Run the same command again when the network is back."
        )

    def describe(self, paths: list[str]) -> list[Remote]:
        """Size and checksums of files; MissingError if the hub does not hold all of them."""
        from huggingface_hub.hf_api import RepoFile

        found: dict[str, Remote] = {}
        for start in range(0, len(paths), PATHS_AT_ONCE):
            try:
                answers = self._api.get_paths_info(
                    self.repository,
                    paths[start : start + PATHS_AT_ONCE],
                    revision=self.commit,
                    repo_type="dataset",
                )
            except self._network_errors as error:
                raise self._unreachable(error) from error
            for answer in answers:
                if isinstance(answer, RepoFile):
                    sha256 = answer.lfs.sha256 if answer.lfs else None
                    found[answer.path] = Remote(answer.path, answer.size, sha256, answer.blob_id)
        if absent := [path for path in paths if path not in found]:
            first = ", ".join(absent[:3])
            raise MissingError(f"{self.repository} does not hold {len(absent)} of the files, such as {first}")
        return [found[path] for path in paths]

    def download(self, remote: Remote, partial: Path) -> None:
        """The file, into `partial`, from where an earlier download stopped. Its content is not checked."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.file_download import http_get

        partial.parent.mkdir(parents=True, exist_ok=True)
        url = hf_hub_url(
            self.repository,
            remote.path,
            repo_type="dataset",
            revision=self.commit,
            endpoint=self._api.endpoint,
        )
        with partial.open("ab") as file:
            if file.tell() > remote.size:
                file.truncate(0)
            try:
                http_get(
                    get_hf_file_metadata(url, token=False).location,
                    file,
                    resume_size=file.tell(),
                    # Compressed on the way, a part of a file is not that part of it.
                    headers={"Accept-Encoding": "identity"},
                    expected_size=remote.size,
                    displayed_filename=partial.name,
                )
            except self._network_errors as error:
                raise self._unreachable(error) from error
