"""Runs `hostile.py` over questions, to be killed: STORE INPUT SIDE [MODE]."""

import os
import sys
from pathlib import Path

import keepstone
from keepstone.workflows.config import command_config
from keepstone.workflows.filters import FilterOptions
from keepstone.workflows.inputs import InputFile
from keepstone.workflows.program import run_program
from keepstone.workflows.results import Results
from keepstone.workflows.runner import RunOptions

mode = sys.argv[4] if len(sys.argv) > 4 else "slow"
command = (sys.executable, "-S", str(Path(__file__).with_name("hostile.py")), mode, sys.argv[3])
with InputFile(sys.argv[2], key="id") as file, keepstone.open(sys.argv[1]) as store:
    filters = FilterOptions(command=command, environment=os.environ, workers=2, key_field="id")
    report = run_program(
        Results(store, "set"), file, filters, command_config(command, key="id"), RunOptions()
    )
    print(report)
    sys.exit(130 if report.interrupted else 0)
