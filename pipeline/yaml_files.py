"""YAML that a person has written: read without losing or changing anything silently.

PyYAML takes the last of two equal keys and reads ``012`` as 10, ``1:30`` as 90 and ``~`` as null. ``load_yaml`` refuses
what would be lost or is read as something else than it looks like, with the lines where it stands.

>>> load_yaml("epochs: 12")
{'epochs': 12}
>>> load_yaml("epochs: 1\\nsize: 2\\nepochs: 12")
Traceback (most recent call last):
pipeline.yaml_files.YamlError: the key 'epochs' is given twice, in lines 1 and 3: keep one
>>> load_yaml("epochs: 012")
Traceback (most recent call last):
pipeline.yaml_files.YamlError: line 1: YAML reads 012 as the number 10: write 10, or '012' in quotes for a text
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

_INT, _NULL, _BOOL, _FLOAT, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("int", "null", "bool", "float", "merge"))
_EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$")


class YamlError(ValueError):
    """Fault of a text, in one line without the file's name."""


class YamlSyntaxError(YamlError):
    """The text is no YAML at all."""


class _Loader(yaml.SafeLoader):
    """PyYAML's, without its silent choices; nodes are checked where they are composed, before merge keys move any."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            node = self.anchors.get(event.anchor)
            if node is not None and node.end_mark is None:  # still being composed
                raise YamlError(f"{_line(event)}: *{event.anchor} stands inside of &{event.anchor} itself")
        return super().compose_node(parent, index)

    def compose_scalar_node(self, anchor: str | None) -> yaml.Node:
        node = super().compose_scalar_node(anchor)
        text = node.value
        if node.style is not None:  # quoted, or a block
            return node
        if node.tag == _INT and text != str(number := self.construct_yaml_int(node)):
            raise YamlError(
                f"{_line(node)}: YAML reads {text} as the number {number}: write {number}, "
                f"or {text!r} in quotes for a text"
            )
        if node.tag == _FLOAT and ":" in text:
            raise YamlError(f"{_line(node)}: YAML reads {text} as a number to the base 60: write {text!r} in quotes")
        if node.tag == _NULL and text == "~":
            raise YamlError(f"{_line(node)}: YAML reads ~ as null: write null, or '~' in quotes for the home folder")
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.Node:
        node = super().compose_mapping_node(anchor)
        seen: dict[Any, yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError(f"{_line(key)}: a key is a name, not a list or a mapping")
            if key.tag in (_BOOL, _NULL):
                read = {_BOOL: "true or false", _NULL: "null"}[key.tag]
                raise YamlError(f"{_line(key)}: YAML reads the key {key.value!r} as {read}: write it in quotes")
            for same in _equal_forms(self, key):
                if (first := seen.setdefault(same, key)) is not key:
                    raise YamlError(_given_twice(first, key))
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace a merge key by what it stands for; explicit keys win, then the earlier of several mappings.

        That is YAML's rule. PyYAML 6.0.4 compares keys by identity, so that with names of one letter another one wins.
        """
        own = [(key, value) for key, value in node.value if key.tag != _MERGE]
        pairs = {key.value: (key, value) for key, value in own}
        for source in (value for key, value in node.value if key.tag == _MERGE):
            for mapping in source.value if isinstance(source, yaml.SequenceNode) else [source]:
                if not isinstance(mapping, yaml.MappingNode):
                    raise YamlError(f"{_line(mapping)}: the merge key << takes a mapping or a list of mappings")
                self.flatten_mapping(mapping)
                pairs = {**{key.value: (key, value) for key, value in mapping.value}, **pairs}
        node.value = list(pairs.values())


_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


class _Dumper(yaml.SafeDumper):
    """Quotes what ``_Loader`` would not read as the text that it is."""


_Dumper.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


def load_yaml(text: str | bytes) -> Any:
    """The content of a YAML text.

    Raises:
        YamlError: a key is given twice in one mapping, at any depth, or a number, a null or a key is read as something
            else than it looks like; ``YamlSyntaxError``: it is no YAML, or not UTF-8.
    """
    try:
        return yaml.load(text if isinstance(text, str) else text.decode("utf-8"), _Loader)
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # of bytes that are no text, or a date that there is not
        raise YamlSyntaxError(" ".join(str(error).split())) from None
    except RecursionError:
        raise YamlSyntaxError("lists or mappings are nested too deeply") from None


def dump_yaml(content: Any) -> str:
    """YAML that ``load_yaml`` reads as the same content; mappings keep their order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False)


def _equal_forms(loader: _Loader, key: yaml.ScalarNode) -> Iterator[Any]:
    """A key as it is written and as it is read: ``1`` equals ``"1"`` by the first and ``1.0`` by the second."""
    yield "written", key.value
    if key.tag != _MERGE:
        yield "read", loader.construct_object(key)


def _given_twice(first: yaml.Node, again: yaml.Node) -> str:
    lines = [node.start_mark.line + 1 for node in (first, again)]
    where = f"in line {lines[0]}" if lines[0] == lines[1] else f"in lines {lines[0]} and {lines[1]}"
    if again.tag == _MERGE:
        return f"the merge key << is given twice, {where}: write one, with a list such as <<: [*one, *other]"
    other = "" if first.value == again.value else f" (as {again.value!r})"
    return f"the key {first.value!r} is given twice{other}, {where}: keep one"


def _line(node: Any) -> str:
    return f"line {node.start_mark.line + 1}"
