"""Names of a model's C: all of them begin with one prefix, so that several link into a program."""

from __future__ import annotations

import re
from collections.abc import Mapping

from graphopt.errors import ArtifactError

PREFIX = "go_model"
"""Of what a model exports, unless another is asked for."""

_NAME = re.compile(
    r'"(?:\\.|[^"\\\n])*"'  # strings stay: names of files, of modules, of kernels in reports
    r"|\bGO_MODEL(?=_|\b)|\bgo_model(?=_|\b)|\bgo_(?=\w)"
)
_KEYWORD = re.compile(
    "auto|bool|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|"
    "inline|int|long|register|restrict|return|short|signed|sizeof|static|struct|switch|typedef|"
    "union|unsigned|void|volatile|while"
)


def check_prefix(prefix: str) -> None:
    """Raises: ArtifactError for what no C name can begin with."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix) or _KEYWORD.fullmatch(prefix):
        raise ArtifactError(
            f"prefix {prefix!r} cannot begin a C name",
            hint="use letters, digits and _, a letter first: --prefix detector",
        )


def renamed(sources: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The same C with every global name under a prefix: what is exported as `PREFIX_run`, kernels
    and the runtime, which only this model calls, as `PREFIX_go_...`."""

    def name(found: re.Match[str]) -> str:
        text = found.group()
        own = {"go_model": prefix, "GO_MODEL": prefix.upper(), "go_": f"{prefix}_go_"}
        return own.get(text, text)

    return {file: _NAME.sub(name, text) for file, text in sources.items()}
