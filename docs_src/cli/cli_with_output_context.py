"""A step whose value is kept in a file, .output/<the run's workflow id>.checkpoints/0.json:

dotflow start --step docs_src.cli.cli_with_output_context.simple_step --storage file
"""

from dotflow import action


@action
def simple_step() -> dict[str, float]:
    return {"coffee": 4.2, "tea": 3.1}


if __name__ == "__main__":
    print(__doc__)
