"""Records how DSPy 3.4.1 reads, lays out and saves, as JSON beside this file. Run it where `dspy==3.4.1` is:

    python -m tests.dspy_actors.recorded.record

Facts only: parsed values, kinds of errors, roles, header lines, type names, the bodies of demonstrations (which are
the user's data between headers) and small saved programs. No sentence of DSPy's prompts is written down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tests.dspy_actors.recorded.kinds import CUSTOM_TYPES, Place

HERE = Path(__file__).parent


def answer(**fields: str) -> str:
    """A completion with well-formed sections."""
    return "\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in fields.items()) + "\n\n[[ ## completed ## ]]"


def typed(annotation: str, *texts: str) -> list[tuple[str, str]]:
    """One output of a type, with several texts for it."""
    return [(f"q -> a: {annotation}", answer(a=text)) for text in texts]


COMPLETIONS: list[tuple[str, str]] = [
    ("q -> a", "[[ ## a ## ]]\nParis\n\n[[ ## completed ## ]]"),
    ("q -> a", "[[ ## a ## ]] Paris"),
    ("q -> a", "[[ ## a ## ]]Paris [[ ## completed ## ]]"),
    ("q -> a", "Sure!\n\n[[ ## a ## ]]\nParis"),
    ("q -> a", "Sure! [[ ## a ## ]]\nParis"),
    ("q -> a", "[[ ## a ## ]]\n\n  two\n\n  lines  \n\n"),
    ("q -> a", "[[ ## a ## ]]\nfirst\n[[ ## a ## ]]\nsecond"),
    ("q -> a", "[[ ## a ## ]]\nParis\n[[ ## other ## ]]\nnoise"),
    ("q -> a", "[[ ## other ## ]]\nnoise\n[[ ## a ## ]]\nParis"),
    ("q -> a", "[[ ## q ## ]]\necho\n[[ ## a ## ]]\nParis"),
    ("q -> a", "[[ ## a ## ]]\nsee [[ ## b ## ]] inside"),
    ("q -> a", "[[ ## A ## ]]\nParis"),
    ("q -> a", "[[## a ##]]\nParis"),
    ("q -> a", "**[[ ## a ## ]]**\nParis"),
    ("q -> a", "[[ ## a ## ]]\r\nParis\r\nLyon\r\n"),
    ("q -> a", "[[ ## a ## ]]\n"),
    ("q -> a", ""),
    ("q -> a", "no sections at all"),
    ("q -> a", "}{"),
    ("q -> a, b", "[[ ## b ## ]]\n2\n[[ ## a ## ]]\n1"),
    ("q -> a, b", "[[ ## a ## ]]\n1"),
    ("q -> a, b: str | None", "[[ ## a ## ]]\n1"),
    ("q -> a, b: int | None", "[[ ## a ## ]]\n1"),
    ("q -> reasoning, completed", answer(reasoning="r") + "\nyes"),
    *typed("int", "42", " 42 ", "-7", "4.0", "4.5", "1,000", "about 5", "5 apples", "0x10", "", "True", "null", "007"),
    *typed("float", "3.5", "3", "1e3", ".5", "nan", "inf", "50%", "n/a"),
    *typed("bool", "True", "false", "TRUE", "yes", "No", "1", "0", "on", "maybe", ""),
    *typed("Literal['yes', 'no']", "yes", "'yes'", '"no"', "Literal['yes']", "Literal[no]", "str[yes]", "Yes", "maybe"),
    *typed("Literal['it is', \"it's\"]", "it's", '"it\'s"', "'it is'"),
    *typed("Literal[1, 2, 3]", "2", "4", "'2'", "two"),
    *typed("Literal['a', 1, True]", "a", "1", "True"),
    *typed("Colour", "red", "RED", "dark green", "GREEN", "'red'", "blue"),
    *typed(
        "list[str]", '["a", "b"]', "['a', 'b']", "[]", "a", "a, b", '["a", "b"', "- a\n- b", '"a"', "```json\n[1]\n```"
    ),
    *typed("list[int]", "[1, 2]", '["1", 2.0]', "[1, 'x']", "[1, 2,]", "(1, 2)"),
    *typed("dict[str, int]", '{"a": 1}', "{'a': 1}", "{a: 1}", '{"a": 1', '{"a": "x"}', "{}"),
    *typed("dict", '{"a": {"b": [1, null]}}', '```json\n{"a": 1}\n```', 'Here: {"a": 1}'),
    *typed("tuple[int, str]", '[1, "a"]', "(1, 'a')", "[1]"),
    *typed("set[int]", "[1, 1]"),
    *typed("Optional[int]", "3", "null", "None", "", "x"),
    *typed("Optional[str]", "3", "null", "None", '"quoted"', ""),
    *typed("Optional[Literal['a', 'b']]", "a", "'a'", '"a"', "null", "c"),
    *typed("int | str", "3", "x", "3.5", '"3"'),
    *typed("list[str] | None", '["a"]', "null", "a"),
    *typed("Any", "3", "text", '{"a": 1}', "[1"),
    *typed(
        "Place", '{"name": "Ulm"}', "{'name': 'Ulm', 'zone': 2}", '{"zone": 2}', "Ulm", '{"name": "Ulm", "more": 1}'
    ),
    *typed("list[Place]", '[{"name": "Ulm"}, {"name": "Bonn", "zone": null}]'),
    *typed("Trip", '{"places": [{"name": "Ulm"}], "paid": "yes"}', '{"places": {}}'),
    *typed("str", "'quoted'", '{"a": 1}', "None"),
]

LAYOUTS: list[dict[str, Any]] = [
    {"signature": "question -> answer", "demos": [], "inputs": {"question": "why?"}},
    {
        "signature": "context: list[str], question -> reasoning, answer: int",
        "demos": [
            {"context": ["a", "é\n"], "question": "one", "reasoning": "first", "answer": 1, "augmented": True},
            {"question": "two", "answer": 2},
            {"question": "no outputs"},
            {"answer": 3},
            {"context": [], "question": "three", "reasoning": None, "answer": 4},
            {"context": ["x"], "question": "  spaced \n", "reasoning": "two\n\nparts", "answer": 5},
        ],
        "inputs": {"context": ["p"], "question": "now"},
    },
    {
        "signature": "a, b: dict[str, Any], c: Place, d: Colour, e: bool | None"
        """ -> x: Literal['u', "v's"], y: list[Place]""",
        "demos": [
            {
                "a": ["one", "two\nlines", "«q»"],
                "b": {"k": [1, 2.5, None, "ü"]},
                "c": {"name": "Ulm"},
                "d": "red",
                "e": None,
                "x": "u",
                "y": [],
            },
            {"a": ["one"], "b": {}, "c": {"name": "Ulm"}, "d": "red", "e": True, "x": "u", "y": [{"name": "Bonn"}]},
            {"a": [], "b": {}, "c": {"name": "Ulm"}, "d": "red", "e": False, "x": "u", "y": []},
        ],
        "inputs": {"a": "text", "b": {}, "c": Place(name="Ulm"), "d": "red", "e": None},
    },
    {
        "signature": "q: Optional[str]"
        " -> n: float, ok: bool, c: Colour, m: dict[str, list[int]], t: tuple[int, ...], p: Trip",
        "demos": [],
        "inputs": {"q": "x"},
    },
    {
        "signature": "history: History, question -> answer, label: Literal['a', 'b']",
        "demos": [],
        "inputs": {
            "history": {
                "messages": [{"question": "q1", "answer": "a1", "label": "a"}, {"answer": "only", "label": "b"}]
            },
            "question": "q2",
        },
    },
]


JSON_COMPLETIONS: list[tuple[str, str]] = [
    ("q -> a", '{"a": "Paris"}'),
    ("q -> a", '  {"a": "two\\n\\nlines ", "b": 1}\n'),
    ("q -> a", '```json\n{"a": "Paris"}\n```'),
    ("q -> a", 'Sure! Here it is:\n{"a": "Paris"}\nAnything else?'),
    ("q -> a", "{'a': 'Paris'}"),
    ("q -> a", '{"a": "Paris"'),
    ("q -> a", '{"a": "Par'),
    ("q -> a", '{"a": "Paris",}'),
    ("q -> a", '{a: "Paris"}'),
    ("q -> a", '{"a": "line\nfeed"}'),
    ("q -> a", '{"a": "\\u00fc \\ud83d\\ude00 \\" \\\\ {}"}'),
    ("q -> a", '[{"a": "Paris"}]'),
    ("q -> a", '{"A": "Paris"}'),
    ("q -> a", '"Paris"'),
    ("q -> a", "no object at all"),
    ("q -> a", ""),
    ("q -> a", "{}"),
    ("q -> a", '{"a": 42}'),
    ("q -> a, b", '{"b": "2", "a": "1"}'),
    ("q -> a, b", '{"a": "1"}'),
    ("q -> a, b: str | None", '{"a": "1"}'),
    ("q -> a, b: int | None", '{"a": "1", "b": null}'),
    ("q -> a: int", '{"a": 42}'),
    ("q -> a: int", '{"a": "42"}'),
    ("q -> a: int", '{"a": " 42 "}'),
    ("q -> a: int", '{"a": 4.0}'),
    ("q -> a: int", '{"a": 4.5}'),
    ("q -> a: int", '{"a": "about 5"}'),
    ("q -> a: int", '{"a": null}'),
    ("q -> a: float", '{"a": 3}'),
    ("q -> a: float", '{"a": "1e3"}'),
    ("q -> a: bool", '{"a": true}'),
    ("q -> a: bool", '{"a": "yes"}'),
    ("q -> a: bool", '{"a": "maybe"}'),
    ("q -> a: Literal['yes', 'no']", '{"a": "yes"}'),
    ("q -> a: Literal['yes', 'no']", '{"a": "\'yes\'"}'),
    ("q -> a: Literal['yes', 'no']", '{"a": "maybe"}'),
    ("q -> a: Literal[1, 2, 3]", '{"a": 2}'),
    ("q -> a: Literal[1, 2, 3]", '{"a": "2"}'),
    ("q -> a: Colour", '{"a": "red"}'),
    ("q -> a: Colour", '{"a": "GREEN"}'),
    ("q -> a: Colour", '{"a": "blue"}'),
    ("q -> a: list[str]", '{"a": ["a", "b"]}'),
    ("q -> a: list[str]", "{\"a\": \"['a', 'b']\"}"),
    ("q -> a: list[int]", '{"a": ["1", 2.0]}'),
    ("q -> a: list[int]", '{"a": [1, "x"]}'),
    ("q -> a: dict[str, Any]", '{"a": {"b": [1, null]}}'),
    ("q -> a: Place", '{"a": {"name": "Ulm"}}'),
    ("q -> a: Place", "{\"a\": \"{'name': 'Ulm'}\"}"),
    ("q -> a: Place", '{"a": {"zone": 2}}'),
    ("q -> a: list[Place]", '{"a": [{"name": "Ulm"}, {"name": "Bonn", "zone": null}]}'),
    ("q -> a: Optional[str]", '{"a": "null"}'),
    ("q -> a: Optional[str]", '{"a": null}'),
    ("q -> a: int | str", '{"a": "3"}'),
    ("q -> a: tuple[int, str]", '{"a": [1, "a"]}'),
    ("q -> a: Any", '{"a": {"b": 1}}'),
]


FORMATS = (
    "q -> a",
    "q -> a: int, b: list[str]",
    "q -> a: Place, b: Trip",
    "q -> a: list[Trip], b: Literal['x', 'y']",
    "q -> a: Colour | None",
    "q -> a: dict[str, int]",
    "q -> a, b: dict[str, Any]",
)


def plain(value: Any) -> Any:
    """A parsed value as JSON that still tells types apart where JSON would not."""
    if isinstance(value, BaseModel):
        return {"model": type(value).__name__, **value.model_dump(mode="json")}
    if isinstance(value, Enum):
        return {"member": value.name}
    if isinstance(value, (tuple, set)):
        return {type(value).__name__: sorted(value, key=repr) if isinstance(value, set) else list(value)}
    if isinstance(value, float) and value != value:
        return {"float": "nan"}
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def layout_facts(messages: list[tuple[str, str]]) -> dict[str, Any]:
    """What of a prompt is structure: roles, headers, types, slots, bodies of whole demonstrations."""
    system = messages[0][1]
    bodies, whole = [], True
    for role, text in messages[1:-1]:
        whole = text.startswith("[[ ## ") if role == "user" else whole
        if whole and "`[[ ## " not in text:
            bodies.append(text)
    slots = re.findall(r"^\[\[ ## (\w+) ## \]\]\n(?:\{(\w+)\}( {8}# )?)?", system, re.M)
    return {
        "roles": [role for role, _ in messages],
        "types": re.findall(r"^\d+\. `(\w+)` \((.*?)\)(?=:|$)", system, re.M),
        "slots": [[name, place, bool(note)] for name, place, note in slots],
        "task": [line[8:] for line in system.split("\n") if line.startswith(" " * 8)],
        "headers": [re.findall(r"^\[\[ ## (\w+) ## \]\]", text, re.M) for _, text in messages[1:]],
        "reminded": re.findall(r"`\[\[ ## (\w+) ## \]\]`", messages[-1][1]),
        "bodies": bodies,
    }


def json_layout_facts(messages: list[tuple[str, str]]) -> dict[str, Any]:
    """As `layout_facts`, of a prompt that shows its answers as JSON objects."""
    facts = layout_facts(messages)
    found = re.search(r"^\{\n.*?^\}", messages[0][1], re.M | re.S)
    template = json.loads(found.group()) if found else {}
    slots = {name: re.match(r"\{(\w+)\}( {8}# )?", value) for name, value in template.items()}
    paragraph = messages[-1][1].rpartition("\n\n")[2]
    whole, answers = True, []
    for role, text in messages[1:-1]:
        if role == "user":
            whole = text.startswith("[[ ## ")
        elif whole:
            answers.append(text)
    return {
        **{name: facts[name] for name in ("roles", "types", "task", "headers")},
        "slots": facts["slots"],
        "keys": [[name, slot and slot.group(1), bool(slot and slot.group(2))] for name, slot in slots.items()],
        "reminded": [name for name in re.findall(r"`(\w+)`", paragraph) if name in template],
        "answers": answers,
    }


def record_parses(completions: list[tuple[str, str]], adapter: str) -> list[dict[str, Any]]:
    import dspy
    from dspy.utils.exceptions import AdapterParseError

    rows = []
    for signature, completion in completions:
        row: dict[str, Any] = {"signature": signature, "completion": completion}
        made = dspy.Signature(signature, custom_types={**CUSTOM_TYPES})
        try:
            row["values"] = plain(getattr(dspy, adapter)().parse(made, completion))
        except AdapterParseError:
            row["error"] = "AdapterParseError"
        except Exception as error:
            row["error"] = type(error).__name__
        rows.append(row)
    return rows


def record_layouts(adapter: str, facts_of: Callable[[list[tuple[str, str]]], dict[str, Any]]) -> list[dict[str, Any]]:
    import dspy

    rows = []
    for case in LAYOUTS:
        made = dspy.Signature(case["signature"], custom_types={**CUSTOM_TYPES, "History": dspy.History})
        inputs = dict(case["inputs"])
        if "history" in inputs:
            inputs["history"] = dspy.History(**inputs["history"])
        messages = getattr(dspy, adapter)().format(made, case["demos"], inputs)
        facts = facts_of([(m["role"], m["content"]) for m in messages])
        rows.append({"signature": case["signature"], "facts": facts})
    return rows


def record_states() -> None:
    import dspy

    demos = [{"question": "q1", "answer": "a1"}, {"augmented": True, "question": "q2", "answer": "a2 ü"}]
    bare = dspy.Predict("question -> answer")
    bare.demos = [dspy.Example(**demo) for demo in demos]
    bare.save(str(HERE / "dspy_bare.json"))

    class Composed(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cot = dspy.ChainOfThought("question -> answer")
            self.many = [dspy.Predict("a: list[str] -> b: int")]
            self.byname = {
                "k": dspy.Predict(dspy.Signature("text -> place: Place", "Find it.", custom_types=CUSTOM_TYPES))
            }

    composed = Composed()
    composed.cot.predict.demos = [
        dspy.Example(augmented=True, question="question 0", reasoning="r0", answer="0"),
        dspy.Example(question="question 5", answer="5"),
    ]
    composed.cot.predict.lm = dspy.LM(
        "openai/gpt-4o-mini", api_key="sk-never-written", api_base="http://x/v1", temperature=0.2, max_tokens=50
    )
    composed.byname["k"].demos = [dspy.Example(text="in Ulm", place=Place(name="Ulm"))]
    composed.save(str(HERE / "dspy_composed.json"))


def record_formats() -> list[dict[str, Any]]:
    """Which response format DSPy asks for where the provider takes schemas, and the keys of the schema."""
    import dspy
    from dspy.adapters.json_adapter import _get_structured_outputs_response_format, _has_open_ended_mapping

    rows: list[dict[str, Any]] = []
    for arrow in FORMATS:
        made = dspy.Signature(arrow, custom_types={**CUSTOM_TYPES})
        row: dict[str, Any] = {"signature": arrow, "type": "json_object"}
        if not _has_open_ended_mapping(made):
            schema = _get_structured_outputs_response_format(made).model_json_schema()
            row |= {"type": "json_schema", "required": schema["required"], "closed": closed_objects(schema)}
        rows.append(row)
    return rows


def closed_objects(schema: Any) -> list[list[str]]:
    """The required keys of every object in a schema that admits no others, sorted."""
    if isinstance(schema, list):
        return sorted(keys for part in schema for keys in closed_objects(part))
    if not isinstance(schema, dict):
        return []
    found = [keys for part in schema.values() for keys in closed_objects(part)]
    if schema.get("type") == "object" and schema.get("additionalProperties") is False:
        found.append(schema["required"])
    return sorted(found)


def main() -> None:
    record_states()
    found = {
        "parses": record_parses(COMPLETIONS, "ChatAdapter"),
        "layouts": record_layouts("ChatAdapter", layout_facts),
        "json_parses": record_parses(JSON_COMPLETIONS, "JSONAdapter"),
        "json_layouts": record_layouts("JSONAdapter", json_layout_facts),
        "json_formats": record_formats(),
    }
    for name, rows in found.items():
        (HERE / f"{name}.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
