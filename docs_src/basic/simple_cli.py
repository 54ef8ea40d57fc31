"""A step to run from the command line:

dotflow start --step docs_src.basic.simple_cli.simple_step
"""

from dotflow import action


@action
def simple_step() -> str:
    print("3 orders were read")
    return "ok"


if __name__ == "__main__":
    print(__doc__)
