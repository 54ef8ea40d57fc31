"""Settings for type checkers: values of `params`. mypy and Pyright read this file."""

from typing import Any, assert_type

from dotflow import DotFlow, Setting

workflow = DotFlow(workflow_id="nightly", params={"day": ..., "budget": Setting(50), "level": Setting(...)})
assert_type(Setting(50).default, Any)

Setting()  # type: ignore[call-arg]
