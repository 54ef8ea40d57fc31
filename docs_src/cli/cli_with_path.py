"""A step whose value is kept in a file of a folder that you name, here .storage:

dotflow start --step docs_src.cli.cli_with_path.simple_step --path .storage --storage file
"""

from dotflow import action


@action
def simple_step() -> dict[str, float]:
    return {"coffee": 4.2, "tea": 3.1}


if __name__ == "__main__":
    print(__doc__)
