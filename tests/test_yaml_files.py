import pytest

from pipeline.yaml_files import YamlError, YamlSyntaxError, dump_yaml, load_yaml


def message_of(text):
    with pytest.raises(YamlError) as caught:
        load_yaml(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "where"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a'", "in lines 1 and 3"),
        ("a: 1\nb: 2\n'a': 1\n", "'a'", "in lines 1 and 3"),
        ("a:\n  b:\n    c: 1\n    d: 2\n    c: 1\n", "'c'", "in lines 3 and 5"),
        ("a: {b: 1,\n  c: 2,\n  b: 3}\n", "'b'", "in lines 1 and 3"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c'", "in line 1"),
        ("a: [{b: 1}, {c: 1, c: 2}]\n", "'c'", "in line 1"),
        ("presets:\n  fast:\n    seed: 1\n  best: {}\n  fast:\n    seed: 2\n", "'fast'", "in lines 2 and 5"),
        ("a: &x {b: 1, b: 2}\nc: *x\n", "'b'", "in line 1"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\n  d: 2\n", "'d'", "in lines 4 and 5"),
        ("? a\n: 1\n? a\n: 2\n", "'a'", "in lines 1 and 3"),
        ("\ufeffa: 1\na: 2\n", "'a'", "in lines 1 and 2"),
    ],
)
def test_a_key_that_is_given_twice_is_named_with_both_lines(text, key, where):
    assert message_of(text) == f"the key {key} is given twice, {where}: keep one"


@pytest.mark.parametrize(("text", "other"), [("1: a\n'1': b\n", ""), ("1: a\n1.0: b\n", " (as '1.0')")])
def test_keys_that_yaml_reads_alike_are_one_key(text, other):
    assert message_of(text) == f"the key '1' is given twice{other}, in lines 1 and 2: keep one"


def test_merge_keys_are_overridden_by_explicit_ones_in_any_depth():
    text = """
one: &one
  <<: &zero {a: 0, b: 0}
  a: 1
two: &two
  <<: *one
  b: 2
three: {<<: [*two, *zero], c: 3}
again: *two
"""
    assert load_yaml(text) == {
        "one": {"a": 1, "b": 0},
        "two": {"a": 1, "b": 2},
        "three": {"a": 1, "b": 2, "c": 3},
        "again": {"a": 1, "b": 2},
    }
    assert list(load_yaml(text)["three"]) == ["a", "b", "c"]


@pytest.mark.parametrize("key", ["k", "key"])
def test_of_merged_mappings_the_earlier_one_wins(key):
    text = f"one: &one {{{key}: 1}}\ntwo: &two {{{key}: 2}}\nthree: {{<<: [*one, *two]}}\n"
    assert load_yaml(text)["three"] == {key: 1}
    assert message_of("a: {<<: 3}\n") == "line 1: the merge key << takes a mapping or a list of mappings"


def test_two_merge_keys_in_one_mapping_are_refused():
    message = message_of("a: &x {k: 1}\nb: &y {k: 2}\nc:\n  <<: *x\n  <<: *y\n")
    assert message.startswith("the merge key << is given twice, in lines 4 and 5: ")


@pytest.mark.parametrize(
    ("text", "number"),
    [("012", 10), ("-012", -10), ("1:30", 90), ("1_000", 1000), ("0x1F", 31), ("0b11", 3), ("+5", 5), ("-0", 0)],
)
def test_a_number_that_is_read_as_another_text_is_refused_with_what_to_write(text, number):
    assert message_of(f"a:\n  b: {text}\n") == (
        f"line 2: YAML reads {text} as the number {number}: write {number}, or {text!r} in quotes for a text"
    )
    assert load_yaml(f"a: '{text}'\nb: {number}") == {"a": text, "b": number}


def test_other_surprises_are_refused():
    assert "to the base 60" in message_of("a: 1:30.5")
    assert "YAML reads ~ as null" in message_of("root: ~")
    assert message_of("a: 1\nno: 2\n") == "line 2: YAML reads the key 'no' as true or false: write it in quotes"
    assert message_of("null: 2\n") == "line 1: YAML reads the key 'null' as null: write it in quotes"
    assert message_of("[a, b]: 2\n").startswith("line 1: a key is a name")
    assert message_of("a: &a\n  b: *a\n") == "line 2: *a stands inside of &a itself"


@pytest.mark.parametrize("text", ["1e3", "1E-3", "1.5e3", ".5e1", "+2.e+1"])
def test_exponents_make_numbers_with_and_without_a_point_or_a_sign(text):
    assert load_yaml(f"a: {text}") == {"a": float(text)}


@pytest.mark.parametrize("text", ["a: [1,", b"a: \xff\xfe", "a: 2021-13-45", "a: 1\n---\nb: 1", "[" * 5000, "a: *b"])
def test_what_is_no_yaml_is_a_syntax_error(text):
    with pytest.raises(YamlSyntaxError):
        load_yaml(text)


def test_what_is_dumped_is_read_back():
    texts = [
        "1e3",
        "012",
        "1:30",
        "~",
        "no",
        "null",
        "1_0",
        "0x1",
        "2021-01-01",
        "<<",
        "=",
        "a: b",
        "#",
        "é",
        "1.5e3",
        "",
    ]
    content = {**{text: text for text in texts}, "numbers": [1, -2, 1e-5, 1e30, 0.1, 2**70], "none": None, "yes": True}
    assert load_yaml(dump_yaml(content)) == content
    assert list(load_yaml(dump_yaml({"b": 1, "a": 2}))) == ["b", "a"]
