"""What the demo works on: questions that are made up, and a program that answers them.

Layer: cli. The program stands in for a model: it takes some milliseconds, makes mistakes that depend on its
prompt, and always answers the same question alike.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Final

QUESTIONS: Final = 400
LOG: Final = "asked.log"

_PEOPLE: Final = ("Ada", "Ben", "Chen", "Dara", "Eli", "Fay", "Gus", "Hana", "Ivo", "Jun")
_THINGS: Final = ("apples", "books", "coins", "marbles", "pens", "shells", "stamps", "tickets")

FIRST_PROMPT: Final = "Answer with a number.\n"
SECOND_PROMPT: Final = "Work it out step by step, then answer with a number.\n"

PROGRAM: Final = '''\
"""Answers questions, one JSON object a line: in with the question, out with the answer."""
import hashlib, json, pathlib, re, sys, time

prompt = pathlib.Path(sys.argv[1]).read_text()
skill = 0.84 if "step by step" in prompt else 0.70
log = open(pathlib.Path(__file__).with_name("asked.log"), "a", buffering=1)


def luck(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


for line in sys.stdin:
    question = json.loads(line)["question"]
    log.write(question + "\\n")  # its own log, so that anybody can count what it was asked
    time.sleep(0.005)  # a real model takes longer
    a, b, c = map(int, re.findall(r"\\d+", question))
    answer = a * b - c
    if 0.7 * luck(question) + 0.3 * luck(prompt + question) > skill:
        answer += 1 + a % 3  # a mistake
    print(json.dumps({"output": answer}), flush=True)
'''


def write_files(folder: Path) -> None:
    """Write questions.jsonl, answer.py and prompt.txt into `folder`; the same ones every time."""
    dice = random.Random(400)
    lines: dict[str, int] = {}
    while len(lines) < QUESTIONS:
        a, b = dice.randint(3, 30), dice.randint(3, 30)
        c = dice.randint(1, a * b - 1)
        person, thing = dice.choice(_PEOPLE), dice.choice(_THINGS)
        text = f"{person} has {a} boxes of {b} {thing} and gives {c} away. How many {thing} are left?"
        lines[text] = a * b - c
    rows = (json.dumps({"question": text, "answer": answer}) + "\n" for text, answer in lines.items())
    (folder / "questions.jsonl").write_text("".join(rows))
    (folder / "answer.py").write_text(PROGRAM)
    (folder / "prompt.txt").write_text(FIRST_PROMPT)


def asked(folder: Path) -> list[str]:
    """Return the questions that the program has been asked so far, by its own log."""
    log = folder / LOG
    return log.read_text().splitlines() if log.exists() else []
