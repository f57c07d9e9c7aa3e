"""The table of instance types is what the script that refreshes it makes of EC2's answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support import Check

HACK = Path(__file__).resolve().parents[1]
# What the endpoint's EC2 does not describe any more, and users still have.
RETIRED = {"p3.2xlarge", "p3.8xlarge", "p3.16xlarge"}


def rows(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.split(",")[0]: line for line in lines[1:]}


def refreshed(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(HACK / "catalogue/refresh.py"), "--keep-prices", *arguments]
    return subprocess.run(script, capture_output=True, text=True, check=True)


class Types(Check):
    def test_the_table_is_what_ec2_describes(self) -> None:
        table = rows((HACK.parent / "src/cloud/data/instance-types.csv").read_text())
        answer = refreshed()
        anew = rows(answer.stdout)
        self.assertEqual(set(table) - set(anew), RETIRED)
        for name in RETIRED:
            self.assertIn(f"{name} is left out", answer.stderr)
        self.assertEqual({name: table[name] for name in anew}, anew)

    def test_all_types_are_those_of_the_table_and_others_once_they_have_a_price(self) -> None:
        usual, everything = refreshed(), refreshed("--all")
        self.assertEqual(rows(everything.stdout), rows(usual.stdout))
        for name in ("r7i.xlarge", "m7a.large"):
            self.assertIn(f"{name} is left out: it has no price to keep", everything.stderr)
