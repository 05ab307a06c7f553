"""Options of the whole suite."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest
from hypothesis import settings

pytest_plugins = ["tests.servers.fixtures"]

pytest.register_assert_rewrite("tests.format_reader")

# Machines differ in speed; what takes long is seen in the suite's time, not in single examples.
settings.register_profile("everywhere", deadline=None)
settings.load_profile("everywhere")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough",
        action="store_true",
        help="also run what the continuous integration runs: more of the same",
    )
    parser.addoption("--long", action="store_true", help="also run the tests that take minutes")
    parser.addoption("--servers", action="store_true", help="also run the tests against ministack and s3rver")
    parser.addoption(
        "--rgw", action="store_true", help="also run the tests against Ceph RGW, which must be installed"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one process more than there are processors: tests wait for servers, locks and other processes."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As for whatever a script starts in the background; tests send it to themselves and to their children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "thorough: more of the same; runs only with --thorough or --long")
    config.addinivalue_line("markers", "long: takes minutes; runs only with --long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "long" in item.keywords and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with --long"))
        if "thorough" in item.keywords and not _is_thorough(config):
            item.add_marker(pytest.mark.skip(reason="more of the same: run with --thorough"))


def _is_thorough(config: pytest.Config) -> bool:
    return bool(config.getoption("--thorough") or config.getoption("--long"))


@pytest.fixture
def is_thorough(request: pytest.FixtureRequest) -> bool:
    """Whether more of the same is asked for than every day."""
    return _is_thorough(request.config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the sum of what tests counted with `record_property`."""
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                counts.update({name: 0 for name, _ in report.user_properties})
                for name, value in report.user_properties:
                    counts[name] += value if isinstance(value, int) else 0
    if counts:
        terminalreporter.write_line("counted: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()))
