"""Grade published solutions of GSM8K questions: one JSON object a line in, one out.

A solution is right if what it says after its last "A:" is the number that the ground truth says there; commas inside
numbers do not count. The `is_correct` fields of the file are not used.

    keepstone run --results gsm8k/grades --input gsm8k_100.jsonl --key question -- python grade.py [MODEL]

With MODEL (for example 175b_verification) only that one is graded, and `correct` is its verdict.
"""

import json
import sys

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def final_answer(text):
    """Return what stands behind the last "A:", without commas; None if there is none."""
    _, mark, answer = text.rpartition("A:")
    return answer.strip().replace(",", "") if mark else None


def grade(item, model):
    """Whether the solution of `model` has the right final answer."""
    given = final_answer(item[model]["solution"])
    return given is not None and given == final_answer(item["ground_truth"])


def main():
    models = sys.argv[1:2] or MODELS
    for line in sys.stdin:
        item = json.loads(line)
        grades = {model: grade(item, model) for model in models}
        result = {"question": item["question"], "output": grades, "score": sum(grades.values()) / len(grades)}
        if len(models) == 1:
            result["output"] = final_answer(item[models[0]]["solution"])
            result["expected"] = final_answer(item["ground_truth"])
            result["correct"] = grades[models[0]]
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
