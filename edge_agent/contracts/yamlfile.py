"""YAML files that people write: every problem at once, with file, line, key path and a suggestion."""

import difflib
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent

from edge_agent.contracts.errors import ConfigError

Key = tuple[str | int, ...]
"""Where a value stands in a document, e.g. `("slots", 3, "quad")`."""

_MAX_BYTES = 4 * 1024 * 1024


class Section(BaseModel):
    """Base of everything in a file that a person writes: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend in a file."""

    file: Path
    line: int | None
    key: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{where}  {self.key}  {self.text}" if self.key else f"{where}  {self.text}"


class ProblemsError(ConfigError):
    """A file, or several, with everything that is wrong in them."""

    def __init__(self, problems: Sequence[Problem], *, hint: str = "") -> None:
        self.problems = tuple(problems)
        files = ", ".join(sorted({str(problem.file) for problem in problems}))
        count = f"{len(problems)} problem{'s' * (len(problems) != 1)} in {files}"
        super().__init__("\n".join([count, *(f"  {problem}" for problem in problems)]), hint=hint)


Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document(Generic[Model]):
    """A file as it was read: the validated value, or the problems that kept it from being one."""

    path: Path
    tree: object
    value: Model | None
    problems: list[Problem] = field(default_factory=list)

    def problem(self, key: Key, text: str) -> Problem:
        """Return a problem at a place in this document."""
        return Problem(self.path, line_of(self.tree, key), dotted(key), text)

    def require(self) -> Model:
        """Return the value.

        Raises:
            ProblemsError: The file has problems; all of them.
        """
        if self.value is None or self.problems:
            raise ProblemsError(self.problems)
        return self.value


class _Composer(Composer):
    """Takes no aliases: a few lines of them stand for more values than a memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - ruamel's signature
        if self.parser.check_event(AliasEvent):
            mark = self.parser.peek_event().start_mark
            raise ComposerError(None, None, "an alias (*); write the values themselves", mark)
        return super().compose_node(parent, index)


def read(path: Path, model: type[Model]) -> Document[Model]:
    """Read and validate a YAML file; never raises for what is in it."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return _failed(path, f"expected at most {_MAX_BYTES} bytes; received {path.stat().st_size}")
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        return _failed(path, f"expected a readable file; received: {exc.strerror}")
    except UnicodeDecodeError as exc:
        return _failed(
            path, f"expected UTF-8 text; received byte {exc.object[exc.start]:#04x} at {exc.start}"
        )
    return parse(text, path, model)


def parse(text: str, path: Path, model: type[Model]) -> Document[Model]:
    """Validate YAML text as if it stood in `path`; never raises for what is in it."""
    try:
        reader = YAML(typ="rt", pure=True)
        reader.Composer = _Composer
        tree = reader.load(text)
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        return _failed(path, f"not valid YAML: {exc.problem}", line=mark.line + 1 if mark else None)
    except (YAMLError, RecursionError, ValueError) as exc:
        return _failed(
            path, f"not valid YAML: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}"
        )
    if not isinstance(tree, CommentedMap):
        return _failed(
            path, "expected keys and values; received " + ("nothing" if tree is None else "no mapping")
        )
    try:
        return Document(path, tree, model.model_validate(_plain(tree)))
    except ValidationError as exc:
        return Document(path, tree, None, list(_explain(exc, path, tree, model)))


def _failed(path: Path, text: str, *, line: int | None = None) -> Document[Any]:
    return Document(path, None, None, [Problem(path, line, "", text)])


def _plain(value: object) -> object:
    """Turn ruamel's containers into plain ones, so that pydantic sees nothing special."""
    if isinstance(value, CommentedMap):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, CommentedSeq):
        return [_plain(item) for item in value]
    return value


def dotted(key: Key) -> str:
    """Return a key path as people write it: `slots[3].quad`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def line_of(tree: object, key: Key) -> int | None:
    """Return the 1-based line of a key, or of its nearest parent that is there."""
    line: int | None = None
    for part in key:
        try:
            if isinstance(tree, CommentedMap):
                line = tree.lc.key(part)[0] + 1
            elif isinstance(tree, CommentedSeq):
                line = tree.lc.item(part)[0] + 1
            else:
                break
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            break
    return line


def _explain(error: ValidationError, path: Path, tree: object, model: type[BaseModel]) -> Iterable[Problem]:
    for item in error.errors(include_url=False):
        key = tuple(
            part for part in item["loc"] if not (isinstance(part, str) and part.startswith("function-"))
        )
        match item["type"]:
            case "extra_forbidden":
                text = "unknown key" + _suggest(str(key[-1]), _known_keys(model, key[:-1]))
            case "missing":
                text = "missing"
            case _:
                message = item["msg"].removeprefix("Value error, ")
                text = (
                    message if "eceived" in message else f"{_lower(message)}; received {item['input']!r:.80}"
                )
        yield Problem(path, line_of(tree, key), dotted(key), text)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _suggest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else f"; known here: {', '.join(known)}"


def _known_keys(model: type[BaseModel], key: Key) -> list[str]:
    """Return the field names of the section at `key`, following lists and optional sections."""
    section: type[BaseModel] = model
    for part in key:
        if isinstance(part, str) and part in section.model_fields:
            section = _section_in(section.model_fields[part].annotation) or section
    return sorted(section.model_fields)


def _section_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {list, tuple, Union, types.UnionType, Annotated}:
        return next(filter(None, map(_section_in, get_args(annotation))), None)
    return None
