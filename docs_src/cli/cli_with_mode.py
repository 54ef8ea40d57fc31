"""A step in one of the modes sequential, background and parallel:

dotflow start --step docs_src.cli.cli_with_mode.simple_step --mode sequential
"""

from dotflow import action


@action
def simple_step() -> str:
    print("running")
    return "ok"


if __name__ == "__main__":
    print(__doc__)
