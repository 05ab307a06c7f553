"""The filter of tests/data/grade.py, noting in a file outside of the store which questions it was asked.

python asked.py GRADE_PY NOTES
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys


def main() -> None:
    spec = importlib.util.spec_from_file_location("grade", sys.argv[1])
    assert spec is not None
    assert spec.loader is not None
    grade = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(grade)
    notes = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for line in sys.stdin:
        item = json.loads(line)
        os.write(notes, (json.dumps(item["question"]) + "\n").encode())
        grades = {model: grade.grade(item, model) for model in grade.MODELS}
        print(json.dumps({"question": item["question"], "output": grades}), flush=True)


if __name__ == "__main__":
    main()
