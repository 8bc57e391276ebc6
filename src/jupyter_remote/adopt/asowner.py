"""Run as the person whose Jupyter it is, never as root: their configuration is a program, and may do anything.

``python -m jupyter_remote.adopt.asowner config FILE…`` prints what Jupyter's configuration files say, as JSON;
``… busy FILE…`` which of the kernels with these connection files are at work.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from traitlets.config import Config

#: Seconds in which a kernel that does nothing answers.
_ANSWER = 3.0


def read(files: Iterable[Path]) -> dict[str, Any]:
    """What the files say together; the later ones win.

    Statement by statement: an old configuration imports what is not there any more (``notebook.auth``), or is in the
    words of Python 2, and most of it is lines like ``c.NotebookApp.port = 8888``.

    :returns: ``config``, of class names to traits to values; ``problems``, what could not be read, in words.
    """
    config = Config()
    problems: list[str] = []
    for file in files:
        try:
            if file.suffix == ".json":
                config.merge(Config(json.loads(file.read_text(encoding="utf-8"))))
            else:
                _execute(file, config, problems)
        except Exception as error:  # whatever somebody has written into it
            problems.append(f"{file}: {type(error).__name__}: {error}")
    return {"config": {name: _plain(config[name]) for name in config if name[:1].isupper()}, "problems": problems}


def _execute(file: Path, config: Config, problems: list[str]) -> None:
    text = file.read_text(encoding="utf-8", errors="replace")
    names: dict[str, Any] = {"c": config, "get_config": lambda: config, "__file__": str(file), "__name__": "config"}
    for statement in _statements(text, file, problems):
        try:
            exec(compile(ast.Module([statement], []), str(file), "exec"), names)
        except (Exception, SystemExit) as error:
            problems.append(f"{file}:{statement.lineno}: {type(error).__name__}: {error}")


def _statements(text: str, file: Path, problems: list[str]) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except SyntaxError as error:
        problems.append(f"{file}:{error.lineno}: {error.msg}")
    found = []
    for number, line in enumerate(text.splitlines()):
        with contextlib.suppress(SyntaxError):
            found += [ast.increment_lineno(one, number) for one in ast.parse(line).body]
    return found


def _plain(section: Config) -> dict[str, Any]:
    """What JSON can say of a class's traits."""
    said = {}
    for name, value in section.items():
        with contextlib.suppress(TypeError, ValueError):
            said[name] = json.loads(json.dumps(value))
    return said


def busy(connection_files: Iterable[str]) -> list[str]:
    """Those whose kernel does not answer at once: it is at work, or hangs."""
    from jupyter_client.blocking.client import BlockingKernelClient

    found = []
    for file in connection_files:
        client = BlockingKernelClient(connection_file=file)
        try:
            client.load_connection_file()
            client.start_channels(shell=True, iopub=False, stdin=False, hb=False, control=False)
            client.kernel_info(reply=True, timeout=_ANSWER)
        except Exception:  # whatever a file that is not ours makes of it
            found.append(file)
        finally:
            client.stop_channels()
    return found


def main(argv: list[str]) -> None:
    """Print the answer to one question."""
    # What the configuration prints, or a program that it starts, is not the answer.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        question, *words = argv
        answer.write(json.dumps(read(map(Path, words)) if question == "config" else busy(words)))


if __name__ == "__main__":
    main(sys.argv[1:])
