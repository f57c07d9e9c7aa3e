"""Runs all checks of this folder and ends with "N passed, N failed". Exit status 1 on any failure, 2 when it cannot run."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import unittest
from pathlib import Path

# Longer than all deadlines of the checks together need; a hang ends with every thread's stack.
LIMIT_SECONDS = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="hack/selftest", description="Checks the endpoint, the fault proxies and the boot of a running hack/up")
    parser.add_argument("-k", metavar="PATTERN", help="only checks whose name contains PATTERN")
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    import support

    missing = support.missing()
    if missing:
        print(f'hack/selftest: {", ".join(missing)} not set: run eval "$(hack/up)" first', file=sys.stderr)
        return 2
    loader = unittest.TestLoader()
    if arguments.k:
        loader.testNamePatterns = [f"*{arguments.k}*"]
    suite = loader.discover(str(Path(__file__).parent), "check_*.py")
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    passed = result.testsRun - failed - len(result.skipped)
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 and not result.skipped else 1


if __name__ == "__main__":
    sys.exit(main())
