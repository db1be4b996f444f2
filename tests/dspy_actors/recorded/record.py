"""Records how DSPy 3.4.1 reads, lays out and saves, as JSON beside this file. Run it where `dspy==3.4.1` is:

    python -m tests.dspy_actors.recorded.record

Facts only: parsed values, kinds of errors, roles, header lines, type names, the bodies of demonstrations (which are
the user's data between headers) and small saved programs. No sentence of DSPy's prompts is written down.
"""

from __future__ import annotations

import json
import re
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


def record_parses() -> list[dict[str, Any]]:
    import dspy
    from dspy.utils.exceptions import AdapterParseError

    rows = []
    for signature, completion in COMPLETIONS:
        row: dict[str, Any] = {"signature": signature, "completion": completion}
        made = dspy.Signature(signature, custom_types={**CUSTOM_TYPES})
        try:
            row["values"] = plain(dspy.ChatAdapter().parse(made, completion))
        except AdapterParseError:
            row["error"] = "AdapterParseError"
        except Exception as error:
            row["error"] = type(error).__name__
        rows.append(row)
    return rows


def record_layouts() -> list[dict[str, Any]]:
    import dspy

    rows = []
    for case in LAYOUTS:
        made = dspy.Signature(case["signature"], custom_types={**CUSTOM_TYPES, "History": dspy.History})
        inputs = dict(case["inputs"])
        if "history" in inputs:
            inputs["history"] = dspy.History(**inputs["history"])
        messages = dspy.ChatAdapter().format(made, case["demos"], inputs)
        facts = layout_facts([(m["role"], m["content"]) for m in messages])
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


def main() -> None:
    record_states()
    for name, rows in (("parses", record_parses()), ("layouts", record_layouts())):
        (HERE / f"{name}.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
