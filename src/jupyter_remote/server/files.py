"""The owner's files, as Jupyter has them; but a directory is listed in one go."""

from __future__ import annotations

import errno
import mimetypes
import os
import stat
from datetime import UTC, datetime
from typing import Any

from anyio.to_thread import run_sync
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

#: An entry that has gone meanwhile, or that we may not look at, or that leads to itself.
_NOTHING_NEW = {errno.ENOENT, errno.EACCES, errno.ELOOP}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Files(AsyncLargeFileManager):
    """The contents manager, unless the owner has configured another.

    Jupyter asks for each file of a directory as if somebody had opened it: three turns of the event loop and of a
    thread, and an event to every page. Pages ask for the list every ten seconds.
    """

    async def _dir_model(self, path: str, content: bool = True) -> dict[str, Any]:
        model: dict[str, Any] = await super()._dir_model(path, content=False)  # type: ignore[no-untyped-call]
        if content:
            directory = self._get_os_path(path)  # type: ignore[no-untyped-call]
            model["content"] = await run_sync(self._listed, directory, path.strip("/"))
            model["format"] = "json"
        return model

    def _listed(self, directory: str, path: str) -> list[dict[str, Any]]:
        found = []
        for name in os.listdir(directory):  # noqa: PTH208 - a Path for each costs more than all the rest
            try:
                model = self._entry(f"{directory}/{name}", name, f"{path}/{name}".strip("/"))
            except OSError as error:
                if error.errno not in _NOTHING_NEW:
                    self.log.warning("%s is not listed: %s", ascii(name), error.strerror)
                continue
            if model is not None:
                found.append(model)
        return found

    def _entry(self, file: str, name: str, path: str) -> dict[str, Any] | None:
        """What Jupyter says of a file without its content; None where it says nothing.

        :raises OSError: nothing can be said.
        """
        info = os.lstat(file)
        is_link, is_directory = stat.S_ISLNK(info.st_mode), stat.S_ISDIR(info.st_mode)
        if not (is_link or is_directory or stat.S_ISREG(info.st_mode)) or not self.should_list(name):  # type: ignore[no-untyped-call]
            return None
        if is_link:
            is_directory = self._leads_to_directory(file)
        if not self.allow_hidden and (
            name.startswith(".") or (is_directory and not os.access(file, os.X_OK | os.R_OK))
        ):
            return None
        kind = "directory" if is_directory else "notebook" if name.endswith(".ipynb") else "file"
        return {
            "name": name,
            "path": path,
            "last_modified": _moment(info.st_mtime),
            "created": _moment(info.st_ctime),
            "content": None,
            "format": None,
            "mimetype": mimetypes.guess_type(file)[0] if kind == "file" else None,
            "size": None if is_directory else info.st_size,
            "writable": os.access(file, os.W_OK),
            "hash": None,
            "hash_algorithm": None,
            "type": kind,
        }

    def _leads_to_directory(self, link: str) -> bool:
        try:
            return stat.S_ISDIR(os.stat(link).st_mode)  # noqa: PTH116 - as above
        except FileNotFoundError:
            return False
        except OSError:
            if self.allow_hidden:
                return False
            raise


def _moment(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        # A file can have any time.
        return _EPOCH
