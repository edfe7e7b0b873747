"""A server as the annotation job sees it: pictures in, tags out."""

from collections.abc import Iterator
from dataclasses import dataclass

from engine.cut import TopK
from engine.errors import ConfigError
from engine.image import ImageErrorCode
from serve.client import Client


@dataclass(frozen=True)
class Result:
    """A picture's tags and scores, best first, or its error code and reason."""

    tags: tuple[tuple[str, float], ...]
    error: tuple[str, str] | None


class ServerTagger:
    """Tags by a server; a bundle swapped in the midst of a job is an error of the job's."""

    def __init__(self, client: Client) -> None:
        """Ask the server what it is.

        Raises:
            ServerError: it cannot be reached, or refuses.
        """
        described = client.bundle()
        self._client = client
        self.bundle_id = described.id
        self.most = described.max_pictures
        # In base64 a picture is a third longer; the rest of the JSON is short.
        self._bytes = described.max_body_bytes * 3 // 4 - 10_000

    def __call__(self, pictures: list[bytes], top_k: TopK) -> Iterator[Result]:
        """Tag pictures, in their order.

        Raises:
            ServerError: the server refuses or cannot be reached.
            ConfigError: it has another bundle by now.
        """
        for group in self._groups(pictures):
            if sum(map(len, group)) > self._bytes:
                reason = f"{len(group[0])} bytes, over what this server takes ({self._bytes})"
                yield Result((), (str(ImageErrorCode.TOO_LARGE), reason))
                continue
            answer = self._client.annotate(group, top_k=top_k)
            if answer.bundle_id != self.bundle_id:
                raise ConfigError(
                    f"the server went from bundle {self.bundle_id} to {answer.bundle_id} during "
                    "the job; run it again into a new folder"
                )
            for one in answer.results:
                tags = tuple((tag.tag, tag.score) for tag in one.tags)
                problem = one.error
                yield Result(tags, None if problem is None else (problem.code, problem.reason))

    def _groups(self, pictures: list[bytes]) -> Iterator[list[bytes]]:
        """The pictures in requests that the server takes; one that is too large is alone."""
        group: list[bytes] = []
        size = 0
        for data in pictures:
            if group and size + len(data) > self._bytes:
                yield group
                group, size = [], 0
            group.append(data)
            size += len(data)
        if group:
            yield group
