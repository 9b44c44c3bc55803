"""What labels are called: the data's own names, and the texts, synonyms and definitions that a small YAML gives them.

```yaml
modality: retinal fundus        # optional, as is ordinal
ordinal: true
labels:
  "0": no retinopathy           # name in the data: text
  "1":
    text: mild retinopathy
    synonyms: [mild DR, mild non-proliferative retinopathy]
    definition: microaneurysms only
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitask.errors import UsageError, VitaskError, did_you_mean

FILE_KEYS = ("labels", "modality", "ordinal")
LABEL_KEYS = ("text", "synonyms", "definition")


@dataclass(frozen=True)
class Label:
    """One label.

    Attributes:
        name: As the data has it, e.g. ``"0"``.
        text: As instructions and answers have it, e.g. ``"no retinopathy"``.
        synonyms: Other words for it, which count as this label in a generated answer.
        definition: What it means, for instructions with ``{definitions}``.
    """

    name: str
    text: str
    synonyms: tuple[str, ...] = ()
    definition: str = ""


@dataclass(frozen=True)
class LabelFile:
    """What a label file says: labels by name, in its order, and perhaps the modality and whether they are ordinal."""

    labels: Mapping[str, Label] = field(default_factory=dict)
    modality: str | None = None
    ordinal: bool | None = None


def read_label_file(path: str | Path) -> LabelFile:
    """Read a label file; every scalar is text, so that a label may be called ``no`` or ``1``.

    Raises:
        UsageError: There is no such file.
        VitaskError: It is no YAML, has an unknown key, or a label without text.

    Example:
        >>> read_label_file("labels.yaml").labels["0"].text
        'no retinopathy'
    """
    import yaml

    path = Path(path).expanduser()
    if not path.is_file():
        raise UsageError(f"data.label_file={path}: no such file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VitaskError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise VitaskError(f"{path}: expected 'labels:' with one 'name: text' a line below it")
    _check_keys(content, FILE_KEYS, str(path))
    ordinal = content.get("ordinal")
    if ordinal not in (None, "true", "false"):
        raise VitaskError(f"{path}: ordinal: '{ordinal}' is neither true nor false")
    labels = parse_labels(content["labels"], str(path))
    return LabelFile(labels, content.get("modality"), None if ordinal is None else ordinal == "true")


def parse_labels(entries: Mapping[str, Any], origin: str) -> dict[str, Label]:
    """Turn ``name: text`` and ``name: {text, synonyms, definition}`` into labels.

    Raises:
        VitaskError: An entry has an unknown key or the wrong form, or is empty.
    """
    labels = {}
    for name, entry in entries.items():
        where = f"{origin}: label '{name}'"
        entry = {"text": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping):
            raise VitaskError(f"{where}: expected a text, or text, synonyms and definition")
        _check_keys(entry, LABEL_KEYS, where)
        synonyms, definition = entry.get("synonyms", []), entry.get("definition", "")
        synonyms = [synonyms] if isinstance(synonyms, str) else synonyms
        text = entry.get("text", name)
        texts = [text, definition, *synonyms] if isinstance(synonyms, list | tuple) else [None]
        if not all(isinstance(each, str) for each in texts) or not text.strip():
            raise VitaskError(f"{where}: text and definition are texts, synonyms a list of texts")
        labels[name] = Label(name, text.strip(), tuple(word.strip() for word in synonyms), definition.strip())
    return labels


def name_labels(
    names: Sequence[str],
    *,
    own: Mapping[str, str] | Sequence[str] | None = None,
    file: LabelFile | None = None,
    shipped: Mapping[str, Label] | None = None,
    raw: bool = False,
    what: str = "label",
    origin: str = "",
) -> list[Label]:
    """Give every name in the data its text: ``own``, else the label file's, else the shipped one, else the name itself.

    Args:
        names: The names in the data, in canonical order.
        own: Texts of your own, by name or one a label in order.
        file: A label file; its synonyms and definitions stay when ``own`` replaces the text.
        shipped: What this package calls them.
        raw: Leave the shipped ones out.
        what: What a name is, for errors.
        origin: What has the names, for errors.

    Raises:
        UsageError: ``own`` or the file names what is not there, or ``own`` has the wrong length.

    Example:
        >>> name_labels(["0", "1"], own={"1": "mild"})
        [Label(name='0', text='0', ...), Label(name='1', text='mild', ...)]
    """
    given = {**({} if raw else shipped or {}), **(file.labels if file else {})}
    labels = [given.get(name, Label(name, name)) for name in names]
    _check_known(file.labels if file else (), names, "label_file", what)
    if own is None:
        return labels
    if isinstance(own, Mapping):
        _check_known(own, names, "label_texts", what)
        return [replace(label, text=own.get(label.name, label.text)) for label in labels]
    if isinstance(own, str) or not isinstance(own, Sequence):
        raise UsageError(f"data.label_texts={own}: give a list, one text a label, or a mapping from names to texts")
    if len(own) != len(names):
        raise UsageError(
            f"{origin} has {len(names)} labels ({list(names)}), but label_texts has {len(own)}: {list(own)}; "
            "give data.label_texts one text a label"
        )
    return [replace(label, text=text) for label, text in zip(labels, own, strict=True)]


def canonical_order(found: Sequence[str], file: LabelFile | None = None) -> list[str]:
    """Order the names that occur: as the label file, if it has them all; numbers by value; anything else by name.

    Example:
        >>> canonical_order({"10", "9"}), canonical_order({"b", "a"})
        (['9', '10'], ['a', 'b'])
    """
    distinct = set(found)
    if file and distinct <= set(file.labels):
        return [name for name in file.labels if name in distinct]
    if all(name.lstrip("-").isdecimal() for name in distinct):
        return sorted(distinct, key=lambda name: (int(name), name))
    return sorted(distinct)


def _check_known(given: Mapping[str, Any] | Sequence[str], names: Sequence[str], key: str, what: str) -> None:
    for name in given:
        if name not in names:
            raise UsageError(f"{key}: there is no {what} '{name}'.{did_you_mean(str(name), names)}")


def _check_keys(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise VitaskError(
                f"{where}: unknown key '{key}'.{did_you_mean(str(key), known)} There are {', '.join(known)}"
            )
